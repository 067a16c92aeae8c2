"""What would be if one number of a problem were another: the changed problem, and a plan for it under one time limit
that all questions share. Everything is solved, nothing estimated; words for people are made elsewhere."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from time import monotonic
from typing import Literal

from motley_solver.ilp import solve
from motley_solver.packing import per_node, size_of
from motley_solver.plan import Plan
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem
from motley_solver.rounding import answering
from motley_solver.workload import Bucket

Target = Literal["ttft", "tpot", "slo"]
"""Of the latency targets one, or all of them."""
Changeable = Literal["stock", "budget", "max_replicas", "min_replicas", "survivability", "ttft", "tpot", "slo"]
Loosened = Callable[[str, Target, float], Problem]
"""(model, target, factor) → the whole problem formulated anew with this latency target of this model so many times as
long: capacities follow from targets in ways that a Problem does not know."""

Ahead = Callable[[Sequence["Change"]], None]
"""(changes of latency targets) → works out what `Loosened` needs for each: at once this is quicker than one by one."""

MOST_NODES = 10_000
_TOGETHER = 8  # changes that are worked out at once: a deadline is to be kept
_LEAST_SECONDS = 0.2
_NEARLY = 1 - 1e-4  # of a bucket that is served in part: what fills replicas to the last digit fails by rounding


@dataclass(frozen=True)
class Change:
    """One number of a problem and what it would be instead, of the pool or model `name` ("" for the budget): nodes,
    currency per hour, replicas, part of the load that survives; for latency targets multiples of the present ones."""

    kind: Changeable
    name: str
    now: float
    to: float


@dataclass(frozen=True)
class Question:
    """What is asked, so that it can be said what was not answered in time."""

    about: Literal["change", "alternative", "placement", "conflict", "remedy"]
    name: str  # GPU type or model; of a change its pool or model
    detail: str = ""  # kind of a change or of what an alternative does without, GPU type of a placement


@dataclass
class Questions:
    """Asks the optimisation until the deadline; each question gets at most a quarter of what is left, so that one hard
    one does not silence the others."""

    deadline: float
    loosened: Loosened | None = None
    ahead: Ahead | None = None
    unanswered: list[Question] = field(default_factory=list)

    @property
    def late(self) -> bool:
        return self.deadline - monotonic() < _LEAST_SECONDS

    def answer(
        self, question: Question, problem: Problem | Callable[[], Problem], relative_gap: float = 1e-6
    ) -> Plan | None:
        """The plan for this problem, complete or proven to be all that can be; None, and noted, where neither was found
        in time. A problem that takes time to formulate is given as a function and not even made when it is late."""
        if not self.late:
            asked = problem if isinstance(problem, Problem) else problem()
            outcome = solve(asked, max(_LEAST_SECONDS, (self.deadline - monotonic()) / 4), relative_gap)
            if isinstance(outcome, Plan) and (outcome.complete or outcome.proven):
                return outcome
        if question not in self.unanswered:
            self.unanswered.append(question)
        return None

    def work_ahead(self, changes: Iterable[Change]) -> None:
        """Of latency targets; others need no work."""
        targets = [one for one in changes if one.kind in ("ttft", "tpot", "slo")]
        for start in range(0, len(targets), _TOGETHER):
            if self.ahead and not self.late:
                self.ahead(targets[start : start + _TOGETHER])

    def changed(self, problem: Problem, change: Change) -> Problem:
        return changed(problem, change, self.loosened)


def changed(problem: Problem, change: Change, loosened: Loosened | None = None) -> Problem:
    """Latency targets are changed in the problem as it was formulated, so such a change must be the first of several;
    KeyError where there is nothing to formulate it anew with."""
    match change.kind:
        case "stock":
            return with_pools(problem, lambda p: replace(p, max_nodes=round(change.to)), {change.name})
        case "budget":
            return replace(problem, budget_per_hour=change.to)
        case "max_replicas":
            return with_models(problem, lambda m: replace(m, max_replicas=round(change.to)), {change.name})
        case "min_replicas":
            return with_models(problem, lambda m: replace(m, min_replicas=round(change.to)), {change.name})
        case "survivability":
            return with_models(problem, lambda m: replace(m, survivability=change.to), {change.name})
        case "ttft" | "tpot" | "slo":
            if loosened is None:
                raise KeyError(change.kind)
            return loosened(change.name, change.kind, change.to)


def with_models(
    problem: Problem, change: Callable[[ModelDemand], ModelDemand], names: Collection[str] | None = None
) -> Problem:
    """With these models changed; without names all of them."""
    models = tuple(change(m) if names is None or m.name in names else m for m in problem.models)
    return replace(problem, models=models)


def with_pools(problem: Problem, change: Callable[[Pool], Pool], names: Collection[str]) -> Problem:
    return replace(problem, pools=tuple(change(p) if p.name in names else p for p in problem.pools))


def allowing(
    problem: Problem, allowed: Callable[[Configuration], bool], names: Collection[str] | None = None
) -> Problem:
    """With only those configurations of these models; the pools stay, and reserved nodes are paid all the same."""
    return with_models(
        problem, lambda m: replace(m, configurations=tuple(c for c in m.configurations if allowed(c))), names
    )


def as_served(problem: Problem, plan: Plan, whole: Collection[tuple[str, Bucket]] = ()) -> Problem:
    """The problem of serving what the plan serves, and the buckets in `whole` entirely: then every limit can be asked
    about although something is left out. What may be outside the SLO stays the same number of requests per second."""
    left = {(one.model, one.bucket): one.rate for one in plan.unserved}

    def served(model: ModelDemand) -> ModelDemand:
        loads = tuple(
            load
            if (model.name, load.bucket) in whole or (model.name, load.bucket) not in left
            else replace(load, rate=max(0.0, load.rate - left[model.name, load.bucket]) * _NEARLY)
            for load in model.buckets
        )
        rate, before = sum(load.rate for load in loads), model.rate
        outside = (1 - model.attainment) * before / rate if rate else 0.0
        least = model.min_replicas
        if not any(name == model.name for name, _ in whole):
            least = min(least, answering_in(problem, plan, model))
        attainment = max(0.0, 1 - outside) if model.attainment < 1 else 1.0
        return replace(model, buckets=loads, attainment=attainment, min_replicas=least)

    return with_models(problem, served, {one.model for one in plan.unserved})


def answering_in(problem: Problem, plan: Plan, model: ModelDemand) -> int:
    """The model's replicas in this plan, as minReplicas counts them."""
    replicas: Counter[str] = Counter()
    for one in plan.allocations:
        replicas[one.configuration] += one.replicas if one.model == model.name else 0
    return answering(model, replicas, {pool.name: pool for pool in problem.pools})


def plenty(problem: Problem, pool: Pool) -> int:
    """Nodes of a pool that suffice to put every request there that it can serve, as far as that is a sane number."""
    needed = 0.0
    for model in problem.models:
        here = [c for c in model.configurations if pool.name in c.pools and per_node(size_of(c), pool)]
        for load in model.buckets:
            work = [
                max(1, ceil(load.rate * (1 + problem.headroom) / capacity)) / per_node(size_of(c), pool)
                for c in here
                for capacity in (c.capacity(load.bucket).rate, c.capacity(load.bucket).best_effort)
                if capacity > 0
            ]
            needed += max(work, default=0.0)
        needed += model.min_replicas if here else 0
    return pool.max_nodes + max(1, min(MOST_NODES, ceil(needed)))
