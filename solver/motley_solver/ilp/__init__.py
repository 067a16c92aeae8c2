"""The optimisation: all models and pools at once, exactly; flows continuous, replicas and nodes whole.
It knows numbers; words for people are in `reasons`."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf
from time import monotonic

from motley_solver.assembly import plan_of
from motley_solver.check import violations
from motley_solver.classes import by_class, spread
from motley_solver.ilp.decomposition import Decomposition
from motley_solver.ilp.fleet import FleetProgram, fleet_program, reserved_bill
from motley_solver.ilp.greedy import Room, greedily
from motley_solver.ilp.nodes import price_unit
from motley_solver.ilp.program import LE, Answer, Terms, value, within
from motley_solver.ilp.sequence import one_by_one
from motley_solver.ilp.serving import kinds_of
from motley_solver.plan import Infeasible, Outcome, Unsolved
from motley_solver.problem import ModelDemand, Problem
from motley_solver.rounding import Solution

__all__ = ["solve"]

_LIMITS = [2_000, 30_000]  # flows, beyond which a fleet of several models is large, and too large for one program
_FEW = 12  # fewer models are large at as many times more flows: prices need many bidders to settle


@dataclass(frozen=True)
class _Found:
    """A solution, and what is known of the best there is. `objective` and `bound` are bill, risk and switching in $ per
    hour; an infinite objective is the proof that no solution serves everything."""

    solution: Solution
    objective: float
    bound: float
    proven: bool
    most: bool = True  # proven that no more can be served


def solve(problem: Problem, time_limit_seconds: float = 20.0, relative_gap: float = 1e-6) -> Outcome:
    """The plan of least objective (bill, switching and risk) that serves everything; where that is impossible, the one
    that serves most, by priority, and is then cheapest. `Infeasible` only where hard limits contradict one another."""
    started = monotonic()
    deadline = started + time_limit_seconds
    if contradictions := tuple(_contradictions(problem)):
        return Infeasible(contradictions)
    asked, members = by_class(problem)
    found = _whole(asked, within(deadline, 0.95), relative_gap) or _in_part(asked, deadline, relative_gap)
    if found is None:
        return Unsolved(f"no plan was found within {time_limit_seconds:g} s: allow more time, or fewer sizes or pools")
    bound = max(reserved_bill(problem), found.bound)
    plan = plan_of(problem, spread(found.solution, members), bound, found.proven, monotonic() - started)
    if plan.objective > found.objective * (1 + 1e-6) + 1e-9:  # rounding has made it dearer than what was proven
        plan = replace(plan, proven=False)
    broken = violations(problem, plan)
    return Unsolved(f"the solver's answer was refused: {broken[0]}") if broken else plan


# --- everything served ---


def _whole(problem: Problem, deadline: float, gap: float) -> _Found | None:
    """By the method that suits the size; while nothing is proven and there is time, by the other too: now the one finds
    the better plan and now the other, and the higher of their bounds holds."""
    methods = _METHODS[_size(problem)] if len(problem.models) > 1 else _ALONE
    found: _Found | None = None
    for method, part in methods:
        found = _better(found, method(problem, within(deadline, part), gap), gap)
        if found is not None and found.proven:
            break
    return found if found is not None and found.objective < inf else None


def _better(one: _Found | None, other: _Found | None, gap: float) -> _Found | None:
    if one is None or other is None:
        return one or other
    best, bound = min(one, other, key=lambda found: found.objective), max(one.bound, other.bound)
    closed = best.objective - bound <= gap * max(abs(best.objective), 1e-9)
    return replace(best, bound=bound, proven=best.proven or closed)


def _at_once(problem: Problem, deadline: float, gap: float) -> _Found | None:
    fleet = fleet_program(problem, everything=True)
    answer = fleet.program.minimise(fleet.objective, within(deadline, 0.9), gap)
    if answer.status == "infeasible":
        return _Found(Solution({}, {}, {}, {}), inf, inf, proven=True)
    return _least_change(fleet, answer, deadline) if answer.found else None


def _model_by_model(problem: Problem, deadline: float, gap: float) -> _Found | None:
    """Where it has found no plan, it leaves time to look for one that serves less."""
    parts = Decomposition(problem)
    solution = parts.solve(deadline, gap, early=within(deadline, 0.75))
    if solution is None:
        return None
    reserved = reserved_bill(problem)
    objective, bound = parts.best.objective * parts.unit + reserved, parts.bound * parts.unit + reserved
    return _Found(solution, objective, bound, parts.closed)


def _greedily(problem: Problem, deadline: float, gap: float) -> _Found | None:
    """Poor, but there at once."""
    models = ((model, kinds_of(problem, model)) for model in problem.models)
    solution, complete = greedily(problem, models, Room(problem))
    objective = plan_of(problem, solution, 0.0, False, 0.0).objective
    return _Found(solution, objective, reserved_bill(problem), proven=False) if complete else None


# With the part of the time that is left: for one model, which has no others to be planned beside; for a small, a large
# and a very large fleet, of which the model by model begins greedily.
_ALONE = ((_at_once, 1.0), (_greedily, 1.0))
_METHODS = (
    ((_at_once, 0.6), (_model_by_model, 1.0)),
    ((_model_by_model, 0.8), (_at_once, 1.0)),
    ((_model_by_model, 1.0),),
)


def _size(problem: Problem) -> int:
    """0 is small, 1 large, 2 too large for one program."""
    models, flows = len(problem.models), _flows(problem)
    large, too_large = _LIMITS
    return (flows > large * max(1, _FEW / models)) + (flows > too_large) if models > 1 else 0


def _flows(problem: Problem) -> int:
    spot = sum(pool.spot for pool in problem.pools)  # each of them may be lost
    ways = ((model, 1 + spot if model.survivability > 0 else 1) for model in problem.models)
    return sum(len(model.buckets) * len(model.configurations) * times for model, times in ways)


def _found(fleet: FleetProgram, answer: Answer) -> _Found:
    unit, reserved = price_unit(fleet.problem), reserved_bill(fleet.problem)
    bound = answer.bound * unit + reserved if fleet.exact else 0.0
    proven = answer.status == "optimal" and fleet.exact
    return _Found(fleet.solution(), answer.objective * unit + reserved, bound, proven)


# --- as much as can be served ---


def _in_part(problem: Problem, deadline: float, gap: float) -> _Found | None:
    """All priorities at once; where time was too short to prove what can be served, also model after model, and what
    serves more. Where that has no time for anything, what runs had better stay."""
    found = None if _size(problem) == 2 else _by_priority(problem, within(deadline, 0.6), gap)
    if found is not None and found.most:
        return found
    solution = one_by_one(problem, deadline, gap)
    if solution is None or (found is not None and _served(problem, found.solution) >= _served(problem, solution)):
        return found
    return _Found(solution, inf, 0.0, proven=False)


def _served(problem: Problem, solution: Solution) -> list[float]:
    """Requests per second by priority, the highest first."""
    roles = {(model.name, c.key): c.role for model in problem.models for c in model.configurations}
    rates = {(model.name, load.bucket): load.rate for model in problem.models for load in model.buckets}
    priorities = {model.name: model.priority for model in problem.models}
    served: dict[int, float] = dict.fromkeys(priorities.values(), 0.0)
    for (model, bucket, key), share in solution.shares.items():
        if roles[model, key] != "decode":
            served[priorities[model]] += rates[model, bucket] * share
    return [round(served[priority], 6) for priority in sorted(served, reverse=True)]


def _by_priority(problem: Problem, deadline: float, gap: float) -> _Found | None:
    """For the highest priority, then the next: serve as many requests per second as possible, then come as near to the
    minima of replicas as possible; then minimise the objective."""
    fleet = fleet_program(problem, everything=False)
    wishes = [wish for wish in _wishes(fleet) if wish]
    best: _Found | None = None
    optimal = True
    for left, terms in zip(range(len(wishes), 0, -1), wishes, strict=True):
        if best is not None and terms[0][1] > 0 and value(terms) < 1e-6:
            fleet.program.require(terms, LE, 1e-8)  # nothing is missing as it is
            continue
        answer = fleet.program.minimise(terms, within(deadline, 1 / (left + 1)), gap)
        if not answer.found:
            return best
        optimal = optimal and answer.status == "optimal"
        fleet.program.require(terms, LE, answer.objective + 1e-8)
        best = _Found(fleet.solution(), inf, 0.0, proven=False, most=False)
    answer = fleet.program.minimise(fleet.objective, within(deadline, 0.8), gap)
    if not answer.found:
        return replace(best, most=optimal) if best else None
    found = _least_change(fleet, answer, deadline)
    return found if optimal else replace(found, proven=False, bound=0.0, most=False)


def _wishes(fleet: FleetProgram) -> Iterator[Terms]:
    """What to minimise, one after the other: minus the served fraction of a priority's requests, replicas missing."""
    classes: dict[int, list[ModelDemand]] = defaultdict(list)
    for model in fleet.problem.models:
        classes[model.priority].append(model)
    for priority in sorted(classes, reverse=True):
        servings = [serving for serving in fleet.servings if serving.model.priority == priority]
        total = sum(serving.model.rate for serving in servings) or 1.0
        yield [(v, -part * s.model.rate / total) for s in servings for v, part in s.served()]
        yield [(missing, 1.0) for serving in servings for missing in serving.missing]


def _least_change(fleet: FleetProgram, answer: Answer, deadline: float) -> _Found:
    """Where starting replicas is free: among plans of this objective, the one that starts fewest."""
    found = _found(fleet, answer)
    if fleet.switching or not fleet.problem.running:
        return found
    fleet.program.require(fleet.objective, LE, answer.objective * (1 + 1e-9) + 1e-9)
    tidier = fleet.program.minimise(fleet.changes, deadline, 1e-4)
    return replace(found, solution=fleet.solution()) if tidier.found else found


def _contradictions(problem: Problem) -> Iterator[str]:
    """What no plan can satisfy, however much there is of everything."""
    for model in problem.models:
        if model.max_replicas is not None and model.min_replicas > model.max_replicas:
            yield f"{model.name}: minReplicas {model.min_replicas} is above maxReplicas {model.max_replicas}"
    budget, reserved = problem.budget_per_hour, reserved_bill(problem)
    if budget is not None and reserved > budget * (1 + 1e-9):
        yield f"the reserved nodes cost {reserved:g} per hour, whatever is planned; the budget is {budget:g}"
