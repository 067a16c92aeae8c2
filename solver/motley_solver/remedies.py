"""The nearest changes that let in what is not served. Each is tried on the whole problem, so that it holds when it is
made although others go first; words are made elsewhere."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, prod

from motley_solver.limits import Limit, limits_of, without
from motley_solver.plan import Plan, Unserved
from motley_solver.problem import ModelDemand, Problem
from motley_solver.reasons import hopeless
from motley_solver.whatif import Change, Changeable, Question, Questions, Target, answering_in, as_served
from motley_solver.workload import Bucket

_NUMBERS = ("stock", "budget", "max_replicas")
LOOSEST = 100.0
"""A latency target is loosened to this multiple at most."""
_PARTS, _ROUNDS = 8, 3  # of the range of multiples, on a scale of ratios: to 1 %
_FURTHER = (1.0, 1.1, 1.25, 1.5, 2.0)
_BUDGETS = 13  # halvings of the range of budgets


@dataclass(frozen=True)
class Remedy:
    """Changes that together let the load be served and leave no less of other models' served, and what the whole fleet
    then costs: a plan was found for it."""

    changes: tuple[Change, ...]
    cost_per_hour: float
    least: bool = True  # False where it was not found out in time whether less is enough


def remedies(
    problem: Problem,
    plan: Plan,
    model: ModelDemand,
    buckets: Collection[Bucket],
    limits: Sequence[Limit],
    questions: Questions,
) -> tuple[Remedy, ...]:
    """For these sizes of a model, which lack something in this fleet, the simplest first and then the cheapest: the
    least change of each limit alone; where none of them is enough, of several together."""
    search = _Search(problem, plan, model, frozenset(buckets), questions)
    slow = any(limit.kind == "slo" for limit in limits)
    found = [*search.of_minimum(), *search.of_numbers(limits), *(search.of_targets() if slow else ())]
    if not found:
        found = [*(search.of_all_targets() if slow else ()), *search.of_several(limits, 1.0)]
    if not found and slow:
        found = [*search.of_targets_and_several(limits)]
    return _ordered(found)


def everything(problem: Problem, plan: Plan, questions: Questions) -> Remedy | None:
    """What stock, budget and replicas would have to be for all that these GPUs can serve; None where that is not enough
    (a survivability floor), or not known."""
    limits = {limit: None for model in problem.models for limit in limits_of(problem, plan, model)}
    free = problem
    for limit in limits:
        if limit.kind in _NUMBERS:
            free = without(free, limit.name, [limit])
    found = questions.answer(Question("remedy", "", "everything"), free)
    if found is None or any(not hopeless(problem, one, left.bucket) for one, left in _left(problem, found)):
        return None
    changes = tuple(change for limit in limits if (change := _exceeding(found, limit)))
    return Remedy(changes, found.cost_per_hour) if changes else None


def _left(problem: Problem, plan: Plan) -> Iterator[tuple[ModelDemand, Unserved]]:
    models = {model.name: model for model in problem.models}
    return ((models[one.model], one) for one in plan.unserved)


def _exceeding(plan: Plan, limit: Limit) -> Change | None:
    """Where a plan that was made without a limit is beyond it."""
    match limit.kind:
        case "budget":
            needed = _cents(plan.cost_per_hour)
        case "stock" | "max_replicas":
            needed = _used(plan, limit.kind, limit.name)
        case _:
            return None
    return Change(limit.kind, limit.name, limit.value, needed) if needed > limit.value else None


def looser(
    problem: Problem, plan: Plan, model: ModelDemand, buckets: Collection[Bucket], questions: Questions
) -> tuple[Remedy, ...]:
    """For sizes that nothing serves within the latency targets."""
    search = _Search(problem, plan, model, frozenset(buckets), questions)
    found = [*search.of_targets()] or [*search.of_all_targets()] or [*search.of_targets_and_several(())]
    return _ordered(found)


def _multiplied(remedy: Remedy) -> float:
    return prod(max(one.to, one.now, 1.0) / max(min(one.to, one.now), 1.0) for one in remedy.changes)


def _ordered(found: Sequence[Remedy]) -> tuple[Remedy, ...]:
    return tuple(sorted(found, key=lambda one: (len(one.changes), one.cost_per_hour)))


@dataclass(frozen=True)
class _Search:
    problem: Problem
    plan: Plan
    model: ModelDemand
    buckets: frozenset[Bucket]
    questions: Questions

    # one change

    def of_minimum(self) -> Iterator[Remedy]:
        """Where nothing but replicas is missing: what there is room for."""
        missing = [one for one in self.plan.unserved if one.model == self.model.name]
        if missing and all(one.rate == 0 for one in missing):
            there = answering_in(self.problem, self.plan, self.model)
            yield from self._enough((Change("min_replicas", self.model.name, self.model.min_replicas, there),))

    def of_numbers(self, limits: Sequence[Limit]) -> Iterator[Remedy]:
        for limit in limits:
            match limit.kind:
                case "stock":
                    yield from self._of_count("stock", limit)
                case "max_replicas":
                    yield from self._of_count("max_replicas", limit)
                case "budget":
                    yield from self._of_budget(limit)
                case "survivability":
                    yield from self._of_floor(limit)

    def _of_count(self, kind: Changeable, limit: Limit) -> Iterator[Remedy]:
        free = self._served(kind, without(self.problem, self.model.name, [limit]))
        if free is None or _used(free, kind, limit.name) <= limit.value:
            return

        def enough(number: int) -> Plan | None:
            return self._with((Change(kind, limit.name, limit.value, number),))

        number, answer = _least(int(limit.value) + 1, _used(free, kind, limit.name), free, enough)
        yield self._remedy((Change(kind, limit.name, limit.value, number),), answer)

    def _of_budget(self, limit: Limit) -> Iterator[Remedy]:
        best = self._served("budget", without(self.problem, self.model.name, [limit]))
        if best is None:
            return
        low, high = limit.value, _cents(best.cost_per_hour)
        for _ in range(_BUDGETS):
            if answer := self._with((Change("budget", "", limit.value, (low + high) / 2),)):
                best, high = answer, _cents(answer.cost_per_hour)  # what it costs is enough for it
            else:
                low = (low + high) / 2
        yield self._remedy((Change("budget", "", limit.value, high),), best)

    def _of_floor(self, limit: Limit) -> Iterator[Remedy]:
        """In steps of a hundredth."""

        def lowered(steps: int) -> tuple[Change]:
            to = max(0.0, round(limit.value - steps / 100, 4))
            return (Change("survivability", self.model.name, limit.value, to),)

        most = ceil(limit.value * 100)
        if free := self._with(lowered(most)):
            steps, answer = _least(1, most, free, lambda steps: self._with(lowered(steps)))
            yield self._remedy(lowered(steps), answer)

    def of_targets(self) -> Iterator[Remedy]:
        """TTFT alone, and TPOT alone."""
        yield from self._of_target("ttft")
        yield from self._of_target("tpot")

    def of_all_targets(self) -> Iterator[Remedy]:
        yield from self._of_target("slo")

    def _of_target(self, target: Target) -> Iterator[Remedy]:
        if found := self._least_factor(target, lambda factor: self._with((self._loosened(target, factor),))):
            factor, answer = found
            yield self._remedy((self._loosened(target, factor),), answer)

    # several changes

    def of_several(self, limits: Sequence[Limit], factor: float) -> Iterator[Remedy]:
        """Where the cheapest plan, were all numbers free, exceeds what is allowed. It is enough to serve these sizes,
        or else these and all that goes before them, or else whatever then can be."""
        for whole in (self._own(), self._own() | self._first(), None):
            found = self._free(limits, factor, whole)
            if found and (enough := [*self._enough(self._exceeding(found, limits, factor))]):
                yield from enough
                return

    def of_targets_and_several(self, limits: Sequence[Limit]) -> Iterator[Remedy]:
        """The least factor may need very many nodes: of some more the one is taken that multiplies least in all."""
        whole = self._own()
        if found := self._least_factor("slo", lambda factor: self._free(limits, factor, whole)):
            tried = [one for more in _FURTHER for one in self.of_several(limits, found[0] * more)]
            yield from sorted(tried, key=_multiplied)[:1]

    def _own(self) -> set[tuple[str, Bucket]]:
        return {(self.model.name, bucket) for bucket in self.buckets}

    def _first(self) -> set[tuple[str, Bucket]]:
        """What else is left out, could be served and is not less important."""
        able = {one.name: one for one in self.problem.models if one.priority >= self.model.priority}
        rows = [(one.model, one.bucket) for one in self.plan.unserved if one.model in able]
        return {(name, bucket) for name, bucket in rows if not hopeless(self.problem, able[name], bucket)}

    def _numbers(self, limits: Sequence[Limit]) -> list[Limit]:
        floors = [one for one in limits if one.kind == "survivability"]
        known = limits_of(self.problem, self.plan, self.model)
        return [*(one for one in known if one.kind in _NUMBERS), *floors]

    def _free(self, limits: Sequence[Limit], factor: float, whole: set[tuple[str, Bucket]] | None) -> Plan | None:
        def asked() -> Problem:
            looser = self._changed((self._loosened("slo", factor),) if factor > 1 else ())
            wanted = looser if whole is None else as_served(looser, self.plan, whole)
            return without(wanted, self.model.name, self._numbers(limits))

        answer = self.questions.answer(self._question("several"), asked)
        return answer if answer is not None and (self._lets_in(answer) if whole is None else answer.complete) else None

    def _exceeding(self, found: Plan, limits: Sequence[Limit], factor: float) -> tuple[Change, ...]:
        changes = [self._loosened("slo", factor)] if factor > 1 else []
        for limit in self._numbers(limits):
            if limit.kind == "survivability":
                changes.append(Change("survivability", limit.name, limit.value, 0.0))
            elif change := _exceeding(found, limit):
                changes.append(change)
        return tuple(changes)

    # is it enough?

    def _loosened(self, target: Target, factor: float) -> Change:
        return Change(target, self.model.name, 1.0, factor)

    def _least_factor(self, target: Target, plan: Callable[[float], Plan | None]) -> tuple[float, Plan] | None:
        if self.questions.loosened is None or (best := plan(LOOSEST)) is None:
            return None
        low, high = 1.0, LOOSEST
        for _ in range(_ROUNDS):
            factors = [low * (high / low) ** (part / _PARTS) for part in range(_PARTS + 1)]
            self.questions.work_ahead(self._loosened(target, factor) for factor in factors[1:-1])
            part, best = _least(1, _PARTS, best, partial(_at, plan, factors))
            low, high = factors[part - 1], factors[part]
        return (high, best) if high < LOOSEST else None  # nobody would do that: rather nothing is found out in time

    def _remedy(self, changes: tuple[Change, ...], plan: Plan) -> Remedy:
        least = self._question(changes[0].kind) not in self.questions.unanswered
        return Remedy(changes, plan.cost_per_hour, least)

    def _enough(self, changes: tuple[Change, ...]) -> Iterator[Remedy]:
        if answer := self._with(changes):
            yield Remedy(changes, answer.cost_per_hour)

    def _with(self, changes: tuple[Change, ...]) -> Plan | None:
        return self._served(changes[0].kind, lambda: self._changed(changes))

    def _changed(self, changes: tuple[Change, ...]) -> Problem:
        asked = self.problem
        for change in changes:
            asked = self.questions.changed(asked, change)
        return asked

    def _question(self, detail: str) -> Question:
        return Question("remedy", self.model.name, detail)

    def _served(self, detail: str, asked: Problem | Callable[[], Problem]) -> Plan | None:
        """The plan that would be made, if it lets these sizes in."""
        answer = self.questions.answer(self._question(detail), asked)
        return answer if answer is not None and self._lets_in(answer) else None

    def _lets_in(self, plan: Plan) -> bool:
        """It serves these sizes and, priority by priority, no less of other models."""
        before = {one.bucket for one in self.plan.unserved if one.model == self.model.name} - self.buckets
        if not {one.bucket for one in plan.unserved if one.model == self.model.name} <= before:
            return False
        now = self._of_others(plan)
        return all(now[one] >= served * (1 - 1e-6) for one, served in self._of_others(self.plan).items())

    def _of_others(self, plan: Plan) -> dict[int, float]:
        """What other models are served, by priority."""
        priorities = {one.name: one.priority for one in self.problem.models}
        served: dict[int, float] = defaultdict(float)
        for one in plan.models:
            if one.model != self.model.name:
                served[priorities[one.model]] += one.served
        return served


def _at(plan: Callable[[float], Plan | None], factors: Sequence[float], part: int) -> Plan | None:
    return plan(factors[part])


def _least(low: int, high: int, best: Plan, plan: Callable[[int], Plan | None]) -> tuple[int, Plan]:
    """The least number for which there is a plan, and the plan; `best` is that of `high`."""
    while low < high:
        middle = (low + high) // 2
        if answer := plan(middle):
            high, best = middle, answer
        else:
            low = middle + 1
    return high, best


def _used(plan: Plan, kind: Changeable, name: str) -> int:
    if kind == "stock":
        return sum(one.nodes for one in plan.nodes if one.pool == name)
    return sum(one.replicas for one in plan.allocations if one.model == name)


def _cents(amount: float) -> float:
    """Rounded up, so that a plan of this cost fits."""
    return ceil(amount * 100 - 1e-6) / 100
