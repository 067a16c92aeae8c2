"""Decision → what should be in the cluster after this pass: manifests in order, and what should go. Pure."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from motley_operator.admission import inspected, key_of, needs_inspection
from motley_operator.api import GPUPool, Model, Shape
from motley_operator.fleet import DeploymentView, FleetView
from motley_operator.formulation import Formulation
from motley_operator.labels import DRAIN_FINALIZER
from motley_operator.manifests import (
    Group,
    deployment,
    groups_of,
    inspection_job,
    model_objects,
    routing_table,
    service,
)
from motley_operator.planning import Decision
from motley_operator.reasons import (
    ARGUMENT_NOT_ALLOWED,
    HOST_PATH_NOT_ALLOWED,
    IMAGE_NOT_ALLOWED,
    SERVED_NAME_TAKEN,
)
from motley_operator.rollout import PATIENCE, Step, next_step
from motley_operator.settings import Settings

Manifest = Mapping[str, Any]


Reference = tuple[str, str | None, str]
"""Kind, namespace, name."""


@dataclass(frozen=True)
class Desired:
    groups: tuple[Group, ...] = ()
    manifests: tuple[tuple[str, Manifest], ...] = field(default=(), hash=False)
    """(key of the Model it is for, manifest), in the order to apply."""
    scales: tuple[tuple[DeploymentView, int], ...] = ()
    """Leaving groups that make room, with the replicas they keep."""
    gone: tuple[Reference, ...] = ()
    drains: Mapping[str, bool] = field(default_factory=dict, hash=False)
    """By name of a GPUPool, whether it should carry the drain finalizer."""
    settled: bool = True
    """Nothing is on its way: the next pass can wait."""


def desired(view: FleetView, formulation: Formulation, decision: Decision, settings: Settings) -> Desired:
    plan = decision.active
    jobs = _inspections(view, formulation, settings)
    drains = {pool.metadata.name: _drain(pool, view) for pool in view.pools}
    held = _held(view)
    if plan is None:  # what serves stays as it is
        superfluous = _superfluous(view, {reference(manifest) for _, manifest in jobs}, held)
        gone = tuple(one for one in superfluous if one[0] == "Job")
        return Desired(manifests=jobs, gone=gone, drains=drains, settled=not _reading(view, jobs))
    groups = groups_of(plan, formulation.models, {pool.metadata.name: pool for pool in view.pools}, settings)
    step = next_step(groups, _reachable(view), plan, held)
    models = [model for key, model in formulation.models.items() if key not in held]
    manifests = (*jobs, *_of_models(models, groups, step, decision, settings))
    kept = {reference(manifest) for _, manifest in manifests}
    kept |= {(kind, one.namespace, one.name) for one, _ in step.shrinking for kind in ("Deployment", "Service")}
    return Desired(
        groups=groups,
        manifests=manifests,
        scales=tuple((one, replicas) for one, replicas in step.shrinking if replicas != one.replicas),
        gone=tuple(_superfluous(view, kept, held)),
        drains=drains,
        settled=not (
            _reading(view, jobs) or step.shrinking or step.gone or _draining(view, drains) or _just_left_waiting(view)
        ),
    )


def _superfluous(view: FleetView, kept: Container[Reference], held: Container[str]) -> Iterator[Reference]:
    return (one for one, model in sorted(view.owned.items(), key=str) if one not in kept and model not in held)


def _reachable(view: FleetView) -> FleetView:
    """No router reaches replicas without a Service (a quota, say, refused it): they stand in for no other."""
    deployments = (
        one if ("Service", one.namespace, one.name) in view.owned else replace(one, ready=0) for one in view.deployments
    )
    return replace(view, deployments=tuple(deployments))


def _held(view: FleetView) -> set[str]:
    """Models that are left as they are: what they ask for, or where some of them runs, cannot be read."""
    pools = {one.name for one in view.unreadable if one.kind == "GPUPool"}
    models = {f"{one.namespace}/{one.name}" for one in view.unreadable if one.kind == "Model"}
    return models | {f"{one.namespace}/{one.model}" for one in view.deployments if one.pool in pools}


def _reading(view: FleetView, jobs: Iterable[tuple[str, Manifest]]) -> bool:
    """Whether a config.json is being read: a Job that failed is over until it is made anew."""
    over = {("Job", job.namespace, job.name) for job in view.inspections if job.failed or job.succeeded}
    return any(reference(job) not in over for _, job in jobs)


def _draining(view: FleetView, drains: Mapping[str, bool]) -> bool:
    return any(pool.metadata.deletion_timestamp is not None and drains[pool.metadata.name] for pool in view.pools)


def _just_left_waiting(view: FleetView) -> bool:
    """Pods that the scheduler could not place a moment ago; later it is for nodes to come, which needs no hurry."""
    waiting = [pod.unschedulable_since for pod in view.pods if pod.unschedulable_since is not None]
    return any(view.now - since < 3 * PATIENCE for since in waiting)


def reference(manifest: Manifest) -> Reference:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace"), metadata["name"]


def _of_models(
    models: Iterable[Model], groups: tuple[Group, ...], step: Step, decision: Decision, settings: Settings
) -> Iterable[tuple[str, Manifest]]:
    """The policy before the pods that it protects, the table after the Services that it names."""
    assert decision.active is not None
    for model in models:
        own = [group for group in groups if group.model.key == model.key]
        leaving = [one.name for one, _ in step.shrinking if f"{one.namespace}/{one.model}" == model.key]
        objects: list[Manifest] = []
        if own:
            objects += model_objects(model, settings)
        for group in own:
            objects += [service(group), deployment(group, step.replicas[group.name])]
        objects.append(routing_table(model, own, leaving, decision.active))
        yield from ((key_of(model), manifest) for manifest in objects)


_NOT_INSPECTED = {HOST_PATH_NOT_ALLOWED, IMAGE_NOT_ALLOWED, ARGUMENT_NOT_ALLOWED, SERVED_NAME_TAKEN}


def _inspections(view: FleetView, formulation: Formulation, settings: Settings) -> tuple[tuple[str, Manifest], ...]:
    """Jobs for Models whose shape must be read. A Job's name follows from all that it runs with: while that stays, a
    failed one is left until its time is over, so that it is repeated at intervals; where it changes, another runs at
    once. One that succeeded has done its work."""
    manifests: list[tuple[str, Manifest]] = []
    for model in view.models:
        finding = formulation.findings.get(key_of(model))
        refused = finding is not None and finding.reason in _NOT_INSPECTED
        if refused or model.metadata.deletion_timestamp is not None or not needs_inspection(model):
            continue
        if not isinstance(inspected(model, view), Shape):
            wanted = model.spec.placement.pools
            pools = [pool for name, pool in formulation.pools.items() if not wanted or name in wanted]
            manifests.append((key_of(model), inspection_job(model, pools, settings)))
    return tuple(manifests)


def _drain(pool: GPUPool, view: FleetView) -> bool:
    """A pool is held back from deletion while replicas run on it, those that are finishing their requests included."""
    if pool.metadata.deletion_timestamp is None:
        return True
    wanted = any(one.pool == pool.metadata.name and one.replicas for one in view.deployments)
    busy = wanted or any(pod.pool == pool.metadata.name for pod in view.pods)
    return busy and DRAIN_FINALIZER in pool.metadata.finalizers
