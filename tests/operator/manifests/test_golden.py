"""Whole manifests, held equal to files that a person can read. After a change that is meant:
`GOLDEN=write .venv/bin/python -m pytest tests/operator/manifests`, and read the difference."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleets import A100, CPU, Json, allocation, model, models_of, plan, pool, pools_of

from motley_operator.api import Plan
from motley_operator.api.plan import EngineSettings, PlannedAssignment, PlannedBucket, Share
from motley_operator.manifests import (
    Group,
    deployment,
    groups_of,
    inspection_job,
    model_objects,
    routing_table,
    service,
)
from motley_operator.settings import Settings

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = Settings(engine_image="registry.example.com/motley-worker:1.0", scrape_namespaces=("monitoring",))
CHAT = model(
    "chat",
    {
        "source": {"uri": "hf://example/chat-8b", "revision": "main", "secretName": "hub"},
        "cache": {"persistentVolumeClaim": "weights"},
        "quantization": "fp8",
        "servedName": "Org/Chat-8B",
        "slo": {"ttftPerThousandInputTokens": "250ms"},
        "engine": {
            "args": ["--enable-prefix-caching"],
            "env": [{"name": "LEVEL", "value": "info"}, {"name": "KEY", "secretKey": {"name": "keys", "key": "a"}}],
        },
        "imagePullSecrets": ["registry"],
    },
    uid="0b1f",
)
TINY = model("tiny", {"source": {"uri": "file:///models/tiny"}}, uid="0b2f")
POOLS = pools_of(pool("a100", A100), pool("cpu", CPU))
ENGINE = EngineSettings(max_num_batched_tokens=4096, max_num_seqs=128, max_model_len=8192)
PLAN: Plan = plan(
    1,
    allocation("team/chat", "a100", 2, gpu="A100", tensor_parallel=2, engine=ENGINE),
    allocation("team/chat", "a100", 1, gpu="A100", engine=ENGINE),
    allocation("team/tiny", "cpu", 1, gpu="CPU"),
    assignment=(
        PlannedAssignment(
            model="team/chat",
            buckets=(
                PlannedBucket(
                    input_tokens=500,
                    output_tokens=200,
                    rate=3,
                    shares=(
                        Share(pool="a100", tensor_parallel=1, share=0.25),
                        Share(pool="a100", tensor_parallel=2, share=0.75),
                    ),
                ),
                PlannedBucket(input_tokens=4000, output_tokens=200, rate=1),  # left out by the plan
            ),
        ),
    ),
)
MODELS = models_of(CHAT, TINY)


def groups(name: str) -> list[Group]:
    return [one for one in groups_of(PLAN, MODELS, POOLS, SETTINGS) if one.model.metadata.name == name]


def policy_and_budget() -> tuple[Json, ...]:
    return model_objects(MODELS["team/chat"], SETTINGS)


MANIFESTS: dict[str, Callable[[], Any]] = {
    "deployment-gpu-tp2": lambda: deployment(groups("chat")[0], 2),
    "deployment-cpu": lambda: deployment(groups("tiny")[0], 1),
    "service": lambda: service(groups("chat")[0]),
    "inspection-job": lambda: inspection_job(MODELS["team/chat"], list(POOLS.values()), SETTINGS),
    "routing-table": lambda: routing_table(MODELS["team/chat"], groups("chat"), ["chat-old"], PLAN),
    "network-policy": lambda: policy_and_budget()[0],
    "pod-disruption-budget": lambda: policy_and_budget()[1],
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_what_its_golden_file_says(name: str) -> None:
    path, made = GOLDEN / f"{name}.yaml", MANIFESTS[name]()
    if os.environ.get("GOLDEN") == "write":
        path.write_text(yaml.safe_dump(made, sort_keys=False, width=120, allow_unicode=True))
    assert made == yaml.safe_load(path.read_text())


def test_every_golden_file_has_its_manifest() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == MANIFESTS.keys()


@pytest.mark.parametrize("name", MANIFESTS)
def test_equal_inputs_make_equal_manifests_byte_by_byte(name: str) -> None:
    one, other = (yaml.safe_dump(MANIFESTS[name](), sort_keys=False) for _ in range(2))
    assert one == other
