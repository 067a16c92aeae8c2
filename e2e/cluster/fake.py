"""Fake GPU nodes, which kwok keeps Ready: the scheduler places pods on them, nothing runs there."""

from collections.abc import Mapping
from typing import Any

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def fake_nodes(
    prefix: str,
    count: int,
    *,
    labels: Mapping[str, str],
    gpus: int = 1,
    cpu: str = "32",
    memory: str = "128Gi",
    pods: str = "110",
    tainted: bool = True,
) -> list[dict[str, Any]]:
    """Manifests of nodes PREFIX-0, PREFIX-1… that kwok manages; tainted as GPU nodes of the clouds are,
    so that pods which must really run stay away from them."""
    resources = {"cpu": cpu, "memory": memory, "pods": pods, "ephemeral-storage": "500Gi"}
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"{prefix}-{index}",
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {
                    "type": "kwok",
                    "kubernetes.io/hostname": f"{prefix}-{index}",
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/os": "linux",
                    **labels,
                },
            },
            "spec": {"taints": [GPU_TAINT] if tainted else []},
            "status": {"capacity": resources, "allocatable": resources},
        }
        for index in range(count)
    ]
