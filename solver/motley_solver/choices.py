"""What each size of request costs on each way to serve it, and what keeps a replica there from serving more.
Read off the problem and the plan; nothing is solved here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from motley_solver.packing import per_node, size_of
from motley_solver.plan import Plan
from motley_solver.problem import Capacity, Configuration, ModelDemand, Pool, Problem, Role, Shortfall
from motley_solver.rounding import usable_capacity
from motley_solver.workload import Bucket

LimitedBy = Literal["ttft", "tpot", "engine", ""]
"""What a replica's rate ends at: a latency target, or its speed and memory whatever the targets; "" is not known."""

LARGEST = 10
"""Sizes per model that are looked at, those with the most requests first."""
_NOTICEABLE = 1.002  # the capacities are found on a scale of finite steps


@dataclass(frozen=True)
class Option:
    """One way to serve a bucket, by one replica that is kept busy."""

    gpu: str
    pool: str
    configuration: str
    tensor_parallel: int
    role: Role
    rate: float  # requests per second of one replica; 0.0 where it cannot serve the bucket
    within_slo: bool
    cost_per_million_tokens: float | None  # of whole requests, so that prefill and decode add up; None at rate 0
    share: float  # of the bucket's load, as planned
    limited_by: LimitedBy = ""
    shortfall: Shortfall | None = None  # why the rate within the SLO is 0


@dataclass(frozen=True)
class Choice:
    """One bucket with traffic and its options: per pool and role the cheapest, and whatever the plan uses; the used
    ones first, then by cost, then those that cannot."""

    model: str
    bucket: Bucket
    rate: float
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Looser:
    """The same model with one target loosened, by which is seen what limits a rate."""

    ttft: ModelDemand | None = None
    tpot: ModelDemand | None = None


def choices(problem: Problem, plan: Plan, looser: Mapping[str, Looser]) -> tuple[Choice, ...]:
    """`looser` by model; without an entry it is not known which target limits a rate."""
    pools = {pool.name: pool for pool in problem.pools}
    shares = _shares(plan)
    return tuple(
        Choice(model.name, load.bucket, load.rate, _options(model, load.bucket, pools, shares, looser.get(model.name)))
        for model in problem.models
        for load in sorted(model.buckets, key=lambda load: (-load.rate, load.bucket))[:LARGEST]
        if load.rate > 0
    )


_Shares = Mapping[tuple[str, Bucket, str, str], float]


def _shares(plan: Plan) -> _Shares:
    """By model, bucket, configuration and pool: replicas of one configuration share its load equally."""
    replicas: dict[tuple[str, str], dict[str, int]] = {}
    for one in plan.allocations:
        replicas.setdefault((one.model, one.configuration), {})[one.pool] = one.replicas
    return {
        (one.model, one.bucket, one.configuration, pool): one.share * count / sum(placed.values())
        for one in plan.assignment
        for placed in [replicas.get((one.model, one.configuration), {})]
        for pool, count in placed.items()
    }


def _options(
    model: ModelDemand, bucket: Bucket, pools: Mapping[str, Pool], shares: _Shares, looser: Looser | None
) -> tuple[Option, ...]:
    best: dict[tuple[str, Role], Option] = {}
    used: list[Option] = []
    for one in _all(model, bucket, pools, shares, looser):
        if one.share > 0:
            used.append(one)
        key = (one.pool, one.role)
        if key not in best or _rank(one) < _rank(best[key]):
            best[key] = one
    return tuple(sorted({*used, *best.values()}, key=lambda one: (-one.share, *_rank(one))))


def _rank(one: Option) -> tuple[bool, float, str]:
    """Cheapest first; of those that cannot, the one that lacks least."""
    lack = one.shortfall.needed / max(one.shortfall.available, 1e-12) if one.shortfall else 0.0
    cost = one.cost_per_million_tokens
    return (cost is None, lack if cost is None else cost, one.configuration)


def _all(
    model: ModelDemand, bucket: Bucket, pools: Mapping[str, Pool], shares: _Shares, looser: Looser | None
) -> Iterator[Option]:
    tokens = bucket.input_tokens + bucket.output_tokens
    for c in model.configurations:
        capacity = c.capacity(bucket)
        rate, outside = usable_capacity(model, capacity)
        for pool in (pools[name] for name in c.pools if name in pools):
            fitting = per_node(size_of(c), pool)
            able = rate > 0 and fitting > 0
            cost = pool.price_per_node_hour / fitting / (rate * 3600 * tokens) * 1e6 if able else None
            yield Option(
                gpu=c.gpu,
                pool=pool.name,
                configuration=c.key,
                tensor_parallel=c.tensor_parallel,
                role=c.role,
                rate=rate if able else 0.0,
                within_slo=outside == 0,
                cost_per_million_tokens=cost,
                share=shares.get((model.name, bucket, c.key, pool.name), 0.0),
                limited_by=_limit(capacity, c, looser) if able else "",
                shortfall=capacity.shortfall if capacity.rate == 0 else None,
            )


def _limit(capacity: Capacity, configuration: Configuration, looser: Looser | None) -> LimitedBy:
    """The target whose loosening raises the rate most; the engine itself where neither does."""
    if capacity.rate >= capacity.best_effort / _NOTICEABLE:
        return "engine"
    if looser is None or looser.ttft is None or looser.tpot is None:
        return ""
    gains = {
        "ttft": _rate(looser.ttft, configuration, capacity.bucket) / capacity.rate if capacity.rate else 0.0,
        "tpot": _rate(looser.tpot, configuration, capacity.bucket) / capacity.rate if capacity.rate else 0.0,
    }
    if max(gains.values()) < _NOTICEABLE:
        return ""
    return "ttft" if gains["ttft"] > gains["tpot"] else "tpot"


def _rate(model: ModelDemand, configuration: Configuration, bucket: Bucket) -> float:
    found = next((c for c in model.configurations if c.key == configuration.key), configuration)
    return found.capacity(bucket).rate
