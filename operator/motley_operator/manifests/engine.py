"""One group of equal engine replicas: an allocation of a plan, its pod template, the name that follows from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from motley_operator.api import GPUPool, Model, Plan
from motley_operator.api.plan import PlannedAllocation
from motley_operator.declarations import replica_resources
from motley_operator.labels import COMPONENT, CONFIGURATION, MANAGED, MODEL, POOL, ROLE, TENSOR_PARALLEL
from motley_operator.manifests.pods import Manifest, pod_spec, worker_config
from motley_operator.settings import Settings

HTTP_PORT = 8000
HEALTH_PORT = 8080
STARTUP_SECONDS = 3600
"""Longest start: a download of hundreds of GiB and the compilation of kernels."""
PRESTOP_SECONDS = 3
"""Between leaving the endpoints and SIGTERM: routers hear of it meanwhile."""


@dataclass(frozen=True)
class Group:
    """`template` is a pod template; its fingerprint is part of `name`, so another template is another group."""

    model: Model
    allocation: PlannedAllocation
    fingerprint: str
    name: str
    template: Mapping[str, Any] = field(hash=False)

    @property
    def labels(self) -> dict[str, str]:
        return {**self.template["metadata"]["labels"]}

    @property
    def selector(self) -> dict[str, str]:
        return {MODEL: self.model.metadata.name, CONFIGURATION: self.fingerprint}


def groups_of(
    plan: Plan, models: Mapping[str, Model], pools: Mapping[str, GPUPool], settings: Settings
) -> tuple[Group, ...]:
    """The plan's allocations whose Model and GPUPool exist; the largest replicas first: they are hardest to place."""
    allocations = sorted(plan.spec.allocations, key=lambda a: (-a.tensor_parallel, a.model, a.pool))
    return tuple(
        _group(models[one.model], one, pools[one.pool], settings)
        for one in allocations
        if one.model in models and one.pool in pools and one.replicas
    )


def _group(model: Model, allocation: PlannedAllocation, pool: GPUPool, settings: Settings) -> Group:
    labels = {
        **MANAGED,
        "app.kubernetes.io/name": "motley-engine",
        COMPONENT: "engine",
        MODEL: model.metadata.name,
        POOL: pool.metadata.name,
        ROLE: allocation.role.lower(),
        TENSOR_PARALLEL: str(allocation.tensor_parallel),
    }
    spec = _pod_spec(model, allocation, pool, settings)
    digest = hashlib.sha256(json.dumps([labels, spec], sort_keys=True).encode()).hexdigest()
    fingerprint = digest[:10]
    template = {"metadata": {"labels": labels | {CONFIGURATION: fingerprint}}, "spec": spec}
    return Group(model, allocation, fingerprint, _name(model, allocation, fingerprint), template)


def _name(model: Model, allocation: PlannedAllocation, fingerprint: str) -> str:
    """Also a Service's name: at most 63 characters, starting with a letter, without dots."""
    words = f"{model.metadata.name}-{allocation.pool}-tp{allocation.tensor_parallel}".replace(".", "-")
    prefix = words if words[0].isalpha() else f"m-{words}"
    return f"{prefix[:51].rstrip('-')}-{fingerprint}"


def _pod_spec(model: Model, allocation: PlannedAllocation, pool: GPUPool, settings: Settings) -> Manifest:
    config = worker_config(
        model, allocation.engine, allocation.tensor_parallel, pool.spec.device, settings.drain_seconds
    )
    container = {
        "ports": [{"name": "http", "containerPort": HTTP_PORT}, {"name": "health", "containerPort": HEALTH_PORT}],
        "resources": _resources(model, allocation, pool),
        "startupProbe": _probe("/startup", period=2, failures=STARTUP_SECONDS // 2),
        "readinessProbe": _probe("/ready", period=2, failures=1),
        "livenessProbe": _probe("/live", period=10, failures=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRESTOP_SECONDS}}},
    }
    return {
        **pod_spec("engine", "launch", model, [pool], settings, config, container),
        "nodeSelector": dict(pool.spec.node_selector),
        "affinity": _packing(pool),
        "terminationGracePeriodSeconds": settings.drain_seconds + 30,
    }


def _resources(model: Model, allocation: PlannedAllocation, pool: GPUPool) -> Manifest:
    cpus, memory_gib = replica_resources(model, pool, allocation.tensor_parallel)
    requests = {"cpu": f"{round(cpus * 1000)}m", "memory": f"{int(memory_gib * 1024)}Mi"}
    if pool.spec.device == "cpu":
        return {"requests": requests}
    gpus = {pool.spec.resource_name: str(allocation.tensor_parallel)}
    return {"requests": requests | gpus, "limits": gpus}


def _probe(path: str, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "health"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _packing(pool: GPUPool) -> Manifest:
    """Fill nodes that already hold engines: single GPUs spread over nodes would strand the larger groups."""
    near = {
        "labelSelector": {"matchLabels": {POOL: pool.metadata.name}},
        "namespaceSelector": {},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": near}]}
    }
