"""A problem's parts by name, and what of the problem itself no plan can be held against."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isclose, isfinite
from typing import TypeVar

from motley_solver.plan import Plan
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem
from motley_solver.workload import Bucket

_T = TypeVar("_T", bound=Hashable)

SHARE = 2e-6  # tolerance of a part of a bucket's requests
_RELATIVE = 1e-6  # of money and of requests per second


@dataclass(frozen=True)
class Asked:
    """A problem and its parts by name: read once."""

    problem: Problem
    pools: Mapping[str, Pool]
    models: Mapping[str, ModelDemand]
    configurations: Mapping[tuple[str, str], Configuration]
    rates: Mapping[tuple[str, Bucket], float]


def asked_of(problem: Problem) -> Asked:
    return Asked(
        problem,
        {pool.name: pool for pool in problem.pools},
        {m.name: m for m in problem.models},
        {(m.name, c.key): c for m in problem.models for c in m.configurations},
        {(m.name, load.bucket): load.rate for m in problem.models for load in m.buckets},
    )


def twice(items: Iterable[_T]) -> list[_T]:
    return [item for item, count in Counter(items).items() if count > 1]


def same(one: float, other: float) -> bool:
    return isclose(one, other, rel_tol=_RELATIVE, abs_tol=1e-12)


def question(asked: Asked, _: Plan) -> Iterator[str]:
    """What no plan can be held against."""
    problem = asked.problem
    for pool in problem.pools:
        numbers = (pool.price_per_node_hour, pool.interruptions_per_hour, pool.max_nodes, pool.reserved_nodes)
        if not all(isfinite(number) and number >= 0 for number in numbers):
            yield f"the problem: pool {pool.name} has a number that is not finite or below 0"
    for (model, bucket), rate in asked.rates.items():
        if not (isfinite(rate) and rate >= 0):
            yield f"the problem: {model} {bucket} has a rate of {rate}"
    times = (problem.headroom, problem.start_hours)
    if not (all(isfinite(number) and number >= 0 for number in times) and 0 < problem.horizon_hours < float("inf")):
        yield "the problem: headroom and start hours must be finite and at least 0, the horizon above 0"
    for here, c in asked.configurations.items():
        if c.role != "aggregated" and any(name in asked.pools for name in c.pools) and not fabric_of(asked, c):
            yield f"the problem: {here[0]} {c.key} is for {c.role}, but its pools do not lie in one fabric"
    yield from _ambiguous(problem)


def _ambiguous(problem: Problem) -> Iterator[str]:
    yield from (f"the problem: two pools are named {name}" for name in twice(pool.name for pool in problem.pools))
    yield from (f"the problem: two models are named {name}" for name in twice(m.name for m in problem.models))
    for m in problem.models:
        yield from (f"the problem: {m.name} has two {key}" for key in twice(c.key for c in m.configurations))
        yield from (f"the problem: {m.name} has {bucket} twice" for bucket in twice(load.bucket for load in m.buckets))


def fabric_of(asked: Asked, configuration: Configuration) -> str:
    """The one fabric of its pools; "" for none or several."""
    fabrics = {asked.pools[name].fabric for name in configuration.pools if name in asked.pools}
    return fabrics.pop() if len(fabrics) == 1 else ""
