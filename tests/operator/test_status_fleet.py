"""What the statuses of the Fleet, its GPUPools and Plans say."""

from dataclasses import replace
from typing import Any

from fleets import A100, model, node, pool, profile, view_of, with_plan
from statuses import OBJECTS, condition, in_force, of, outcome_of, said

from motley_operator import reasons
from motley_operator.api import Fleet, GPUPool, Plan
from motley_operator.api.plan import PlannedNodes
from motley_operator.planning import Decision
from motley_operator.reasons import Finding
from motley_operator.status import statuses

# Pools


def about_pool(*objects: dict[str, Any]) -> Any:
    return of(in_force(*objects), GPUPool, "l4")


def test_a_pool_in_use_says_how_many_nodes_and_what_they_cost() -> None:
    status = about_pool(*OBJECTS)
    assert condition(status, "Ready").reason == reasons.READY
    assert (status.nodes_ready, status.nodes_planned, status.replicas, status.cost_per_hour) == (4, 3, 3, "2.40")


def test_a_pool_without_its_planned_nodes_says_what_to_do() -> None:
    found = condition(about_pool(*OBJECTS[:4], node("n1"), node("n2", ready=False)), "Ready")
    assert (found.status, found.reason) == ("False", reasons.NO_NODES)
    assert found.message.startswith("1 of 3 planned nodes") and "spec.maxNodes" in found.message


def test_a_pool_that_nobody_needs_is_idle_and_well() -> None:
    outcome = in_force(*OBJECTS, pool("a100", A100, {"pricePerNodeHour": "99"}))
    found = condition(of(outcome, GPUPool, "a100"), "Ready")
    assert (found.status, found.reason) == ("True", reasons.IDLE)


def test_a_pool_that_nobody_needs_says_what_is_paid_for_all_the_same() -> None:
    outcome = in_force(*OBJECTS)
    active = outcome.decision.active
    assert active is not None
    unused = PlannedNodes(pool="l4", nodes=0, cost_per_hour=1.6, reserved=2)
    plan = active.model_copy(update={"spec": active.spec.model_copy(update={"nodes": (unused,)})})
    status = of(replace(outcome, decision=replace(outcome.decision, active=plan)), GPUPool)
    found = condition(status, "Ready")
    assert (found.status, found.reason, status.cost_per_hour) == ("True", reasons.IDLE, "1.60")
    assert found.message.endswith("2 reserved nodes are paid for all the same")


def test_a_pool_that_drains_counts_what_is_left() -> None:
    outcome = in_force(*OBJECTS)
    leaving = view_of(pool("l4", deletionTimestamp="2026-03-01T11:00:00Z")).pools
    after = outcome_of(replace(outcome.view, pools=leaving))
    found = condition(of(after, GPUPool), "Ready")
    assert (found.status, found.reason) == ("False", reasons.DRAINING) and found.message.startswith("3 replicas")


def test_a_refused_pool_says_why() -> None:
    outcome = in_force(*OBJECTS, pool("x", {"gpu": "L5"}))
    for kind in ("Accepted", "Ready"):
        assert condition(of(outcome, GPUPool, "x"), kind).reason == reasons.UNKNOWN_GPU


# Fleet and plans


def test_the_fleet_names_the_plan_in_force() -> None:
    status = of(in_force(*OBJECTS), Fleet)
    assert status.plan.startswith("plan-000001-") and status.cost_per_hour == "2.40"
    assert condition(status, "Ready").status == "True"


def test_a_fleet_that_nobody_made_has_no_status() -> None:
    assert not [one for one, _ in statuses(in_force(*OBJECTS[1:])) if isinstance(one, Fleet)]


def test_the_fleet_tells_what_keeps_a_newer_plan_away() -> None:
    outcome = in_force(*OBJECTS)
    decision = replace(outcome.decision, trouble=Finding(reasons.WAITING_FOR_APPROVAL, "Plan x waits"))
    assert said(replace(outcome, decision=decision), "Ready", Fleet) == (
        "False",
        reasons.WAITING_FOR_APPROVAL,
        "Plan x waits",
    )


def test_plans_say_which_one_is_in_force() -> None:
    view, first = with_plan(*OBJECTS)
    second = first.model_copy(update={"metadata": first.metadata.model_copy(update={"name": "plan-000002-00"})})
    third = first.model_copy(update={"metadata": first.metadata.model_copy(update={"name": "plan-000003-00"})})
    view = replace(view, plans=(first, second, third))
    outcome = replace(outcome_of(view), decision=Decision(second))
    found = [condition(status, "Active") for one, status in statuses(outcome) if isinstance(one, Plan)]
    assert [(one.status, one.reason) for one in found] == [
        ("False", reasons.SUPERSEDED),
        ("True", reasons.ACTIVE),
        ("False", reasons.WAITING_FOR_APPROVAL),
    ]


def test_a_new_plan_leaves_the_statuses_of_those_before_the_last_as_they_are() -> None:
    view, first = with_plan(*OBJECTS)
    plans = [
        first.model_copy(update={"metadata": first.metadata.model_copy(update={"name": f"plan-00000{number}-00"})})
        for number in range(1, 5)
    ]
    view = replace(view, plans=tuple(plans))
    before, after = (
        {one.key: status for one, status in statuses(replace(outcome_of(view), decision=Decision(active)))}
        for active in plans[2:]
    )
    assert [before[plan.key] == after[plan.key] for plan in plans] == [True, True, False, False]


def test_a_plan_that_was_changed_says_why_it_is_not_in_force() -> None:
    view, first = with_plan(*OBJECTS)
    raw = first.to_json() | {"kind": "Plan"}
    raw["metadata"]["name"] = "plan-000002-00"
    raw["spec"]["allocations"][0]["replicas"] = 9
    outcome = outcome_of(replace(view, plans=(*view.plans, *view_of(raw).plans)))
    assert [one.metadata.name[:11] for one in outcome.view.plans] == ["plan-000001", "plan-000002"]
    found = [condition(status, "Active") for one, status in statuses(outcome) if isinstance(one, Plan)]
    assert [(one.status, one.reason) for one in found] == [("True", reasons.ACTIVE), ("False", reasons.TAMPERED)]
    assert said(outcome, "Ready", Fleet)[:2] == ("False", reasons.TAMPERED)


def test_a_partial_plan_is_not_complete_and_names_who_is_left_out() -> None:
    outcome = in_force(pool("l4", {"maxNodes": 1}), model(), profile())
    assert said(outcome, "Complete", Plan) == (
        "False",
        reasons.PARTLY_PLANNED,
        "left out, see spec.unserved: team/chat",
    )
    assert said(in_force(*OBJECTS), "Complete", Plan)[0] == "True"
