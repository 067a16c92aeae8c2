"""What the same load would cost on one GPU type alone, each solved exactly, with the reason where it cannot be.
It restricts the problem and asks the same optimisation; nothing is estimated here."""

from dataclasses import replace
from time import monotonic

from motley_solver.ilp import solve
from motley_solver.plan import Comparison, Infeasible, Outcome, Plan, Unsolved
from motley_solver.problem import Problem


def with_comparisons(problem: Problem, outcome: Outcome, time_limit_seconds: float = 5.0) -> Outcome:
    """A plan with its comparisons; other outcomes as they are."""
    if not isinstance(outcome, Plan):
        return outcome
    return replace(outcome, comparisons=comparisons(problem, outcome, time_limit_seconds))


def comparisons(problem: Problem, plan: Plan, time_limit_seconds: float = 5.0) -> tuple[Comparison, ...]:
    """One per GPU type of the pools, within the time given for all; pools without GPUs stay in each of them. None where
    there is no model."""
    if not problem.models:
        return ()
    deadline = monotonic() + time_limit_seconds
    types = sorted({pool.gpu for pool in problem.pools if pool.gpus_per_node > 0})
    found = []
    for left, gpu in zip(range(len(types), 0, -1), types, strict=True):
        found.append(_alone(problem, plan, gpu, max(0.2, (deadline - monotonic()) / left)))
    return tuple(found)


def on_one_type(problem: Problem, gpu: str) -> Problem:
    """The same load on one GPU type alone, in all its pools; what needs no GPU stays as it is. The other pools stay, so
    that their reserved nodes are paid here as they are in the plan. Nothing runs yet: what a move to it would cost is
    no part of what it costs."""
    models = tuple(
        replace(model, configurations=tuple(c for c in model.configurations if c.gpu == gpu or c.gpus == 0))
        for model in problem.models
    )
    return replace(problem, models=models, running=())


_NOT_PROVEN = "not proven to be the cheapest on it"


def _alone(problem: Problem, plan: Plan, gpu: str, time_limit_seconds: float) -> Comparison:
    outcome = solve(on_one_type(problem, gpu), time_limit_seconds)
    if isinstance(outcome, Infeasible):
        return Comparison(gpu, None, outcome.reasons[0])
    if isinstance(outcome, Unsolved):
        return Comparison(gpu, None, "not solved in time", proven=False)
    if _serves_less(problem, outcome, plan) or _serves_nothing(outcome):
        already = {(left.model, left.bucket) for left in plan.unserved}
        new = [left for left in outcome.unserved if (left.model, left.bucket) not in already] or outcome.unserved
        left = new[0]
        return Comparison(gpu, None, f"cannot serve {left.model} {left.bucket}: {left.reason}")
    return Comparison(gpu, outcome.cost_per_hour, "" if outcome.proven else _NOT_PROVEN, outcome.proven)


def _serves_nothing(plan: Plan) -> bool:
    """Of what there is to serve: then what it costs says nothing, however little the other plan serves."""
    return not plan.complete and not any(one.served for one in plan.models)


def _serves_less(problem: Problem, one: Plan, other: Plan) -> bool:
    """By priority, highest first; a plan that serves more of an important model does not serve less."""
    for priority in sorted({model.priority for model in problem.models}, reverse=True):
        names = {model.name for model in problem.models if model.priority == priority}
        served = [sum(s.served for s in plan.models if s.model in names) for plan in (one, other)]
        if abs(served[0] - served[1]) > 1e-6 * max(served):
            return served[0] < served[1]
    replicas = [{s.model for s in plan.models if s.replicas} for plan in (one, other)]
    return not replicas[1] <= replicas[0]
