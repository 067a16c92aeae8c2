"""What the manifests put into a pod's environment is what the worker reads there."""

import json
from pathlib import Path
from typing import Any

import fleets
import pytest
from fleets import CPU, allocation, model, models_of, plan, pool, pools_of
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_operator.api.model import Source
from motley_operator.api.plan import EngineSettings
from motley_operator.formulation import formulated
from motley_operator.manifests import groups_of, inspection_job
from motley_operator.manifests.engine import HEALTH_PORT, HTTP_PORT, PRESTOP_SECONDS
from motley_operator.settings import Settings
from motley_worker.arguments import vllm_arguments
from motley_worker.config import CONFIG_VARIABLE, Pod, WorkerConfig

SOURCES = ["hf://org/name", "s3://bucket/prefix", "pvc://claim/sub/dir", "file:///models/chat"]


def containers(raw: dict[str, Any], device: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Of an engine and of an inspection."""
    (chat,), pools = models_of(raw).values(), pools_of(pool("l4", device or {}))
    (group,) = groups_of(plan(1, allocation(chat.key)), {chat.key: chat}, pools, Settings(drain_seconds=60))
    job = inspection_job(chat, list(pools.values()), Settings())
    pods = group.template["spec"], job["spec"]["template"]["spec"]
    return [container for one in pods for container in one["containers"]]


def read_by_the_worker(container: dict[str, Any]) -> WorkerConfig:
    return WorkerConfig.from_env({one["name"]: one.get("value", "") for one in container["env"]})


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("quantization", [None, "fp8", "awq", "gptq"])
@pytest.mark.parametrize("device", [{}, CPU])
def test_the_worker_reads_what_the_operator_writes(source: str, quantization: str | None, device: Any) -> None:
    raw = model(
        "chat",
        {
            "source": {"uri": source, "revision": "v1"},
            "quantization": quantization,
            "kvDtype": "fp8",
            "dtype": "float16",
            "servedName": "Org/Chat-8B",
            "engine": {"args": ["--seed=1", "-x", "$(HOME)", 'a "b" ü']},
        },
    )
    engine, inspection = map(read_by_the_worker, containers(raw, device))
    assert (engine.model, engine.served_name, engine.source) == ("team/chat", "Org/Chat-8B", source)
    assert (engine.revision, engine.dtype, engine.quantization, engine.kv_dtype) == (
        "v1",
        "float16",
        quantization,
        "fp8",
    )
    assert (engine.max_model_len, engine.max_num_batched_tokens, engine.max_num_seqs) == (8192, 2048, 64)
    assert (engine.device, engine.drain_seconds, engine.tensor_parallel) == (device.get("device", "gpu"), 60, 1)
    assert engine.extra_args == ("--seed=1", "-x", "$(HOME)", 'a "b" ü')
    assert (inspection.source, inspection.revision) == (source, "v1")
    assert vllm_arguments(engine, Path("/cache/x"))


def test_the_variable_is_the_one_that_the_worker_looks_for() -> None:
    for container in containers(model()):
        assert CONFIG_VARIABLE in {one["name"] for one in container["env"]}


def test_both_sides_mean_the_same_fields() -> None:
    (engine, _) = containers(model())
    text = next(one["value"] for one in engine["env"] if one["name"] == CONFIG_VARIABLE)
    known = {field.alias for field in WorkerConfig.model_fields.values()}
    assert json.loads(text).keys() == known


def test_ports_and_folders_are_where_the_worker_expects_them() -> None:
    (engine, _), pod = containers(model("chat", {"source": {"uri": "pvc://claim/x"}})), Pod()
    assert (HTTP_PORT, HEALTH_PORT) == (pod.engine_port, pod.health_port)
    paths = {mount["mountPath"] for mount in engine["volumeMounts"]}
    assert {str(pod.cache), str(pod.claims)} <= paths
    assert {one["containerPort"] for one in engine["ports"]} == {pod.engine_port, pod.health_port}


def test_the_grace_period_covers_draining_and_settling() -> None:
    (chat,) = models_of(model()).values()
    (group,) = groups_of(plan(1, allocation()), {chat.key: chat}, pools_of(pool()), Settings(drain_seconds=60))
    grace = group.template["spec"]["terminationGracePeriodSeconds"]
    assert grace > 60 + PRESTOP_SECONDS + Pod().settle_seconds


_MODELS = st.fixed_dictionaries(
    {
        "source": st.sampled_from([{"uri": uri} for uri in SOURCES]),
        "dtype": st.sampled_from(["bfloat16", "float16", "float32"]),
        "kvDtype": st.sampled_from(["auto", "fp8"]),
        "servedName": st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,40}", fullmatch=True),
        "engine": st.fixed_dictionaries({"args": st.lists(st.text(max_size=20), max_size=4)}),
    }
)
_ENGINES = st.builds(
    lambda seqs, more, length: EngineSettings(
        max_num_batched_tokens=seqs + more, max_num_seqs=seqs, max_model_len=length
    ),
    st.integers(1, 1024),
    st.integers(0, 100_000),
    st.integers(1, 10_000_000),
)


@settings(max_examples=80, deadline=None)
@given(_MODELS, _ENGINES, st.sampled_from([1, 2, 4, 8]))
def test_whatever_the_schema_lets_through_the_worker_can_read(
    spec: dict[str, Any], engine: EngineSettings, degree: int
) -> None:
    (chat,) = models_of(model("chat", spec)).values()
    made = plan(1, allocation(engine=engine, tensor_parallel=degree))
    (group,) = groups_of(made, {chat.key: chat}, pools_of(pool()), Settings())
    config = read_by_the_worker(group.template["spec"]["containers"][0])
    assert config.max_num_seqs == engine.max_num_seqs and config.tensor_parallel == degree


@settings(max_examples=40, deadline=None)
@given(
    st.integers(16, 200_000),
    st.sampled_from(["100ms", "1s", "60s"]),
    st.sampled_from(["5ms", "30ms", "1s"]),
    st.sampled_from(["L4", "H100", "CPU"]),
)
def test_what_the_planner_chooses_the_worker_accepts(context: int, ttft: str, tpot: str, gpu: str) -> None:
    """vLLM wants a token of the batch for every sequence."""
    sizes = [{"inputTokens": max(1, context // 2), "outputTokens": max(1, context // 4)}]
    raw = model("chat", {"contextLength": context, "slo": {"ttft": ttft, "tpot": tpot}, "traffic": {"sizes": sizes}})
    device = CPU if gpu == "CPU" else {"gpu": gpu}
    for one in formulated(fleets.view_of(pool("p", device), raw)).problem.models[0].configurations:
        if not any(capacity.rate or capacity.best_effort for capacity in one.capacities):
            continue  # it cannot serve and is never chosen
        chosen = one.settings
        assert chosen.max_num_batched_tokens >= chosen.max_num_seqs >= 1 and chosen.max_model_len >= 1


def test_the_source_has_one_pattern_on_both_sides() -> None:
    for uri in [*SOURCES, "https://x", "hf://", "hf://a b", "hf:///x", "file://../etc", "hf://a\n"]:
        verdicts = []
        for check in (
            lambda uri=uri: Source(uri=uri),
            lambda uri=uri: WorkerConfig(
                model="a/b", servedName="b", source=uri, maxModelLen=1, maxNumBatchedTokens=1, maxNumSeqs=1
            ),
        ):
            try:
                check()
                verdicts.append(True)
            except ValueError:
                verdicts.append(False)
        assert verdicts[0] == verdicts[1], uri
