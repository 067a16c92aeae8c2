"""What keeps load unserved: a smallest set of limits that contradict one another, and the nearest changes that resolve
it. Found by solving with limits taken away one after the other, never by guessing; words are made elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from motley_solver.limits import Limit, limits_of, without
from motley_solver.plan import Plan
from motley_solver.problem import ModelDemand, Problem, Shortfall
from motley_solver.reasons import hopeless, nearest_shortfall
from motley_solver.remedies import Remedy, looser, remedies
from motley_solver.whatif import Question, Questions, as_served
from motley_solver.workload import Bucket

_MODELS = 4  # so many share the time; with more, the last go without if the first take long
_ANY_GAP = 0.5  # where it matters only whether everything can be served, not at what cost


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
    remedies: tuple[Remedy, ...]  # the simplest first, then the cheapest
    each: bool = False
    shortfall: Shortfall | None = None


def conflicts(problem: Problem, plan: Plan, questions: Questions) -> tuple[Conflict, ...]:
    """Per model one for the sizes that no plan could serve and one for those that lack something in this fleet, the
    most important model first. Each has its part of the time, as long as that is enough to find something out."""
    lacking = {one.model for one in plan.unserved}
    models = sorted((one for one in problem.models if one.name in lacking), key=lambda one: -one.priority)
    found: list[Conflict] = []
    least = (questions.deadline - monotonic()) / _MODELS
    for left, model in zip(range(len(models), 0, -1), models, strict=True):
        now = monotonic()
        share = max((questions.deadline - now) / left, least)
        found += _of_model(problem, plan, model, replace(questions, deadline=min(now + share, questions.deadline)))
    return tuple(found)


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
        cures = looser(problem, plan, model, buckets, questions) if kind in _LATENCY else ()
        rate = sum(rate for _, rate, *_ in found)
        yield Conflict(model.name, buckets, rate, reason, (), cures, shortfall=shortfall)
    if within:
        buckets = tuple(one.bucket for one in within)
        limits, each = _contradicting(problem, plan, model, buckets, questions)
        cures = remedies(problem, plan, model, buckets, limits, questions) if limits is not None else ()
        yield Conflict(model.name, buckets, sum(one.rate for one in within), within[0].reason, limits, cures, each)


_LATENCY = ("ttft", "tpot")


def _contradicting(
    problem: Problem, plan: Plan, model: ModelDemand, buckets: Sequence[Bucket], questions: Questions
) -> tuple[tuple[Limit, ...] | None, bool]:
    """(limits, does each alone keep the load out?): those that do, else an irreducible set by the deletion filter, for
    which a limit without which the rest still contradicts itself is none of the reasons."""
    question = Question("conflict", model.name)
    asked = as_served(problem, plan, {(model.name, bucket) for bucket in buckets})
    limits = list(limits_of(problem, plan, model))

    def possible(away: Sequence[Limit]) -> bool | None:
        found = questions.answer(question, without(asked, model.name, away), _ANY_GAP)
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
