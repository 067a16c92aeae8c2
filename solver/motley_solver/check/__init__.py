"""Does a plan keep every promise of its problem? Own arithmetic and own packing, independent of the optimisation,
so that a mistake there is found here before anything is applied."""

from motley_solver.check.asked import asked_of, question
from motley_solver.check.classes import told_apart
from motley_solver.check.figures import bill, comparisons, objective, summaries
from motley_solver.check.names import names, numbers
from motley_solver.check.replicas import allocations, node_fit, replica_limits, stock
from motley_solver.check.routes import each_route, loads, outside_slo, shares, survivals
from motley_solver.plan import Plan
from motley_solver.problem import Problem

__all__ = ["violations"]

_STAGES = (  # the checks of a stage would stumble over what those before it find
    (question,),
    (names, numbers),
    (allocations, stock, replica_limits, each_route, shares, outside_slo, loads, node_fit),
    (told_apart, survivals, bill, objective, summaries, comparisons),
)


def violations(problem: Problem, plan: Plan) -> tuple[str, ...]:
    """One sentence per broken promise; empty for a good plan. Where names are wrong, no sums are made."""
    asked = asked_of(problem)
    for stage in _STAGES:
        if found := tuple(sentence for check in stage for sentence in check(asked, plan)):
            return found
    return ()
