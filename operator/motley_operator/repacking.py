"""Room for large replicas where small ones lie so that it fits nowhere, although the plan fits the nodes. Pure.

The scheduler places pods one by one and never moves one. So small replicas step aside, and are started again, where
room is left, as soon as no larger one waits."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import timedelta

from motley_operator.api import GPUPool
from motley_operator.fleet import FleetView, PodView
from motley_operator.manifests import Group

GIVE_UP = timedelta(minutes=10)
"""A replica that waits longer is kept from its node by something else; the small ones come back."""


def stepping_aside(
    groups: Sequence[Group], view: FleetView, waiting: Mapping[str, Sequence[PodView]]
) -> dict[str, int]:
    """By name of a group, the replicas it should have for now instead of the planned number. `waiting` is by pool."""
    found: dict[str, int] = {}
    for pool in view.pools:
        own = [group for group in groups if group.allocation.pool == pool.metadata.name]
        if pool.metadata.name in waiting and pool.spec.device == "gpu":
            found |= _on_pool(pool, own, view, waiting[pool.metadata.name])
    return found


def _on_pool(pool: GPUPool, groups: Sequence[Group], view: FleetView, waiting: Sequence[PodView]) -> dict[str, int]:
    degrees = {group.fingerprint: group.allocation.tensor_parallel for group in groups}
    wanted = sorted((degrees[pod.configuration] for pod in waiting if _counts(pod, degrees, view)), reverse=True)
    smaller = [group for group in groups if wanted and degrees[group.fingerprint] < wanted[0]]
    if not smaller:
        return {}
    present = {one.configuration: one.replicas for one in view.deployments}
    # while a larger one waits none of the smaller grows: it would take the room that was just made
    held = {g.name: min(g.allocation.replicas, present.get(g.fingerprint, 0)) for g in smaller}
    staying = [pod for pod in view.pods if pod.pool == pool.metadata.name and not pod.leaving]
    counts = Counter(pod.configuration for pod in staying)
    if any(counts[group.fingerprint] > present.get(group.fingerprint, 0) for group in smaller):
        return held  # some are on their way already
    aside = _aside(pool, view, staying, wanted, degrees)
    return {group.name: max(0, held[group.name] - aside[group.fingerprint]) for group in smaller}


def _counts(pod: PodView, degrees: Mapping[str, int], view: FleetView) -> bool:
    since = pod.unschedulable_since
    return pod.configuration in degrees and since is not None and view.now - since < GIVE_UP


def _aside(
    pool: GPUPool, view: FleetView, staying: Iterable[PodView], wanted: Iterable[int], degrees: Mapping[str, int]
) -> Counter[str]:
    """How many replicas of each configuration must go for the first that finds no room; one after the other."""
    all_degrees = {one.configuration: one.tensor_parallel for one in view.deployments} | dict(degrees)
    nodes: dict[str, list[str]] = {node.name: [] for node in view.nodes_of(pool) if node.ready}
    for pod in staying:
        if pod.node in nodes and pod.configuration in all_degrees:
            nodes[pod.node].append(pod.configuration)
    for degree in wanted:
        choices = [
            (sum(all_degrees[one] for one in going), name, going)
            for name, held in nodes.items()
            if (going := _for_one(degree, held, all_degrees, degrees, pool.spec.node.gpus)) is not None
        ]
        if not choices:
            continue
        cost, name, going = min(choices)
        if cost:
            return Counter(going)
        nodes[name].append(next(one for one, own in degrees.items() if own == degree))  # the scheduler will see it
    return Counter()


def _for_one(
    degree: int, held: Iterable[str], degrees: Mapping[str, int], movable: Container[str], gpus: int
) -> list[str] | None:
    """Smaller replicas of a node that must go for one of this degree, or None where that is not enough. Those of
    leaving groups are not `movable`: when they go is the roll-out's affair."""
    held = list(held)
    smaller = [one for one in held if one in movable and degrees[one] < degree]
    free, going = gpus - sum(degrees[one] for one in held), []
    for one in sorted(smaller, key=lambda one: -degrees[one]):
        if free >= degree:
            break
        free += degrees[one]
        going.append(one)
    return going if free >= degree else None
