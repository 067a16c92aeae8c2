"""The optimisation: all models and pools at once, exactly; flows continuous, replicas and nodes whole.
It knows numbers; words for people are in `reasons`."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import monotonic

from motley_solver.assembly import plan_of
from motley_solver.check import violations
from motley_solver.ilp.decomposition import Decomposition
from motley_solver.ilp.fleet import FleetProgram, fleet_program, reserved_bill
from motley_solver.ilp.nodes import price_unit
from motley_solver.ilp.program import LE, Answer, Terms, value
from motley_solver.ilp.sequence import one_by_one
from motley_solver.plan import Infeasible, Outcome, Unsolved
from motley_solver.problem import ModelDemand, Problem
from motley_solver.rounding import Solution

__all__ = ["solve"]

_LIMITS = [2_000, 30_000]  # flows, beyond which a fleet of several models is large, and too large for one program
_FEW = 12  # fewer models are large at as many times more flows: prices need many bidders to settle


@dataclass(frozen=True)
class _Found:
    """A solution, and what is known of the best there is. `bound` is on bill, risk and switching in $ per hour."""

    solution: Solution
    bound: float
    proven: bool


def solve(problem: Problem, time_limit_seconds: float = 20.0, relative_gap: float = 1e-6) -> Outcome:
    """The plan of least objective (bill, switching and risk) that serves everything; where that is impossible, the one
    that serves most, by priority, and is then cheapest. `Infeasible` only where hard limits contradict one another."""
    started = monotonic()
    deadline = started + time_limit_seconds
    if contradictions := tuple(_contradictions(problem)):
        return Infeasible(contradictions)
    solvers = _SOLVERS[_size(problem)]
    found = None
    for left, solver in zip(range(len(solvers), 0, -1), solvers, strict=True):
        found = found or solver(problem, deadline if left == 1 else _within(deadline, 0.7), relative_gap)
    if found is None:
        return Unsolved(f"no plan was found within {time_limit_seconds:g} s: allow more time, or fewer sizes or pools")
    plan = plan_of(
        problem, found.solution, max(reserved_bill(problem), found.bound), found.proven, monotonic() - started
    )
    broken = violations(problem, plan)
    return Unsolved(f"the solver's answer was refused: {broken[0]}") if broken else plan


def _serving_everything(problem: Problem, deadline: float, gap: float) -> _Found | None:
    fleet = fleet_program(problem, everything=True)
    answer = fleet.program.minimise(fleet.objective, _within(deadline, 0.9), gap)
    return _least_change(fleet, answer, deadline) if answer.found else None


def _model_by_model(problem: Problem, deadline: float, gap: float) -> _Found | None:
    parts = Decomposition(problem)
    solution = parts.solve(deadline + 0.35 * (deadline - monotonic()), gap, early=deadline)
    bound = parts.bound * parts.unit + reserved_bill(problem)
    return _Found(solution, bound, parts.closed) if solution is not None else None


def _one_by_one(problem: Problem, deadline: float, gap: float) -> _Found | None:
    solution = one_by_one(problem, deadline, gap)
    return _Found(solution, 0.0, False) if solution is not None else None


def _size(problem: Problem) -> int:
    """0 is small, 1 large, 2 too large for one program."""
    models, flows = len(problem.models), _flows(problem)
    large, too_large = _LIMITS
    return (flows > large * max(1, _FEW / models)) + (flows > too_large) if models > 1 else 0


def _flows(problem: Problem) -> int:
    return sum(len(model.buckets) * len(model.configurations) for model in problem.models)


def _within(deadline: float, part: float) -> float:
    """The moment at which this part of the time that is left is over."""
    now = monotonic()
    return now + max(0.0, deadline - now) * part


def _found(fleet: FleetProgram, answer: Answer) -> _Found:
    unit = price_unit(fleet.problem)
    bound = answer.bound * unit + reserved_bill(fleet.problem) if fleet.exact else 0.0
    return _Found(fleet.solution(), bound, answer.status == "optimal" and fleet.exact)


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
        answer = fleet.program.minimise(terms, _within(deadline, 1 / (left + 1)), gap)
        if not answer.found:
            return best
        optimal = optimal and answer.status == "optimal"
        fleet.program.require(terms, LE, answer.objective + 1e-8)
        best = _Found(fleet.solution(), 0.0, False)
    answer = fleet.program.minimise(fleet.objective, _within(deadline, 0.8), gap)
    if not answer.found:
        return best
    found = _least_change(fleet, answer, deadline)
    return found if optimal else replace(found, proven=False, bound=0.0)


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
    replicas = [(v, 1e-3) for serving in fleet.servings for v in serving.replicas.values()]
    tidier = fleet.program.minimise([*fleet.beyond, *replicas], deadline, 1e-4)
    return replace(found, solution=fleet.solution()) if tidier.found else found


# What is tried one after the other until there is a plan: for a small, a large and a very large fleet.
_SOLVERS = (
    (_serving_everything, _by_priority),
    (_model_by_model, _serving_everything, _by_priority, _one_by_one),
    (_model_by_model, _one_by_one),
)


def _contradictions(problem: Problem) -> Iterator[str]:
    """What no plan can satisfy, however much there is of everything."""
    for model in problem.models:
        if model.max_replicas is not None and model.min_replicas > model.max_replicas:
            yield f"{model.name}: minReplicas {model.min_replicas} is above maxReplicas {model.max_replicas}"
    budget, reserved = problem.budget_per_hour, reserved_bill(problem)
    if budget is not None and reserved > budget * (1 + 1e-9):
        yield f"the reserved nodes cost {reserved:g} per hour, whatever is planned; the budget is {budget:g}"
