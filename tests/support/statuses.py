"""Outcomes of a pass on a small fleet, and what the statuses say of them."""

from dataclasses import replace
from typing import Any

from fleets import deployed, fleet, model, node, planned, pool, profile, with_plan

from motley_operator.api import Condition, Model, Resource
from motley_operator.api.base import ApiModel
from motley_operator.desired import desired
from motley_operator.fleet import FleetView
from motley_operator.settings import Settings
from motley_operator.status import Outcome, statuses

OBJECTS = (fleet(), pool("l4"), model(), profile(), *(node(f"n{n}") for n in range(4)))


def outcome_of(view: FleetView, **changes: Any) -> Outcome:
    formulation, decision = planned(view)
    groups = desired(view, formulation, decision, Settings()).groups
    return replace(Outcome(view, formulation, decision, groups), **changes)


def in_force(*objects: dict[str, Any], ready: int | None = None, **changes: Any) -> Outcome:
    """With a plan in force, and so many ready replicas of each group."""
    view, _ = with_plan(*objects)
    deployments = tuple(deployed(group, ready) for group in outcome_of(view).groups)
    return outcome_of(replace(view, deployments=deployments, **changes))


def of(outcome: Outcome, kind: type[Resource], name: str = "") -> Any:
    found = [one for res, one in statuses(outcome) if isinstance(res, kind) and name in (res.metadata.name, "")]
    assert len(found) == 1, found
    return found[0]


def condition(status: ApiModel, kind: str) -> Condition:
    (found,) = [one for one in status.conditions if one.type == kind]  # type: ignore[attr-defined]
    return found


def said(outcome: Outcome, kind: str, about: type[Resource] = Model, name: str = "") -> tuple[str, str, str]:
    found = condition(of(outcome, about, name), kind)
    return found.status, found.reason, found.message
