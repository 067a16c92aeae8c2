"""Decisions on a small fleet: one Model on one pool, and plans that were stored for it."""

from collections.abc import Callable
from typing import Any

from fleets import fleet, model, plan, pool, profile, solved, view_of

from motley_operator.api import Plan
from motley_operator.formulation import formulated
from motley_operator.planning import Decision, decision
from motley_operator.triggers import inputs_of
from motley_solver.plan import Outcome
from motley_solver.problem import Problem

OBJECTS = (pool("l4"), model(), profile())
MANUAL = fleet({"approval": "Manual"})
INPUTS = inputs_of(formulated(view_of(*OBJECTS)))


def stored(number: int, approved: bool = False, **spec: Any) -> dict[str, Any]:
    return plan(number, approved=approved, **{"inputs": INPUTS, **spec}).to_json()


def name(found: Plan | None) -> str:
    return found.metadata.name[:11] if found else ""


def decided(*objects: dict[str, Any], solve: Callable[[Problem], Outcome] = solved) -> Decision:
    view = view_of(*objects)
    return decision(view, formulated(view), solve)


def must_not_solve(problem: Problem) -> Outcome:
    raise AssertionError("nothing asks for a new plan")
