"""(observed, desired) → next step. Stateless: each pass computes one step from counts, so a restart changes nothing.

New capacity is up before old capacity goes. Where the nodes of a pool are all there and pods still find no room, the
old replicas on that pool make room, a quarter of the Model's at a time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from motley_operator.api import Plan
from motley_operator.fleet import DeploymentView, FleetView, PodView
from motley_operator.manifests import Group
from motley_operator.repacking import stepping_aside

PATIENCE = timedelta(seconds=10)
"""A pod that the scheduler could not place for this long finds no room."""
MAX_UNAVAILABLE = 0.25


@dataclass(frozen=True)
class Step:
    """Replicas that each wanted group should have now, and what becomes of the groups that are leaving."""

    replicas: dict[str, int]
    """By name of a group."""
    shrinking: tuple[tuple[DeploymentView, int], ...] = ()
    """Leaving groups that stay for now, with the replicas they keep."""
    gone: tuple[DeploymentView, ...] = ()


def next_step(groups: Sequence[Group], view: FleetView, plan: Plan, held: Iterable[str] = ()) -> Step:
    """One step for all Models. Deployments of `held` Models (`namespace/name`) are left alone."""
    held = set(held)
    crowded = crowded_pools(view, plan)
    aside = stepping_aside(groups, view, {pool: pods for pool, pods in waiting_pods(view).items() if pool in crowded})
    wanted: dict[str, list[Group]] = {}
    present: dict[str, list[DeploymentView]] = {}
    for group in groups:
        wanted.setdefault(group.model.key, []).append(group)
    for deployment in view.deployments:
        present.setdefault(f"{deployment.namespace}/{deployment.model}", []).append(deployment)
    steps = [
        _of_model(wanted.get(key, []), present.get(key, []), crowded)
        for key in sorted(wanted.keys() | present.keys())
        if key not in held
    ]
    return Step(
        replicas={name: min(count, aside.get(name, count)) for step in steps for name, count in step.replicas.items()},
        shrinking=tuple(one for step in steps for one in step.shrinking),
        gone=tuple(one for step in steps for one in step.gone),
    )


def crowded_pools(view: FleetView, plan: Plan) -> frozenset[str]:
    """Pools whose planned nodes are there and on which pods wait all the same."""
    planned = {one.pool: one.nodes for one in plan.spec.nodes}
    ready = {pool.metadata.name: sum(node.ready for node in view.nodes_of(pool)) for pool in view.pools}
    return frozenset(name for name in waiting_pods(view) if ready.get(name, 0) >= planned.get(name, 0))


def waiting_pods(view: FleetView) -> dict[str, list[PodView]]:
    """By pool, those that find no room."""
    found: dict[str, list[PodView]] = {}
    for pod in view.pods:
        if pod.unschedulable_since is not None and view.now - pod.unschedulable_since >= PATIENCE:
            found.setdefault(pod.pool, []).append(pod)
    return found


def _of_model(wanted: Sequence[Group], present: Sequence[DeploymentView], crowded: frozenset[str]) -> Step:
    desired = {group.name: group.allocation.replicas for group in wanted}
    ready = {one.name: one.ready for one in present}
    total = sum(desired.values())
    up = sum(min(count, ready.get(name, 0)) for name, count in desired.items())
    surplus = {one.name: one.replicas - desired.get(one.name, 0) for one in present}
    kept: dict[str, int] = {}
    if up < total:
        kept = {name: extra for name, extra in surplus.items() if extra > 0}
        kept |= _making_room([one for one in present if one.name in kept and one.pool in crowded], kept, wanted, up)
    leaving = [one for one in present if one.name not in desired]
    return Step(
        replicas={name: count + kept.get(name, 0) for name, count in desired.items()},
        shrinking=tuple((one, kept[one.name]) for one in leaving if kept.get(one.name)),
        gone=tuple(one for one in leaving if not kept.get(one.name)),
    )


def _making_room(
    crowding: Sequence[DeploymentView], extra: Mapping[str, int], wanted: Sequence[Group], up: int
) -> dict[str, int]:
    """What old replicas on crowded pools keep: all together as much as is still missing, less what may be missing.
    A replica larger than the new ones counts as several, or a few large ones would block many small ones for good."""
    total = sum(group.allocation.replicas for group in wanted)
    smallest = min(group.allocation.tensor_parallel for group in wanted)
    left = max(0, total - up - ceil(total * MAX_UNAVAILABLE))
    kept = {}
    for one in sorted(crowding, key=lambda one: (-one.ready, one.name)):  # what serves stays longest
        worth = max(1, one.tensor_parallel // smallest)
        kept[one.name] = min(extra[one.name], left // worth)
        left -= kept[one.name] * worth
    return kept
