"""What the statuses say: conditions with reasons, times that move only when a status flips, numbers for columns."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fleets import A100, NOW, fleet, merged, model, node, planned, pod, pool, profile, unschedulable, view_of, with_plan

from motley_operator import reasons
from motley_operator.api import Condition, Fleet, GPUPool, Model, Plan, Resource
from motley_operator.api.base import ApiModel
from motley_operator.api.plan import PlannedModel, PlannedNodes
from motley_operator.desired import desired
from motley_operator.fleet import DeploymentView, FleetView, InspectionView, TrafficView
from motley_operator.planning import Decision
from motley_operator.reasons import Finding
from motley_operator.settings import Settings
from motley_operator.status import MESSAGE, Outcome, placement, prediction, statuses

OBJECTS = (fleet(), pool("l4"), model(), profile(), *(node(f"n{n}") for n in range(4)))


def outcome_of(view: FleetView, **changes: Any) -> Outcome:
    formulation, decision = planned(view)
    groups = desired(view, formulation, decision, Settings()).groups
    return replace(Outcome(view, formulation, decision, groups), **changes)


def in_force(*objects: dict[str, Any], ready: int | None = None, **changes: Any) -> Outcome:
    """With a plan in force, and so many ready replicas of each group."""
    view, _ = with_plan(*objects)
    groups = outcome_of(view).groups
    deployed = tuple(
        DeploymentView(
            namespace="team",
            name=group.name,
            model=group.model.metadata.name,
            pool=group.allocation.pool,
            tensor_parallel=1,
            configuration=group.fingerprint,
            replicas=group.allocation.replicas,
            ready=group.allocation.replicas if ready is None else ready,
        )
        for group in groups
    )
    return outcome_of(replace(view, deployments=deployed, **changes))


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


# Models


def test_a_model_that_must_not_be_aggregated_is_told_what_to_change() -> None:
    apart = model("chat", {"placement": {"modes": ["Disaggregated"]}})
    outcome = outcome_of(view_of(*OBJECTS[:2], apart, profile()))
    for kind in ("Accepted", "Planned", "Ready"):
        status, reason, message = said(outcome, kind)
        assert (status, reason) == ("False", reasons.MODE_NOT_DEPLOYED)
        assert message.startswith("spec.placement.modes: ") and "add Aggregated" in message


def test_a_model_that_serves_says_where_and_what_it_costs() -> None:
    status = of(in_force(*OBJECTS), Model)
    assert {one.type: (one.status, one.reason) for one in status.conditions} == {
        "Accepted": ("True", reasons.ACCEPTED),
        "Planned": ("True", reasons.PLANNED),
        "Ready": ("True", reasons.READY),
        "SLOMet": ("Unknown", reasons.NO_TRAFFIC),
    }
    assert (status.replicas, status.ready_replicas, status.placement) == (3, 3, "3×L4")
    assert (status.cost_per_hour, status.predicted) == ("2.40", "met (Profile ±10%)")
    assert status.plan.startswith("plan-000001-")


def test_every_condition_tells_the_generation_that_it_saw() -> None:
    outcome = in_force(*OBJECTS[:2], model(generation=7), profile())
    assert {one.observed_generation for one in of(outcome, Model).conditions} == {7}


@pytest.mark.parametrize("ready", [0, 2])
def test_a_model_with_missing_replicas_is_not_ready(ready: int) -> None:
    status, reason, message = said(in_force(*OBJECTS, ready=ready), "Ready")
    assert (status, reason) == ("False", reasons.NOT_READY) and message.startswith(f"{ready} of 3 replicas")


def test_surplus_replicas_of_a_group_do_not_stand_in_for_others() -> None:
    view, _ = with_plan(*OBJECTS)
    (group,) = outcome_of(view).groups
    crowd = DeploymentView("team", group.name, "chat", "l4", 1, group.fingerprint, 9, 9)
    status = of(outcome_of(replace(view, deployments=(crowd,))), Model)
    assert (status.replicas, status.ready_replicas) == (3, 3)


def test_a_deployment_of_the_same_name_elsewhere_does_not_count() -> None:
    view, _ = with_plan(*OBJECTS)
    (group,) = outcome_of(view).groups
    foreign = DeploymentView("other", group.name, "chat", "l4", 1, group.fingerprint, 3, 3)
    assert of(outcome_of(replace(view, deployments=(foreign,))), Model).ready_replicas == 0


def with_pod(*overrides: dict[str, Any]) -> Outcome:
    outcome = in_force(*OBJECTS, ready=0)
    pods = view_of(pod("p-1", *overrides, model="chat", pool="l4", configuration=outcome.groups[0].fingerprint)).pods
    return replace(outcome, view=replace(outcome.view, pods=pods))


def test_an_engine_that_fails_speaks_for_itself() -> None:
    ended = {"lastState": {"terminated": {"exitCode": 66, "message": "the hub wants a token"}}}
    status, reason, message = said(with_pod({"status": {"containerStatuses": [ended]}}), "Ready")
    assert (status, reason) == ("False", reasons.ENGINE_FAILING)
    assert "pod p-1: exit code 66: the hub wants a token" in message


def test_a_pod_without_a_node_says_what_the_scheduler_said() -> None:
    status, reason, message = said(with_pod(unschedulable("2026-03-01T11:59:00Z", "0/4 nodes")), "Ready")
    assert (status, reason) == ("False", reasons.UNSCHEDULABLE) and "on pool l4: 0/4 nodes" in message


def test_a_failing_engine_is_named_before_a_waiting_pod() -> None:
    ended = {"lastState": {"terminated": {"exitCode": 66, "message": "no token"}}}
    failing = with_pod({"status": {"containerStatuses": [ended]}})
    waiting = with_pod(merged(unschedulable("2026-03-01T11:59:00Z"), {"metadata": {"name": "a"}}))
    both = replace(failing, view=replace(failing.view, pods=(*waiting.view.pods, *failing.view.pods)))
    assert said(both, "Ready")[1] == reasons.ENGINE_FAILING


def test_the_pods_of_another_configuration_are_not_blamed() -> None:
    outcome = with_pod(
        unschedulable("2026-03-01T11:59:00Z"), {"metadata": {"labels": {"motley.dev/configuration": "x"}}}
    )
    assert said(outcome, "Ready")[1] == reasons.NOT_READY


def test_a_failed_apply_is_told_by_the_model_it_was_for() -> None:
    outcome = in_force(*OBJECTS, model("talk"))
    outcome = replace(outcome, failures={"Model team/chat": "applying Deployment: quota"})
    assert said(outcome, "Ready", name="chat")[1:] == (reasons.APPLY_FAILED, "applying Deployment: quota")
    assert said(outcome, "Ready", name="talk")[1] != reasons.APPLY_FAILED


def test_a_refused_model_tells_the_same_in_every_condition() -> None:
    outcome = in_force(*OBJECTS, model("bad", {"placement": {"pools": ["x"]}}))
    for kind in ("Accepted", "Planned", "Ready"):
        assert said(outcome, kind, name="bad")[:2] == ("False", reasons.NO_POOL)
    assert said(outcome, "Ready", name="chat")[0] == "True"


def test_a_model_that_is_partly_planned_says_what_is_left_out() -> None:
    outcome = in_force(pool("l4", {"maxNodes": 1}), model(), profile())
    status, reason, message = said(outcome, "Planned")
    assert (status, reason) == ("False", reasons.PARTLY_PLANNED) and "req/s are not served" in message
    assert said(outcome, "Ready")[0] == "True", "what is planned is there"


def test_a_model_that_fits_nowhere_is_not_planned() -> None:
    outcome = in_force(pool("l4"), model("chat", {"shape": {"layers": 500}}))
    assert said(outcome, "Planned")[:2] == ("False", reasons.NOT_PLANNED)
    assert said(outcome, "Ready")[:2] == ("False", reasons.NOT_PLANNED)


def test_a_model_that_asks_for_nothing_says_so() -> None:
    idle = {"scaling": {"minReplicas": 0}, "traffic": {"rate": "0"}}
    status, reason, message = said(in_force(*OBJECTS[:2], model("chat", idle), profile()), "Ready")
    assert (status, reason) == ("False", reasons.NOT_READY) and "minReplicas is 0" in message


def test_a_model_in_no_plan_yet_tells_the_planners_trouble() -> None:
    outcome = outcome_of(view_of(*OBJECTS))
    waiting = replace(outcome, decision=Decision(None, trouble=Finding(reasons.UNSOLVED, "no time")), groups=())
    assert said(waiting, "Planned") == ("False", reasons.UNSOLVED, "no time")
    assert said(waiting, "Ready")[1] == reasons.UNSOLVED


def test_an_old_plan_in_force_tells_that_a_newer_one_does_not_come() -> None:
    outcome = in_force(*OBJECTS)
    decision = replace(outcome.decision, trouble=Finding(reasons.UNSOLVED, "no time"))
    status, reason, message = said(replace(outcome, decision=decision), "Planned")
    assert (status, reason) == ("True", reasons.PLANNED) and message.endswith("a newer one: no time")


# The SLO


def slo(traffic: TrafficView | None) -> tuple[str, str, str]:
    outcome = in_force(*OBJECTS)
    view = replace(outcome.view, traffic={"team/chat": traffic} if traffic else {})
    return said(replace(outcome, view=view), "SLOMet")


def test_without_traffic_nobody_knows_whether_the_slo_is_met() -> None:
    assert slo(None)[:2] == slo(TrafficView(0, 0.0))[:2] == ("Unknown", reasons.NO_TRAFFIC)


@pytest.mark.parametrize(("attainment", "met"), [(1.0, True), (0.99, True), (0.9899, False), (0.0, False)])
def test_the_slo_is_met_from_its_target_on(attainment: float, met: bool) -> None:
    status, reason, message = slo(TrafficView(200, attainment))
    assert (status, reason) == (("True", reasons.SLO_MET) if met else ("False", reasons.SLO_MISSED))
    assert "200 requests" in message and "99.00%" in message


def test_traffic_of_another_model_says_nothing() -> None:
    outcome = in_force(*OBJECTS)
    view = replace(outcome.view, traffic={"other/chat": TrafficView(9, 0.1)})
    assert said(replace(outcome, view=view), "SLOMet")[0] == "Unknown"


# Shapes


def test_an_inspected_shape_is_kept_with_its_source() -> None:
    config = (
        '{"config": {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100, '
        '"intermediate_size": 128}}'
    )
    view = view_of(pool(), model("chat", {"shape": None}))
    job = InspectionView("team", "j", "chat", "hf://example/chat-8b", True, False, config, "")
    status = of(outcome_of(replace(view, inspections=(job,))), Model)
    assert (status.shape.layers, status.shape_source) == (2, "hf://example/chat-8b")


def test_a_known_shape_stays_while_nothing_new_is_read() -> None:
    raw = model("chat", {"shape": None})
    shape = view_of(model()).models[0].spec.shape
    assert shape is not None
    raw["status"] = {"shape": shape.to_json(), "shapeSource": "hf://example/chat-8b"}
    status = of(outcome_of(view_of(pool(), raw)), Model)
    assert (status.shape, status.shape_source) == (shape, "hf://example/chat-8b")


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


# Times and messages


def written(outcome: Outcome) -> Outcome:
    """The view with its statuses as the API server would have them after this pass."""
    view = outcome.view
    by_key = {(one.kind, one.key): status for one, status in statuses(outcome)}

    def updated(resources: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(one.model_copy(update={"status": by_key[one.kind, one.key]}) for one in resources)

    view = replace(
        view, models=updated(view.models), pools=updated(view.pools), plans=updated(view.plans), fleet=view.fleet
    )
    return replace(outcome, view=replace(view, now=NOW + timedelta(hours=1)))


def test_a_time_moves_only_when_the_status_flips() -> None:
    first = in_force(*OBJECTS, ready=0)
    before = of(first, Model)
    later = written(first)
    assert of(later, Model) == before, "an hour later, nothing changed: nothing to write"
    flipped = replace(
        later, view=replace(later.view, deployments=tuple(replace(d, ready=3) for d in later.view.deployments))
    )
    after = {one.type: one.last_transition_time for one in of(flipped, Model).conditions}
    assert after["Ready"] == "2026-03-01T13:00:00Z"
    assert {after[kind] for kind in ("Accepted", "Planned", "SLOMet")} == {"2026-03-01T12:00:00Z"}


def test_another_reason_with_the_same_status_keeps_the_time() -> None:
    later = written(in_force(*OBJECTS, ready=0))
    failing = replace(later, failures={"Model team/chat": "quota"})
    found = condition(of(failing, Model), "Ready")
    assert (found.reason, found.last_transition_time) == (reasons.APPLY_FAILED, "2026-03-01T12:00:00Z")


@pytest.mark.parametrize("length", [1, MESSAGE, MESSAGE + 1, 50_000])
def test_messages_are_cut_to_their_limit(length: int) -> None:
    outcome = replace(in_force(*OBJECTS), failures={"Model team/chat": "ü" * length})
    assert said(outcome, "Ready")[2] == "ü" * min(length, 1024)


def test_every_reason_is_one_word_in_pascal_case() -> None:
    found = {value for name, value in vars(reasons).items() if name.isupper()}
    assert all(one.isalnum() and one[0].isupper() for one in found)


# Words for columns


def test_the_placement_is_told_by_gpu_and_degree() -> None:
    (group,) = in_force(*OBJECTS).groups
    big = replace(group, allocation=group.allocation.model_copy(update={"gpu": "A100", "tensor_parallel": 2}))
    assert placement([]) == ""
    assert placement([group, group, big]) == "3×A100 TP2 + 6×L4"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "met (Profile ±10%)"),
        ({"estimated": True, "error": 0.25}, "met (Estimated ±25%)"),
        ({"predicted_attainment": 0.5}, "50.0% (Profile ±10%)"),
        ({"predicted_attainment": 0.99 - 1e-12}, "met (Profile ±10%)"),
        ({"replicas": 0}, ""),
    ],
)
def test_a_prediction_says_what_it_rests_on(changes: dict[str, Any], text: str) -> None:
    base = PlannedModel(model="team/chat", replicas=1, cost_per_hour=1, predicted_attainment=1.0, error=0.1)
    assert prediction(base.model_copy(update=changes), 0.99) == text
