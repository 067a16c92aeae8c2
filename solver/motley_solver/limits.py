"""The limits that may keep load out, and a problem without some of them. Which of them do is found out by solving, and
elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from motley_solver.plan import Plan
from motley_solver.problem import Configuration, ModelDemand, Problem
from motley_solver.reasons import room_in
from motley_solver.whatif import plenty, with_models, with_pools

LimitKind = Literal["stock", "budget", "max_replicas", "survivability", "slo", "others"]


@dataclass(frozen=True)
class Limit:
    """One thing that cannot stay if the load is to be served, and the others with it do."""

    kind: LimitKind
    name: str = ""  # the pool of a stock, else the model; "" for the budget
    value: float = 0.0  # nodes, currency per hour, replicas, part that survives
    models: tuple[str, ...] = ()  # of "others": those that take what this model would need


def limits_of(problem: Problem, plan: Plan, model: ModelDemand) -> Iterator[Limit]:
    """Those that may matter; of several sets that contradict one another the one without the first is found. Latency
    targets come last: then a stock is named only if the pool could serve within them."""
    if model.survivability > 0:
        yield Limit("survivability", model.name, model.survivability)
    others = tuple(one.model for one in plan.models if one.model != model.name and one.replicas)
    if others:
        yield Limit("others", model.name, models=others)
    if model.max_replicas is not None:
        yield Limit("max_replicas", model.name, model.max_replicas)
    pools = {pool.name: pool for pool in problem.pools}
    mine = {pool.name for c in model.configurations for pool in room_in(c, pools)}
    full = {one.pool for one in plan.nodes if one.nodes >= pools[one.pool].max_nodes > 0}
    for pool in problem.pools:
        if pool.name in mine | full:
            yield Limit("stock", pool.name, pool.max_nodes)
    if problem.budget_per_hour is not None:
        yield Limit("budget", "", problem.budget_per_hour)
    if any(_slow(c) for c in model.configurations):
        yield Limit("slo", model.name)


def _slow(configuration: Configuration) -> bool:
    return any(c.best_effort > c.rate for c in configuration.capacities)


def without(problem: Problem, model: str, limits: Sequence[Limit]) -> Problem:
    for limit in limits:
        match limit.kind:
            case "stock":
                problem = _without_stock(problem, limit.name)
            case "budget":
                problem = replace(problem, budget_per_hour=None)
            case "max_replicas":
                problem = with_models(problem, lambda m: replace(m, max_replicas=None), {model})
            case "survivability":
                problem = with_models(problem, lambda m: replace(m, survivability=0.0), {model})
            case "slo":
                problem = with_models(problem, _at_best_effort, {model})
            case "others":
                problem = replace(problem, models=tuple(m for m in problem.models if m.name == model))
    return problem


def _without_stock(problem: Problem, pool: str) -> Problem:
    return with_pools(problem, lambda p: replace(p, max_nodes=plenty(problem, p)), {pool})


def _at_best_effort(model: ModelDemand) -> ModelDemand:
    configurations = tuple(
        replace(c, capacities=tuple(replace(one, rate=max(one.rate, one.best_effort)) for one in c.capacities))
        for c in model.configurations
    )
    return replace(model, configurations=configurations)
