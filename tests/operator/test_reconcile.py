"""Whole passes against a fake API in memory: from custom resources to everything round the engines, and idempotent."""

from typing import Any

import pytest
from fake_kube import FakeKubeApi
from fleets import fleet, model, node, pool
from passes import SETTINGS, START, Operator, reason, replicas, settled

from motley_operator import formulation, reasons
from motley_operator.fleet import TrafficView
from motley_operator.labels import CONFIGURATION, DRAIN_FINALIZER
from motley_operator.reconcile import SOON_SECONDS
from motley_solver.plan import Infeasible, Unsolved


def test_custom_resources_in_a_plan_and_everything_round_the_engines_out() -> None:
    kube, _ = settled()
    assert {name: len(kube.of(name)) for name in ("Plan", "Deployment", "Service", "Job")} == {
        "Plan": 1,
        "Deployment": 2,
        "Service": 2,
        "Job": 1,
    }
    assert kube.of("RoutingTable").keys() == {"chat", "talk"}
    assert len(kube.of("NetworkPolicy")) == len(kube.of("PodDisruptionBudget")) == 2
    assert reason(kube, "Model", "chat", "Ready") == reasons.READY
    assert reason(kube, "Model", "bad", "Accepted") == reasons.NO_POOL
    assert reason(kube, "Model", "unread", "Accepted") == reasons.INSPECTING
    assert reason(kube, "GPUPool", "spare", "Accepted") == reasons.UNKNOWN_GPU
    assert reason(kube, "Fleet", "default", "Ready") == reasons.READY


def test_a_second_pass_writes_nothing() -> None:
    kube, operator = settled()
    before, state = len(kube.writes), kube.state()
    for _ in range(3):
        operator.run()
    assert len(kube.writes) == before and kube.state() == state


def test_an_operator_started_anew_changes_nothing() -> None:
    kube, _ = settled()
    versions = {key: one["metadata"].get("resourceVersion") for key, one in kube.objects.items()}
    Operator(kube).run()
    assert {key: one["metadata"].get("resourceVersion") for key, one in kube.objects.items()} == versions


def test_while_nothing_changed_an_operator_started_anew_works_no_capacity_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Capacities take seconds."""
    kube, _ = settled()

    def asked(*_: Any) -> Any:
        raise AssertionError("capacities were asked for")

    monkeypatch.setattr(formulation, "demands_of", asked)
    Operator(kube).run()
    kube.put(model("chat", {"traffic": {"rate": "8"}}))
    with pytest.raises(AssertionError, match="capacities"):
        Operator(kube).run()


def test_the_next_pass_comes_soon_only_while_something_is_on_its_way() -> None:
    kube = FakeKubeApi(*START[:4], START[7], *START[8:])
    operator = Operator(kube)
    assert operator.run() == SOON_SECONDS, "a new plan"
    kube.run_pods()
    operator.settle()
    assert operator.run() == SETTINGS.resync_seconds


def test_what_a_person_changed_by_hand_is_put_right() -> None:
    kube, operator = settled()
    state = kube.state()
    for one in kube.of("Deployment").values():
        changed = {**one, "spec": {**one["spec"], "replicas": 0}}
        kube.put(changed)
    for key in [key for key in kube.objects if key[0] in ("Service", "NetworkPolicy")]:
        kube.remove(key)
    operator.settle()
    assert kube.state() == state


def test_more_traffic_makes_another_plan_and_more_replicas() -> None:
    kube, operator = settled()
    kube.put(model("chat", {"traffic": {"rate": "8"}}))
    operator.settle()
    assert len(kube.of("Plan")) == 2 and replicas(kube) == {"chat": 6, "talk": 1}
    assert {name: reason(kube, "Plan", name, "Active") for name in kube.of("Plan")} == {
        name: reasons.ACTIVE if name.startswith("plan-000002") else reasons.SUPERSEDED for name in kube.of("Plan")
    }


def test_another_template_is_rolled_out_without_fewer_ready_than_before() -> None:
    kube, operator = settled()
    (before,) = [one for one in kube.of("Deployment") if one.startswith("chat")]
    kube.put(model("chat", {"engine": {"args": ["--seed=1"]}}))
    operator.run()
    assert before in kube.of("Deployment") and len(kube.of("Deployment")) == 3
    table = kube.of("RoutingTable")["chat"]["spec"]
    assert [one["service"] for one in table["backends"]][1] == before, "it serves until the others are up"
    operator.run()
    assert before in kube.of("Deployment"), "its successor is not ready yet"
    kube.run_pods()
    operator.settle()
    assert before not in kube.of("Deployment") and before not in kube.of("Service")
    assert len(kube.of("Deployment")) == 2


def test_deleting_a_model_takes_its_objects_along() -> None:
    kube, operator = settled()
    kube.remove(("Model", "team", "chat"))
    operator.settle()
    assert replicas(kube) == {"talk": 1}
    assert kube.of("RoutingTable").keys() == {"talk"}


def test_objects_that_nobody_wants_any_more_are_pruned() -> None:
    kube, operator = settled()
    ours = {"labels": {"app.kubernetes.io/managed-by": "motley", "motley.dev/model": "gone"}}
    owner = {"apiVersion": "motley.dev/v1alpha1", "kind": "Model", "name": "gone", "uid": "u", "controller": True}
    kinds = ("Deployment", "Service", "NetworkPolicy", "RoutingTable", "Job", "PodDisruptionBudget")
    for kind in kinds:
        left = {"name": "left", "namespace": "team", **ours, "ownerReferences": [owner]}
        copied = {"name": "copied", "namespace": "team", **ours}
        kube.put(*({"kind": kind, "metadata": metadata, "spec": {"replicas": 0}} for metadata in (left, copied)))
    operator.settle()
    assert not [key for key in kube.objects if key[2] == "left"]
    assert len([key for key in kube.objects if key[2] == "copied"]) == len(kinds), "a label alone makes nothing ours"


def test_a_pool_in_use_drains_before_it_goes() -> None:
    kube, operator = settled(*START, pool("b", {"maxNodes": 12, "pricePerNodeHour": "0.9"}))
    assert all(DRAIN_FINALIZER in one["metadata"]["finalizers"] for one in kube.of("GPUPool").values())
    kube.put(*(node(f"b{number}", "b") for number in range(12)))
    kube.remove(("GPUPool", None, "l4"))
    operator.run()
    assert "l4" in kube.of("GPUPool") and reason(kube, "GPUPool", "l4", "Ready") == reasons.DRAINING
    operator.run()
    assert any(one["metadata"]["labels"]["motley.dev/pool"] == "l4" for one in kube.of("Deployment").values())
    operator.settle()
    assert "l4" not in kube.of("GPUPool")
    assert {one["metadata"]["labels"]["motley.dev/pool"] for one in kube.of("Deployment").values()} == {"b"}


def test_other_peoples_finalizers_stay() -> None:
    kube, operator = settled(*START[:1], pool("l4", finalizers=["else.example.com/x"]), *START[3:])
    assert set(kube.of("GPUPool")["l4"]["metadata"]["finalizers"]) == {"else.example.com/x", DRAIN_FINALIZER}
    for name in ("chat", "unread", "bad"):
        kube.remove(("Model", "team", name))
    kube.remove(("Model", "other", "talk"))
    operator.settle()
    kube.remove(("GPUPool", None, "l4"))
    operator.settle()
    assert kube.of("GPUPool")["l4"]["metadata"]["finalizers"] == ["else.example.com/x"]


def test_while_a_pool_cannot_be_read_everything_stays_as_it_is() -> None:
    broken = pool("odd", finalizers=[DRAIN_FINALIZER])
    del broken["spec"]["nodeSelector"]
    kube, operator = settled()
    serving = {key: one for key, one in kube.state().items() if key[0] == "Deployment"}
    kube.put(broken)
    kube.put(model("chat", {"traffic": {"rate": "8"}}))
    operator.settle()
    assert kube.of("GPUPool")["odd"]["metadata"]["finalizers"] == [DRAIN_FINALIZER]
    assert {key: one for key, one in kube.state().items() if key[0] == "Deployment"} == serving
    assert reason(kube, "Fleet", "default", "Ready") == reasons.UNREADABLE
    kube.objects.pop(("GPUPool", None, "odd"))
    operator.settle()
    assert replicas(kube) == {"chat": 6, "talk": 1}


def test_a_model_that_can_no_longer_be_read_keeps_serving() -> None:
    kube, operator = settled()
    before = {name: one for name, one in kube.state().items() if name[0] in ("Deployment", "Service", "RoutingTable")}
    kube.objects["Model", "team", "chat"]["spec"]["slo"]["ttft"] = 7
    operator.settle()
    after = {name: one for name, one in kube.state().items() if name[0] in ("Deployment", "Service", "RoutingTable")}
    assert after == before


def test_twenty_plans_are_kept() -> None:
    kube, operator = settled(*START[:4], *START[7:])
    for turn in range(24):
        kube.put(model("chat", {"priority": turn + 1}))
        operator.settle()
    names = sorted(kube.of("Plan"))
    assert len(names) == 20 and names[0].startswith("plan-000006")


def test_approval_is_waited_for_and_can_be_taken_back() -> None:
    kube, operator = settled(fleet({"approval": "Manual"}), *START[1:])
    assert not kube.of("Deployment")
    assert reason(kube, "Fleet", "default", "Ready") == reasons.WAITING_FOR_APPROVAL
    kube.of("Plan")[min(kube.of("Plan"))]["spec"]["approved"] = True
    operator.settle()
    assert replicas(kube) == {"chat": 3, "talk": 1}
    kube.put(model("chat", {"traffic": {"rate": "8"}}))
    operator.settle()
    assert replicas(kube) == {"chat": 3, "talk": 1}
    kube.of("Plan")[max(kube.of("Plan"))]["spec"]["approved"] = True
    operator.settle()
    assert replicas(kube) == {"chat": 6, "talk": 1}
    kube.of("Plan")[max(kube.of("Plan"))]["spec"]["approved"] = False
    operator.settle()
    assert replicas(kube) == {"chat": 3, "talk": 1}


@pytest.mark.parametrize("outcome", [Infeasible(("no",)), Unsolved("no")])
def test_without_a_new_plan_the_fleet_runs_on(outcome: Infeasible | Unsolved) -> None:
    kube, _ = settled()
    kube.put(model("chat", {"traffic": {"rate": "8"}}))
    Operator(kube, solve=lambda _: outcome).settle()
    assert replicas(kube) == {"chat": 3, "talk": 1}
    assert reason(kube, "Fleet", "default", "Ready") in (reasons.INFEASIBLE, reasons.UNSOLVED)


def test_measured_traffic_becomes_a_condition() -> None:
    slices = {
        "kind": "EndpointSlice",
        "metadata": {
            "name": "routers",
            "namespace": SETTINGS.namespace,
            "labels": {"kubernetes.io/service-name": SETTINGS.router_service},
        },
        "ports": [{"port": 8000}],
        "endpoints": [
            {"addresses": ["10.0.0.2"], "conditions": {"ready": True}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": False}},
        ],
    }
    kube = FakeKubeApi(*START, slices)
    operator = Operator(kube, traffic={"team/chat": TrafficView(100, 0.5)})
    operator.settle()
    assert operator.asked == ["10.0.0.2:8000"]
    assert reason(kube, "Model", "chat", "SLOMet") == reasons.SLO_MISSED
    assert reason(kube, "Model", "talk", "SLOMet") == reasons.NO_TRAFFIC


def test_an_event_tells_every_reason_once() -> None:
    kube, operator = settled()
    told = [(one["involvedObject"]["name"], one["reason"], one["message"]) for one in kube.events]
    assert ("chat", reasons.NOT_READY) in {one[:2] for one in told} and ("chat", reasons.READY) in {
        one[:2] for one in told
    }
    assert ("bad", reasons.NO_TRAFFIC) in {one[:2] for one in told}, "told although another event stood in its way"
    assert len(told) == len(set(told))
    for _ in range(3):
        operator.run()
    assert len(kube.events) == len(told)


def test_every_engine_carries_its_configuration() -> None:
    kube, _ = settled()
    found = {one["metadata"]["labels"][CONFIGURATION] for one in kube.of("Deployment").values()}
    assert len(found) == 2
