"""What the status of a Model says: whether it is planned, ready and within its SLO, why not, and its shape."""

from dataclasses import replace
from typing import Any

import pytest
from fleets import SOURCE, merged, model, pod, pool, profile, unschedulable, view_of, with_plan
from statuses import OBJECTS, in_force, of, outcome_of, said

from motley_operator import reasons
from motley_operator.api import Model
from motley_operator.fleet import DeploymentView, InspectionView, TrafficView
from motley_operator.planning import Decision
from motley_operator.reasons import Finding
from motley_operator.status import Outcome

# Planned and ready


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
    job = InspectionView("team", "j", "chat", SOURCE, True, False, config, "")
    status = of(outcome_of(replace(view, inspections=(job,))), Model)
    assert (status.shape.layers, status.shape_source) == (2, SOURCE)


def test_a_known_shape_stays_while_nothing_new_is_read() -> None:
    raw = model("chat", {"shape": None})
    shape = view_of(model()).models[0].spec.shape
    assert shape is not None
    raw["status"] = {"shape": shape.to_json(), "shapeSource": SOURCE}
    status = of(outcome_of(view_of(pool(), raw)), Model)
    assert (status.shape, status.shape_source) == (shape, SOURCE)
