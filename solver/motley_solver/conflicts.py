"""What keeps load unserved: a smallest set of limits that contradict one another, and the nearest changes that resolve
it. Found by solving with limits taken away one after the other, never by guessing; words are made elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Literal

from motley_solver.plan import Plan
from motley_solver.problem import Configuration, ModelDemand, Problem, Shortfall
from motley_solver.reasons import hopeless, nearest_shortfall, room_in
from motley_solver.whatif import (
    Change,
    Changeable,
    Question,
    Questions,
    Target,
    as_served,
    least,
    plenty,
    with_models,
    with_pools,
)
from motley_solver.workload import Bucket

LimitKind = Literal["stock", "budget", "max_replicas", "survivability", "slo", "others"]
FACTORS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""How far a latency target is loosened at most, and the steps in which the first that helps is sought."""
_REFINEMENTS = 4
_ANY_GAP = 0.5  # where it matters only whether everything can be served, not at what cost


@dataclass(frozen=True)
class Limit:
    """One thing that cannot stay if the load is to be served, and the others with it do."""

    kind: LimitKind
    name: str = ""  # the pool of a stock
    value: float = 0.0  # nodes, currency per hour, replicas, part that survives
    models: tuple[str, ...] = ()  # of "others": those that take what this model would need


@dataclass(frozen=True)
class Remedy:
    """Changes that together let the load be served, and what the whole fleet then costs: a plan was found for it."""

    changes: tuple[Change, ...]
    cost_per_hour: float


@dataclass(frozen=True)
class Conflict:
    """Load of one model that is left out. With `each`, every one of `limits` alone keeps it out; else only together,
    and without any one of them (and the limits not named) it could be served. Empty limits: nothing serves these
    sizes, for the `shortfall` or the reason that the plan gives. None: not found out."""

    model: str
    buckets: tuple[Bucket, ...]
    rate: float  # requests per second that are left out
    reason: str
    limits: tuple[Limit, ...] | None
    remedies: tuple[Remedy, ...]  # the cheapest first
    each: bool = False
    shortfall: Shortfall | None = None


def conflicts(problem: Problem, plan: Plan, questions: Questions) -> tuple[Conflict, ...]:
    """Per model one for the sizes that no plan could serve and one for those that lack something in this fleet."""
    return tuple(one for model in problem.models for one in _of_model(problem, plan, model, questions))


def _of_model(problem: Problem, plan: Plan, model: ModelDemand, questions: Questions) -> Iterator[Conflict]:
    mine = [one for one in plan.unserved if one.model == model.name]
    beyond = [one for one in mine if hopeless(problem, model, one.bucket)]
    within = [one for one in mine if one not in beyond]
    by_kind: dict[str, list[tuple[Bucket, float, str, Shortfall | None]]] = {}
    for one in beyond:
        short = (nearest_shortfall(model, one.bucket) or ("", None))[1]
        by_kind.setdefault(short.kind if short else "", []).append((one.bucket, one.rate, one.reason, short))
    for kind, found in by_kind.items():
        buckets = tuple(bucket for bucket, *_ in found)
        _, _, reason, shortfall = found[0]
        remedies = _looser(problem, plan, model, buckets, questions) if kind in _LATENCY else ()
        rate = sum(rate for _, rate, *_ in found)
        yield Conflict(model.name, buckets, rate, reason, (), remedies, shortfall=shortfall)
    if within:
        buckets = tuple(one.bucket for one in within)
        limits, each = _contradicting(problem, plan, model, buckets, questions)
        remedies = tuple(_remedies(problem, plan, model, buckets, limits or (), questions))
        ordered = tuple(sorted(remedies, key=lambda one: (len(one.changes), one.cost_per_hour)))
        yield Conflict(model.name, buckets, sum(one.rate for one in within), within[0].reason, limits, ordered, each)


_LATENCY = ("ttft", "tpot")


# --- the limits ---


def _contradicting(
    problem: Problem, plan: Plan, model: ModelDemand, buckets: Sequence[Bucket], questions: Questions
) -> tuple[tuple[Limit, ...] | None, bool]:
    """(limits, does each alone keep the load out?): those that do, else an irreducible set by the deletion filter, for
    which a limit without which the rest still contradicts itself is none of the reasons."""
    question = Question("conflict", model.name)
    asked = as_served(problem, plan, {(model.name, bucket) for bucket in buckets})
    limits = list(_limits(problem, plan, model))

    def possible(without: Sequence[Limit]) -> bool | None:
        found = questions.answer(question, _without(asked, model.name, without), _ANY_GAP)
        return None if found is None else found.complete

    if not possible(limits):
        return None, False
    alone = [limit for limit in limits if possible([other for other in limits if other != limit]) is False]
    if alone:
        return tuple(alone), True
    away: list[Limit] = []
    for limit in limits:
        helps = possible([*away, limit])
        if helps is None:
            return None, False
        if not helps:
            away.append(limit)
    return tuple(limit for limit in limits if limit not in away), False


def _limits(problem: Problem, plan: Plan, model: ModelDemand) -> Iterator[Limit]:
    """Those that may matter; the first are the first to be found needless."""
    if model.survivability > 0:
        yield Limit("survivability", model.name, model.survivability)
    if any(_slow(c) for c in model.configurations):
        yield Limit("slo", model.name)
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


def _slow(configuration: Configuration) -> bool:
    return any(c.best_effort > c.rate for c in configuration.capacities)


def _without(problem: Problem, model: str, limits: Sequence[Limit]) -> Problem:
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


# --- the changes ---


def _remedies(
    problem: Problem,
    plan: Plan,
    model: ModelDemand,
    buckets: Sequence[Bucket],
    limits: Sequence[Limit],
    questions: Questions,
) -> Iterator[Remedy]:
    """Whatever resolves the conflict must change one of its limits; changes of one number, else of several at once."""
    asked = as_served(problem, plan, {(model.name, bucket) for bucket in buckets})
    numbers = [limit for limit in limits if limit.kind in ("stock", "budget", "max_replicas", "survivability")]
    single = [one for limit in numbers if (one := _single(asked, model, limit, questions))]
    if any(limit.kind == "slo" for limit in limits):
        single += _looser(problem, plan, model, buckets, questions)
    yield from single
    if not single and numbers and (together := _together(asked, plan, model, numbers, questions)):
        yield together


def _single(asked: Problem, model: ModelDemand, limit: Limit, questions: Questions) -> Remedy | None:
    """The least change of this limit alone; None where it does not help alone."""
    question = Question("remedy", model.name, limit.kind)
    free = questions.answer(question, _without(asked, model.name, [limit]))
    if free is None or not free.complete:
        return None
    if limit.kind == "budget":
        return Remedy((Change("budget", "", limit.value, _cents(free.cost_per_hour)),), free.cost_per_hour)
    if limit.kind == "survivability":
        return Remedy((Change("survivability", model.name, limit.value, 0.0),), free.cost_per_hour)
    kind: Changeable = "stock" if limit.kind == "stock" else "max_replicas"
    found = {_used(free, kind, limit.name): free}
    if max(found) <= limit.value:
        return None

    def holds(number: int) -> bool:
        change = Change(kind, limit.name, limit.value, number)
        answer = questions.answer(question, questions.changed(asked, change))
        if answer is not None and answer.complete:
            found[number] = answer
        return number in found

    number = least(int(limit.value) + 1, max(found), holds)
    return Remedy((Change(kind, limit.name, limit.value, number),), found[number].cost_per_hour)


def _used(plan: Plan, kind: Changeable, name: str) -> int:
    if kind == "stock":
        return sum(one.nodes for one in plan.nodes if one.pool == name)
    return sum(one.replicas for one in plan.allocations if one.model == name)


def _cents(amount: float) -> float:
    """Rounded up, so that a plan of this cost fits."""
    return ceil(amount * 100 - 1e-6) / 100


def _together(
    asked: Problem, plan: Plan, model: ModelDemand, limits: Sequence[Limit], questions: Questions
) -> Remedy | None:
    """The cheapest plan were stock, budget and replicas free, and survivability where it is one of the limits; the
    changes are where it exceeds what is allowed."""
    free = [one for one in _limits(asked, plan, model) if one.kind in ("stock", "budget", "max_replicas")]
    floors = [one for one in limits if one.kind == "survivability"]
    found = questions.answer(Question("remedy", model.name), _without(asked, model.name, [*free, *floors]))
    if found is None or not found.complete:
        return None
    changes = [Change("survivability", one.name, one.value, 0.0) for one in floors]
    for limit in free:
        kind: Changeable = "budget" if limit.kind == "budget" else "stock" if limit.kind == "stock" else "max_replicas"
        needed = _cents(found.cost_per_hour) if kind == "budget" else _used(found, kind, limit.name)
        if needed > limit.value:
            changes.append(Change(kind, limit.name, limit.value, needed))
    return Remedy(tuple(changes), found.cost_per_hour)


def _looser(
    problem: Problem, plan: Plan, model: ModelDemand, buckets: Sequence[Bucket], questions: Questions
) -> tuple[Remedy, ...]:
    """The least loosening of TTFT alone, and of TPOT alone, with which these sizes are served."""
    if questions.loosened is None:
        return ()
    found = (_loosened(problem, plan, model, buckets, target, questions) for target in _TARGETS)
    return tuple(one for one in found if one is not None)


_TARGETS: tuple[Target, ...] = ("ttft", "tpot")


def _loosened(
    problem: Problem, plan: Plan, model: ModelDemand, buckets: Sequence[Bucket], target: Target, questions: Questions
) -> Remedy | None:
    question = Question("remedy", model.name, target)

    def served(factor: float) -> Plan | None:
        change = Change(target, model.name, 1.0, factor)
        whole = {(model.name, bucket) for bucket in buckets}
        answer = questions.answer(question, lambda: as_served(questions.changed(problem, change), plan, whole))
        return answer if answer is not None and answer.complete else None

    if served(FACTORS[-1]) is None:
        return None
    low, high, best = 1.0, FACTORS[-1], None
    for before, factor in pairwise(FACTORS):
        best = served(factor)
        if best is not None:
            low, high = before, factor
            break
    for _ in range(_REFINEMENTS):
        middle = (low + high) / 2
        if found := served(middle):
            high, best = middle, found
        else:
            low = middle
    return Remedy((Change(target, model.name, 1.0, high),), best.cost_per_hour) if best else None
