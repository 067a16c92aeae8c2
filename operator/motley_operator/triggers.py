"""Must the fleet be planned anew? From fingerprints of what the last plan was made from and of what is there now."""

from collections.abc import Mapping
from dataclasses import replace

from motley_operator import __version__
from motley_operator.formulation import Formulation
from motley_operator.reasons import Finding
from motley_solver.problem import fingerprint

FIRST_PLAN = "FirstPlan"
INPUTS_CHANGED = "InputsChanged"
_NAMED = 5
"""So many objects are named in a reason; the rest is counted."""


def inputs_of(formulation: Formulation) -> dict[str, str]:
    """A fingerprint for every model and pool that takes part, and one for what holds for all of them; another version
    of the planner may answer otherwise.

    Nothing here asks what a configuration can serve, which takes seconds. What runs at the moment is left out: moving
    it costs, but it is no reason to plan anew."""
    models = {f"Model {model.name}": model.fingerprint for model in formulation.declarations}
    pools = {f"GPUPool {pool.name}": fingerprint(pool) for pool in formulation.frame.pools}
    of_all = fingerprint(replace(formulation.frame, pools=()))
    return {"Planner": __version__, "Fleet": of_all} | models | pools


def replan(last: Mapping[str, str] | None, now: Mapping[str, str]) -> Finding | None:
    """Why a new plan is needed, or None while the last one still answers the question that is asked."""
    if last is None:
        return Finding(FIRST_PLAN, "first plan")
    changes = [
        *(f"{name} added" for name in now if name not in last),
        *(f"{name} changed" for name in now if name in last and now[name] != last[name]),
        *(f"{name} removed" for name in last if name not in now),
    ]
    if not changes:
        return None
    more = f" and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
    return Finding(INPUTS_CHANGED, ", ".join(changes[:_NAMED]) + more)
