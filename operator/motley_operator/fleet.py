"""FleetView: all that one pass may look at, as one frozen value. Parsing only; nothing here decides or does I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from motley_operator.api import GROUP, Fleet, GPUPool, Metadata, Model, Plan, Profile, Resource
from motley_operator.labels import CONFIGURATION, MODEL, POOL, SOURCE, TENSOR_PARALLEL

Json = Mapping[str, Any]
_Kind = TypeVar("_Kind", bound=Resource)


@dataclass(frozen=True)
class NodeView:
    name: str
    labels: Mapping[str, str] = field(hash=False)
    ready: bool


@dataclass(frozen=True)
class DeploymentView:
    """One group of equal engine replicas, as the cluster has it."""

    namespace: str
    name: str
    model: str
    pool: str
    tensor_parallel: int
    configuration: str
    replicas: int
    ready: int


@dataclass(frozen=True)
class PodView:
    namespace: str
    name: str
    model: str
    pool: str
    configuration: str
    ready: bool
    unschedulable_since: datetime | None
    trouble: str
    """Why its engine does not run, in the engine's own words; empty while nothing is wrong."""
    node: str = ""
    leaving: bool = False
    """It was told to go, and holds its place until it is gone."""


@dataclass(frozen=True)
class InspectionView:
    """An inspection Job and what its pod said: the message of its termination."""

    namespace: str
    name: str
    model: str
    source: str
    succeeded: bool
    failed: bool
    message: str
    waits_for: str
    """Why its pod cannot start (a claim or Secret that is not there); empty while nothing is wrong."""


@dataclass(frozen=True)
class TrafficView:
    """What the routers measured over their window, all replicas together."""

    requests: float
    attainment: float


@dataclass(frozen=True)
class Unreadable:
    """A custom resource that the schema let through and the operator cannot read (a skew of versions)."""

    kind: str
    namespace: str | None
    name: str
    message: str

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True)
class FleetView:
    now: datetime
    fleet: Fleet
    pools: tuple[GPUPool, ...] = ()
    models: tuple[Model, ...] = ()
    profiles: tuple[Profile, ...] = ()
    plans: tuple[Plan, ...] = ()
    """Oldest first."""
    nodes: tuple[NodeView, ...] = ()
    deployments: tuple[DeploymentView, ...] = ()
    pods: tuple[PodView, ...] = ()
    inspections: tuple[InspectionView, ...] = ()
    traffic: Mapping[str, TrafficView] = field(default_factory=dict, hash=False)
    unreadable: tuple[Unreadable, ...] = ()
    owned: Mapping[tuple[str, str | None, str], str] = field(default_factory=dict, hash=False)
    """(kind, namespace, name) of every object that carries our label → the Model it is for (`namespace/name`)."""

    def nodes_of(self, pool: GPUPool) -> tuple[NodeView, ...]:
        return tuple(node for node in self.nodes if selects(pool.spec.node_selector, node.labels))


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


NO_FLEET = Fleet(metadata=Metadata(name="default"))


def fleet_view(
    now: datetime,
    objects: Mapping[str, Iterable[Json]],
    traffic: Mapping[str, TrafficView] | None = None,
) -> FleetView:
    """The view of raw objects by plural name (`models`, `gpupools`, …, `nodes`, `deployments`, `pods`, `jobs`)."""
    unreadable: list[Unreadable] = []

    def read(kind: type[_Kind]) -> tuple[_Kind, ...]:
        found = []
        for raw in objects.get(kind.crd.plural, ()):
            try:
                found.append(kind.model_validate(raw))
            except ValidationError as error:
                unreadable.append(_unreadable(kind.__name__, raw, error))
        return tuple(sorted(found, key=_age))

    fleets = [fleet for fleet in read(Fleet) if fleet.metadata.name == "default"]
    pods = list(objects.get("pods", ()))
    return FleetView(
        now=now,
        fleet=fleets[0] if fleets else NO_FLEET,
        pools=read(GPUPool),
        models=read(Model),
        profiles=read(Profile),
        plans=read(Plan),
        nodes=tuple(node_view(raw) for raw in objects.get("nodes", ())),
        deployments=tuple(deployment_view(raw) for raw in objects.get("deployments", ()) if _of_a_model(raw)),
        pods=tuple(pod_view(raw) for raw in pods if CONFIGURATION in _labels(raw)),
        inspections=tuple(inspection_view(raw, pods) for raw in objects.get("jobs", ())),
        traffic=dict(traffic or {}),
        unreadable=tuple(unreadable),
        owned=dict(_owned(objects)),
    )


OWNED = {
    "deployments": "Deployment",
    "services": "Service",
    "networkpolicies": "NetworkPolicy",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "routingtables": "RoutingTable",
    "jobs": "Job",
}
"""Kinds that the operator makes and removes, by plural name."""


def _owned(objects: Mapping[str, Iterable[Json]]) -> Iterator[tuple[tuple[str, str | None, str], str]]:
    for plural, kind in OWNED.items():
        for raw in objects.get(plural, ()):
            if not _of_a_model(raw):
                continue
            namespace = raw["metadata"]["namespace"]
            yield (kind, namespace, raw["metadata"]["name"]), f"{namespace}/{_labels(raw).get(MODEL, '')}"


def _of_a_model(raw: Json) -> bool:
    """A label alone makes nothing ours: somebody may have copied it."""
    owners = raw["metadata"].get("ownerReferences") or ()
    controlled = any(
        owner.get("controller") and owner["kind"] == "Model" and owner["apiVersion"].startswith(f"{GROUP}/")
        for owner in owners
    )
    return controlled and MODEL in _labels(raw)


def _age(resource: Resource) -> tuple[datetime, str]:
    return resource.metadata.creation_timestamp or datetime.max.replace(tzinfo=UTC), resource.key


def _unreadable(kind: str, raw: Json, error: ValidationError) -> Unreadable:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    metadata = raw.get("metadata", {})
    return Unreadable(kind, metadata.get("namespace"), str(metadata.get("name")), f"{where}: {first['msg']}")


def _labels(raw: Json) -> Mapping[str, str]:
    labels: Mapping[str, str] = raw["metadata"].get("labels") or {}
    return labels


def _condition(raw: Json, kind: str) -> Json:
    conditions = raw.get("status", {}).get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == kind), {})


def node_view(raw: Json) -> NodeView:
    return NodeView(raw["metadata"]["name"], _labels(raw), _condition(raw, "Ready").get("status") == "True")


def deployment_view(raw: Json) -> DeploymentView:
    labels = _labels(raw)
    return DeploymentView(
        namespace=raw["metadata"]["namespace"],
        name=raw["metadata"]["name"],
        model=labels.get(MODEL, ""),
        pool=labels.get(POOL, ""),
        tensor_parallel=int(degree) if (degree := labels.get(TENSOR_PARALLEL, "")).isdecimal() else 1,
        configuration=labels.get(CONFIGURATION, ""),
        replicas=raw["spec"].get("replicas", 1),
        ready=raw.get("status", {}).get("readyReplicas", 0),
    )


def pod_view(raw: Json) -> PodView:
    labels = _labels(raw)
    scheduled = _condition(raw, "PodScheduled")
    waiting = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    since = scheduled.get("lastTransitionTime") if waiting else None
    return PodView(
        namespace=raw["metadata"]["namespace"],
        name=raw["metadata"]["name"],
        model=labels.get(MODEL, ""),
        pool=labels.get(POOL, ""),
        configuration=labels.get(CONFIGURATION, ""),
        ready=_condition(raw, "Ready").get("status") == "True",
        unschedulable_since=datetime.fromisoformat(since) if since else None,
        trouble=str(scheduled.get("message", "")) if waiting else _trouble(raw),
        node=raw.get("spec", {}).get("nodeName", ""),
        leaving="deletionTimestamp" in raw["metadata"],
    )


def _trouble(raw: Json) -> str:
    """What keeps the engine from running: the last words of the one that ended, or the reason it waits for."""
    for container in raw.get("status", {}).get("containerStatuses") or ():
        ended = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated")
        if ended and ended.get("exitCode"):
            return f"exit code {ended['exitCode']}: {ended.get('message') or ended.get('reason', '')}".strip()
    return _waiting(raw)


def _waiting(raw: Json) -> str:
    for container in raw.get("status", {}).get("containerStatuses") or ():
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".strip(": ")
    return ""


def _hindrance(raw: Json) -> str:
    """Why a pod has not started: no node takes it, or its container cannot be made."""
    scheduled = _condition(raw, "PodScheduled")
    return str(scheduled.get("message", "")) if scheduled.get("status") == "False" else _waiting(raw)


def inspection_view(job: Json, pods: Iterable[Json]) -> InspectionView:
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    waits_for, words = "", list[tuple[bool, str, str]]()
    for pod in pods:
        if pod["metadata"]["namespace"] == namespace and _labels(pod).get("job-name") == name:
            waits_for = _hindrance(pod) or waits_for
            for container in pod.get("status", {}).get("containerStatuses") or ():
                ended = container.get("state", {}).get("terminated") or {}
                words.append((ended.get("exitCode") == 0, ended.get("finishedAt") or "", ended.get("message") or ""))
    # of several tries the one that succeeded, else the last
    message = max(words)[2] if words else ""
    return InspectionView(
        namespace=namespace,
        name=name,
        model=_labels(job).get(MODEL, ""),
        source=(job["metadata"].get("annotations") or {}).get(SOURCE, ""),
        succeeded=job.get("status", {}).get("succeeded", 0) > 0,
        failed=_condition(job, "Failed").get("status") == "True",
        message=message,
        waits_for=waits_for,
    )
