"""Builders of what the operator looks at: raw objects as the API server gives them, views, plans. Each has a plain
default and takes overrides; nested ones are merged, and the last one wins."""

from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from typing import Any

from motley_operator.admission import admitted_models
from motley_operator.api import GPUPool, Metadata, Model, Plan, PlanSpec
from motley_operator.api.plan import EngineSettings, PlannedAllocation, PlannedNodes
from motley_operator.declarations import Declaration
from motley_operator.fleet import DeploymentView, FleetView, TrafficView, fleet_view
from motley_operator.formulation import Formulation, formulated
from motley_operator.manifests import Group
from motley_operator.planning import Decision, decision, digest_of
from motley_solver import comparisons, ilp
from motley_solver.plan import Outcome
from motley_solver.problem import Problem

Json = dict[str, Any]
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SHAPE: Json = {
    "layers": 32,
    "hiddenSize": 4096,
    "attentionHeads": 32,
    "kvHeads": 8,
    "headDim": 128,
    "intermediateSize": 14336,
    "vocabSize": 128256,
}
SOURCE = "hf://example/chat-8b"
SIZES: list[Json] = [
    {"inputTokens": 500, "outputTokens": 200, "weight": "3"},
    {"inputTokens": 4000, "outputTokens": 200, "weight": "1"},
]
_PLURAL = {"Fleet": "fleets", "GPUPool": "gpupools", "Model": "models", "Profile": "profiles", "Plan": "plans"}
_PLURAL |= {"Node": "nodes", "Deployment": "deployments", "Pod": "pods", "Job": "jobs"}


def merged(base: Mapping[str, Any], *overrides: Mapping[str, Any]) -> Json:
    """Mappings are merged, all else is replaced; a value of None takes the field away."""
    result: Json = deepcopy(dict(base))
    for override in overrides:
        for key, value in override.items():
            if value is None:
                result.pop(key, None)
            elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
                result[key] = merged(result[key], value)
            else:
                result[key] = deepcopy(value)
    return result


def _resource(kind: str, name: str, namespace: str | None, spec: Json, age: int, metadata: Json) -> Json:
    """`age` in minutes."""
    base: Json = {
        "name": name,
        "uid": f"uid-{kind}-{namespace}-{name}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": f"2026-03-01T{11 - age // 60:02}:{59 - age % 60:02}:00Z",
    }
    if namespace:
        base["namespace"] = namespace
    return {"apiVersion": "motley.dev/v1alpha1", "kind": kind, "metadata": merged(base, metadata), "spec": spec}


def fleet(*spec: Mapping[str, Any]) -> Json:
    return _resource("Fleet", "default", None, merged({}, *spec), 100, {})


def pool(name: str = "l4", *spec: Mapping[str, Any], age: int = 50, **metadata: Any) -> Json:
    """Four nodes with one L4 each."""
    base = {
        "gpu": "L4",
        "node": {"gpus": 1, "cpu": "8", "memory": "32Gi"},
        "pricePerNodeHour": "0.80",
        "maxNodes": 4,
        "nodeSelector": {"pool": name},
    }
    return _resource("GPUPool", name, None, merged(base, *spec), age, metadata)


RACK = {"fabric": {"name": "rack", "bandwidthGBs": "50"}}
A100 = {
    "gpu": "A100",
    "node": {"gpus": 2, "cpu": "48", "memory": "400Gi"},
    "pricePerNodeHour": "7.35",
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
CPU = {"gpu": "CPU", "device": "cpu", "node": {"cpu": "8", "memory": "32Gi"}, "pricePerNodeHour": "0.10"}


def model(
    name: str = "chat", *spec: Mapping[str, Any], namespace: str = "team", age: int = 50, **metadata: Any
) -> Json:
    base = {
        "source": {"uri": SOURCE},
        "shape": SHAPE,
        "slo": {"ttft": "1s", "tpot": "100ms", "attainment": "0.99"},
        "traffic": {"rate": "4", "sizes": SIZES},
        "placement": {"tensorParallel": [1]},
    }
    return _resource("Model", name, namespace, merged(base, *spec), age, metadata)


def profile(name: str = "chat-l4", *spec: Mapping[str, Any]) -> Json:
    """One L4 serves two short or one long request a second."""
    base = {
        "shape": SHAPE,
        "gpu": "L4",
        "source": "Measured",
        "error": "0.1",
        "throughput": [
            {"inputTokens": 500, "outputTokens": 200, "requestsPerSecond": "2"},
            {"inputTokens": 4000, "outputTokens": 200, "requestsPerSecond": "1"},
        ],
    }
    return _resource("Profile", name, None, merged(base, *spec), 50, {})


def node(name: str, pool: str = "l4", ready: bool = True) -> Json:
    status = {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}]}
    return {"kind": "Node", "metadata": {"name": name, "labels": {"pool": pool}}, "status": status}


MODEL_OWNER = {"apiVersion": "motley.dev/v1alpha1", "kind": "Model", "name": "chat", "uid": "u", "controller": True}


def deployment(name: str = "chat-l4-tp1", replicas: int = 3, **labels: str) -> Json:
    """A group of engine replicas, two of them ready. `labels` by their last part: `model`, `tensor_parallel`."""
    return {
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "team",
            "labels": {f"motley.dev/{key.replace('_', '-')}": value for key, value in labels.items()},
            "ownerReferences": [MODEL_OWNER],
        },
        "spec": {"replicas": replicas},
        "status": {"readyReplicas": 2},
    }


def pod(name: str, *overrides: Mapping[str, Any], namespace: str = "team", **labels: str) -> Json:
    """An engine pod. `labels` by their last part: `model`, `pool`, `configuration`."""
    base = {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {f"motley.dev/{key}": value for key, value in {"configuration": "0", **labels}.items()},
        },
        "status": {},
    }
    return merged(base, *overrides)


def unschedulable(since: str, message: str = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu.") -> Json:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"status": {"conditions": [condition | {"lastTransitionTime": since}]}}


def view_of(*objects: Json, now: datetime = NOW, traffic: Mapping[str, TrafficView] | None = None) -> FleetView:
    """Objects of any kind, in any order."""
    raw: dict[str, list[Json]] = {plural: [] for plural in _PLURAL.values()}
    for item in objects:
        raw[_PLURAL[item["kind"]]].append(item)
    return fleet_view(now, raw, traffic)


def declared(*objects: Json, disaggregated: bool = False) -> Declaration:
    """Of the only Model among the objects."""
    (found,) = formulated(view_of(*objects), disaggregated).declarations
    return found


@cache
def solved(problem: Problem) -> Outcome:
    """What the real solver says; asked once."""
    return comparisons.with_comparisons(problem, ilp.solve(problem, 10.0), 5.0)


def planned(view: FleetView) -> tuple[Formulation, Decision]:
    formulation = formulated(view)
    return formulation, decision(view, formulation, solved)


def with_plan(*objects: Json) -> tuple[FleetView, Plan]:
    """The view once the plan that it asks for is stored and in force."""
    _, first = planned(view_of(*objects))
    assert first.new is not None, first
    return view_of(*objects, first.new.to_json() | {"kind": "Plan"}), first.new


def allocation(model: str = "team/chat", pool: str = "l4", replicas: int = 1, **changes: Any) -> PlannedAllocation:
    base = PlannedAllocation(
        model=model,
        pool=pool,
        gpu="L4",
        tensor_parallel=1,
        replicas=replicas,
        engine=EngineSettings(max_num_batched_tokens=2048, max_num_seqs=64, max_model_len=8192),
    )
    return base.model_copy(update=changes)


def plan(
    sequence: int = 1, *allocations: PlannedAllocation, nodes: Mapping[str, int] | None = None, **spec: Any
) -> Plan:
    """A stored plan. Its inputs are nobody's, unless given."""
    base: Json = {"digest": "", "cost_per_hour": 1.0, "objective": 1.0, "lower_bound": 1.0}
    bought = tuple(PlannedNodes(pool=name, nodes=n, cost_per_hour=n) for name, n in (nodes or {}).items())
    said = PlanSpec(**{**base, "allocations": allocations, "nodes": bought, **spec})
    digest = digest_of(said)
    return Plan(
        metadata=Metadata(name=f"plan-{sequence:06d}-{digest}"), spec=said.model_copy(update={"digest": digest})
    )


def deployed(group: Group, ready: int | None = None) -> DeploymentView:
    """As the cluster has it, with so many ready replicas; if not given, all of them."""
    one = group.allocation
    return DeploymentView(
        namespace=group.model.metadata.namespace or "",
        name=group.name,
        model=group.model.metadata.name,
        pool=one.pool,
        tensor_parallel=one.tensor_parallel,
        configuration=group.fingerprint,
        replicas=one.replicas,
        ready=one.replicas if ready is None else ready,
    )


def pools_of(*raw: Json) -> dict[str, GPUPool]:
    return {one["metadata"]["name"]: GPUPool.model_validate(one) for one in raw}


def models_of(*raw: Json) -> dict[str, Model]:
    found = [Model.model_validate(one) for one in raw]
    return {one.key: one for one in found}


def about_models(*objects: Json) -> dict[str, str]:
    """Why Models take no part in planning: the reason, by kind and key."""
    return {key: finding.reason for key, finding in admitted_models(view_of(*objects))[1].items()}
