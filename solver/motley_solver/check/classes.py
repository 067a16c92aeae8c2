"""Where outputs are unknown when a request is routed, sizes of one input that one route can serve have equal shares."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from motley_solver.check.asked import SHARE, Asked, fabric_of
from motley_solver.check.packing import times_in
from motley_solver.check.replicas import need_of, room_of
from motley_solver.plan import Assignment, Plan
from motley_solver.problem import Configuration, ModelDemand
from motley_solver.workload import Bucket

_Routes = Mapping[tuple[str, Bucket], Mapping[str, float]]  # shares by configuration


def told_apart(asked: Asked, plan: Plan) -> Iterator[str]:
    survivals = [(f"without pool {survival.lost_pool}: ", survival.assignment) for survival in plan.survivals]
    for when, routes in [("", plan.assignment), *survivals]:
        shares = _shares(routes)
        for model in (model for model in asked.problem.models if not model.outputs_known):
            for one, other in _alike(asked, model):
                mine, theirs = shares.get((model.name, one), {}), shares.get((model.name, other), {})
                if any(abs(mine.get(key, 0.0) - theirs.get(key, 0.0)) > SHARE for key in {*mine, *theirs}):
                    yield f"{when}{model.name}: {one} and {other} cannot be told apart and are routed differently"


def _shares(routes: Iterable[Assignment]) -> _Routes:
    shares: dict[tuple[str, Bucket], dict[str, float]] = defaultdict(dict)
    for route in routes:
        shares[route.model, route.bucket][route.configuration] = route.share
    return shares


def _alike(asked: Asked, model: ModelDemand) -> Iterator[tuple[Bucket, Bucket]]:
    """Sizes with traffic that must be routed as the first of their input is."""
    inputs: dict[int, list[Bucket]] = defaultdict(list)
    for load in model.buckets:
        if load.rate > 0 and _served(asked, model, [load.bucket]):
            inputs[load.bucket.input_tokens].append(load.bucket)
    for buckets in inputs.values():
        if _served(asked, model, buckets):
            yield from ((buckets[0], other) for other in buckets[1:])


def _served(asked: Asked, model: ModelDemand, buckets: Iterable[Bucket]) -> bool:
    """Is there a route that serves all of these within the SLO?"""
    ends: dict[tuple[str, str], set[str]] = defaultdict(set)
    for c in model.configurations:
        if all(c.capacity(bucket).rate > 0 for bucket in buckets) and _has_room(asked, c):
            ends[("", "") if c.role == "aggregated" else (fabric_of(asked, c), c.kv_class)].add(c.role)
    return "aggregated" in ends[("", "")] or any(
        {"prefill", "decode"} <= roles for (fabric, _), roles in ends.items() if fabric
    )


def _has_room(asked: Asked, configuration: Configuration) -> bool:
    pools = [asked.pools[name] for name in configuration.pools if name in asked.pools]
    return any(pool.max_nodes > 0 and times_in(need_of(configuration), room_of(pool)) for pool in pools)
