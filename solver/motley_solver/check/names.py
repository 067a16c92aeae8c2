"""Does a plan speak of what the problem knows, in numbers that can be reckoned with?"""

from collections import Counter
from collections.abc import Iterable, Iterator
from math import isfinite

from motley_solver.check.asked import Asked
from motley_solver.plan import Assignment, Plan


def names(asked: Asked, plan: Plan) -> Iterator[str]:
    named = Counter(node.pool for node in plan.nodes)
    yield from (f"nodes of an unknown pool {name}" for name in named if name not in asked.pools)
    yield from (f"pool {name} is listed {named[name]} times, not once" for name in asked.pools if named[name] != 1)
    for a in plan.allocations:
        c = asked.configurations.get((a.model, a.configuration))
        if c is None or a.pool not in c.pools or a.pool not in asked.pools:
            yield f"{a.model} {a.configuration} on {a.pool} is not one of the problem's configurations"
    yield from _route_names(asked, plan.assignment)
    for survival in plan.survivals:
        if survival.lost_pool not in asked.pools:
            yield f"an unknown pool {survival.lost_pool} is lost"
        yield from _route_names(asked, survival.assignment)
    yield from _said_names(asked, plan)


def _said_names(asked: Asked, plan: Plan) -> Iterator[str]:
    for left in plan.unserved:
        if left.model not in asked.models:
            yield f"an unknown model {left.model} is unserved"
        elif (left.model, left.bucket) not in asked.rates and asked.models[left.model].buckets:
            yield f"an unknown {left.model} {left.bucket} is unserved"
    if Counter(part.model for part in plan.models) != Counter(asked.models.keys()):
        yield "the parts of the models are not one for each of the problem's"


def _route_names(asked: Asked, routes: Iterable[Assignment]) -> Iterator[str]:
    for route in routes:
        known = (route.model, route.configuration) in asked.configurations
        if not known or (route.model, route.bucket) not in asked.rates:
            yield f"{route.model} {route.bucket} is assigned to an unknown {route.configuration}"


def numbers(asked: Asked, plan: Plan) -> Iterator[str]:
    """Those that are not compared with figures of our own later on."""
    for node in plan.nodes:
        if node.nodes != _whole(node.nodes):
            yield f"pool {node.pool} has {node.nodes} nodes"
    for a in plan.allocations:
        if a.replicas != _whole(a.replicas) or a.replicas < 1:
            yield f"{a.model} {a.configuration} on {a.pool} has {a.replicas} replicas"
    for left in plan.unserved:
        if not (isfinite(left.rate) and left.rate >= 0):
            yield f"{left.model} {left.bucket}: {left.rate} req/s are unserved"
    if not (isfinite(plan.lower_bound) and isfinite(plan.solve_seconds) and plan.solve_seconds >= 0):
        yield f"the lower bound is {plan.lower_bound}, found within {plan.solve_seconds} s"


def _whole(number: float) -> int | None:
    return int(number) if isfinite(number) else None
