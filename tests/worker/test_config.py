import json
from collections.abc import Callable
from pathlib import Path

import pytest

from motley_worker.config import Pod, WorkerConfig
from motley_worker.errors import BadConfig

Config = Callable[..., str]


def read(text: str) -> WorkerConfig:
    return WorkerConfig.from_env({"MOTLEY_WORKER_CONFIG": text})


def test_the_manifests_json_becomes_a_frozen_config(worker_config: Config) -> None:
    config = read(worker_config(revision=None, quantization=None, kvDtype="fp8", extraArgs=["--a", "b"]))
    assert (config.served_name, config.kv_dtype, config.extra_args) == ("tiny", "fp8", ("--a", "b"))
    with pytest.raises(ValueError, match="frozen"):
        config.max_num_seqs = 9


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"maxModelLength": 5}, "maxModelLength"),
        ({"max_model_len": 5}, "max_model_len"),
        ({"maxModelLen": 0}, "maxModelLen"),
        ({"maxModelLen": "1024"}, "maxModelLen"),
        ({"tensorParallel": True}, "tensorParallel"),
        ({"dtype": "fp64"}, "dtype"),
        ({"quantization": "int3"}, "quantization"),
        ({"source": "http://example.org/model"}, "source"),
        ({"source": "hf://org/name;rm -rf"}, "source"),
        ({"servedName": ""}, "servedName"),
        ({"extraArgs": "--foo"}, "extraArgs"),
        ({"drainSeconds": -1}, "drainSeconds"),
        ({"maxNumBatchedTokens": 4}, r"maxNumBatchedTokens \(4\) is below maxNumSeqs \(8\)"),
    ],
)
def test_a_bad_field_is_refused_by_name(worker_config: Config, changes: dict[str, object], names: str) -> None:
    with pytest.raises(BadConfig, match=f"MOTLEY_WORKER_CONFIG: .*{names}"):
        read(worker_config(**changes))


def test_a_missing_field_is_named(worker_config: Config) -> None:
    short = {name: value for name, value in json.loads(worker_config()).items() if name != "maxNumSeqs"}
    with pytest.raises(BadConfig, match="maxNumSeqs: Field required"):
        read(json.dumps(short))


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="MOTLEY_WORKER_CONFIG"):
        read(text)


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(BadConfig, match="MOTLEY_WORKER_CONFIG is not set"):
        WorkerConfig.from_env({})


def test_paths_and_ports_are_those_of_the_manifests_unless_moved() -> None:
    assert Pod.from_env({}) == Pod()
    moved = Pod.from_env({"MOTLEY_CACHE_DIR": "/elsewhere", "MOTLEY_ENGINE_PORT": "9000"})
    assert (moved.cache, moved.engine_port, moved.health_port) == (Path("/elsewhere"), 9000, 8080)
    with pytest.raises(BadConfig, match="MOTLEY_HEALTH_PORT"):
        Pod.from_env({"MOTLEY_HEALTH_PORT": "http"})
