"""Pools of fake nodes and Models for them, small and cheap. There every pod becomes ready and nothing serves."""

from collections.abc import Mapping, Sequence
from typing import Any

from e2e.cluster import fake_nodes

Json = dict[str, Any]

VERSION = "motley.dev/v1alpha1"
SHAPE = {
    "layers": 32,
    "hiddenSize": 4096,
    "attentionHeads": 32,
    "kvHeads": 8,
    "headDim": 128,
    "intermediateSize": 14336,
    "vocabSize": 128256,
}
"""Of a model of 8 billion parameters: on one A100, with room."""
NODE = {"cpu": "48", "memory": "256Gi"}


def pool(name: str, *, gpu: str = "A100-80GB", gpus: int = 1, nodes: int = 4, price: str = "0.01") -> Json:
    spec = {
        "gpu": gpu,
        "node": {"gpus": gpus, **NODE},
        "pricePerNodeHour": price,
        "maxNodes": nodes,
        "nodeSelector": {"motley.dev/pool": name},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    return {"apiVersion": VERSION, "kind": "GPUPool", "metadata": {"name": name}, "spec": spec}


def nodes_of(pool: Mapping[str, Any]) -> list[Json]:
    name, spec = pool["metadata"]["name"], pool["spec"]
    size = {"gpus": spec["node"]["gpus"], **NODE}
    return fake_nodes(name, spec["maxNodes"], labels=spec["nodeSelector"], **size)


def model(name: str, namespace: str, pools: Sequence[str], replicas: int = 1, **spec: Any) -> Json:
    """At least `replicas` replicas; `spec` replaces whole parts. TP 1, unless `placement` says otherwise."""
    plain = {
        "source": {"uri": "hf://example/chat-8b"},
        "shape": SHAPE,
        "contextLength": 4096,
        "servedName": f"{namespace}-{name}",
        "slo": {"ttft": "2s", "tpot": "200ms", "attainment": "0.9"},
        "traffic": {"rate": "0.1", "sizes": [{"inputTokens": 500, "outputTokens": 100}]},
        "placement": {"pools": list(pools), "tensorParallel": [1]},
        "scaling": {"minReplicas": replicas},
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": VERSION, "kind": "Model", "metadata": metadata, "spec": plain | spec}
