import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_hub import FakeHub

from motley_worker.errors import SourceNotFound
from motley_worker.inspect import reduced, report


def inspect(tmp_path: Path, config: str) -> tuple[int, str]:
    log = tmp_path / "termination-log"
    environ = {"MOTLEY_WORKER_CONFIG": config, "MOTLEY_TERMINATION_LOG": str(log), "MOTLEY_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "motley_worker.inspect"], env={**os.environ, **environ}, capture_output=True, timeout=60
    )
    return done.returncode, log.read_text()


def test_the_job_hands_over_the_dimensions(tmp_path: Path, hub: FakeHub, worker_config: Callable[..., str]) -> None:
    config = {"model_type": "llama", "hidden_size": 128, "rope_scaling": {"factor": 8}, "torch_dtype": "bfloat16"}
    hub.repositories["org/tiny"] = {"config.json": json.dumps(config).encode()}
    code, text = inspect(tmp_path, worker_config(source="hf://org/tiny"))
    assert code == 0
    assert json.loads(text) == {"config": {"model_type": "llama", "hidden_size": 128}}


def test_the_job_says_why_it_failed(tmp_path: Path, worker_config: Callable[..., str]) -> None:
    code, text = inspect(tmp_path, worker_config(source="file:///nowhere"))
    assert (code, text) == (65, "SourceNotFound: file:///nowhere: /nowhere: No such file or directory")


def test_a_multimodal_models_text_part_is_kept() -> None:
    config = {"model_type": "x", "vision_config": {"a": 1}, "text_config": {"hidden_size": 8, "b": 2}}
    assert reduced(config) == {"model_type": "x", "text_config": {"hidden_size": 8}}


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"architectures": ["x" * 5000]})])
def test_an_odd_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(SourceNotFound, match=r"hf://a/b: config\.json"):
        report(tmp_path / "config.json", "hf://a/b")
