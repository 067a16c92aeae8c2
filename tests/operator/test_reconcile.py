"""Whole passes against a fake API in memory: idempotent, killed at any write and started anew, losing the lease, and
one object's failure never hiding another's."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from fake_kube import FakeKubeApi, Json, Key, Killed, failing
from fleets import NOW, fleet, model, node, pool, profile, solved

from motley_operator import reasons
from motley_operator.errors import ApiError, Conflict, LeaseLost, NotFound, Refused, Unreachable
from motley_operator.fleet import TrafficView
from motley_operator.labels import CONFIGURATION, DRAIN_FINALIZER
from motley_operator.planning import Solve
from motley_operator.reconcile import SOON_SECONDS, Reconciler
from motley_operator.settings import Settings
from motley_solver.plan import Infeasible, Unsolved

SETTINGS = Settings(resync_seconds=30)
START = (
    fleet({"allowedHostPaths": ["/models"]}),
    pool("l4", {"maxNodes": 12}),
    pool("spare", {"gpu": "L5"}),
    model("chat"),
    model("talk", {"traffic": {"rate": "1"}}, namespace="other"),
    model("bad", {"placement": {"pools": ["nowhere"]}}),
    model("unread", {"shape": None}),
    profile(),
    *(node(f"n{number}") for number in range(12)),
)


class Operator:
    """One process of the operator: what it keeps in memory ends with it."""

    def __init__(
        self, kube: FakeKubeApi, solve: Solve = solved, traffic: Mapping[str, TrafficView] | None = None
    ) -> None:
        self.kube = kube
        self.asked: list[str] = []

        def observe(addresses: Any) -> Mapping[str, TrafficView]:
            self.asked = list(addresses)
            return traffic or {}

        self.reconciler = Reconciler(kube, observe, SETTINGS, solve, lambda: NOW + timedelta(seconds=len(kube.writes)))

    def run(self) -> float:
        return self.reconciler.run_pass()

    def settle(self, passes: int = 12) -> None:
        """Passes with pods that start in between, until one writes nothing more."""
        for _ in range(passes):
            before = len(self.kube.writes)
            self.run()
            if not self.kube.run_pods() and len(self.kube.writes) == before:
                return
        raise AssertionError(f"it never comes to rest: {self.kube.writes[-12:]}")


def settled(*objects: Json) -> tuple[FakeKubeApi, Operator]:
    kube = FakeKubeApi(*(objects or START))
    operator = Operator(kube)
    operator.settle()
    return kube, operator


def reason(kube: FakeKubeApi, kind: str, name: str, condition: str) -> str:
    conditions = kube.of(kind)[name]["status"]["conditions"]
    found: str = next(one["reason"] for one in conditions if one["type"] == condition)
    return found


def replicas(kube: FakeKubeApi) -> dict[str, int]:
    """By model."""
    found: dict[str, int] = {}
    for one in kube.of("Deployment").values():
        name = one["metadata"]["labels"]["motley.dev/model"]
        found[name] = found.get(name, 0) + one["spec"]["replicas"]
    return found


# One pass after the other


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


# Killed at any write


def killed_after(write: int) -> Callable[[str, Key], None]:
    left = [write]

    def check(verb: str, key: Key) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    return check


def comes_to_the_same_end(start: FakeKubeApi) -> int:
    """Killed right after every single write, once in each run; returns how many writes there were."""
    kube, done = deepcopy(start), list[tuple[str, Key]]()
    kube.after_write = lambda verb, key: done.append((verb, key))
    Operator(kube).settle()
    expected = kube.state()
    for write in range(1, len(done) + 1):
        kube = deepcopy(start)
        kube.after_write = killed_after(write)
        with pytest.raises(Killed):
            Operator(kube).settle()
        kube.after_write = lambda verb, key: None
        Operator(kube).settle()
        assert kube.state() == expected, f"killed after write {write}: {done[write - 1]}"
    return len(done)


def test_killed_after_any_write_of_a_first_installation_the_end_is_the_same() -> None:
    assert comes_to_the_same_end(FakeKubeApi(*START)) > 30


def test_killed_after_any_write_of_a_roll_out_the_end_is_the_same() -> None:
    kube, _ = settled()
    kube.put(model("chat", {"engine": {"args": ["--seed=1"]}, "traffic": {"rate": "8"}}))
    kube.remove(("Model", "other", "talk"))
    assert comes_to_the_same_end(kube) > 10


def test_killed_after_any_write_of_a_drain_the_end_is_the_same() -> None:
    kube, _ = settled(*START, pool("b", {"maxNodes": 12, "pricePerNodeHour": "0.9"}))
    kube.put(*(node(f"b{number}", "b") for number in range(12)))
    kube.remove(("GPUPool", None, "l4"))
    assert comes_to_the_same_end(kube) > 10


# Failures


def test_one_models_refused_objects_do_not_hide_anothers() -> None:
    kube = FakeKubeApi(*START)
    chats = [key for key in (("NetworkPolicy", "team", "motley-model-chat"), ("RoutingTable", "team", "chat"))]
    kube.before_write = failing(Refused("quota exceeded"), chats)
    Operator(kube).run()
    kube.run_pods()
    Operator(kube).run()
    assert reason(kube, "Model", "chat", "Ready") == reasons.APPLY_FAILED
    assert reason(kube, "Model", "talk", "Ready") == reasons.READY
    assert kube.of("RoutingTable").keys() == {"talk"}
    kube.before_write = lambda verb, key: None
    Operator(kube).settle()
    assert reason(kube, "Model", "chat", "Ready") == reasons.READY


@pytest.mark.parametrize(
    "kind", ["NetworkPolicy", "PodDisruptionBudget", "Service", "Deployment", "RoutingTable", "Job"]
)
@pytest.mark.parametrize("error", [Refused("no"), Conflict("no"), Unreachable("no"), NotFound("no")])
def test_a_kind_that_cannot_be_written_stops_no_other_kind(kind: str, error: ApiError) -> None:
    kube = FakeKubeApi(*START)
    kube.before_write = failing(error, [kind])
    assert Operator(kube).run() < SETTINGS.resync_seconds, "it is tried again before long"
    others = {"NetworkPolicy", "PodDisruptionBudget", "Service", "Deployment", "RoutingTable", "Job"} - {kind}
    assert {key[0] for key in kube.objects} >= others and not kube.of(kind)
    assert all("status" in one for one in kube.of("Model").values()), "statuses are written all the same"
    kube.before_write = lambda verb, key: None
    operator = Operator(kube)
    operator.settle()
    assert kube.state() == settled()[0].state()


def test_replicas_that_no_router_can_reach_replace_no_others() -> None:
    """Where a quota refuses the Service, the Deployment may well be ready."""
    kube, operator = settled()
    (before,) = [one for one in kube.of("Deployment") if one.startswith("chat")]
    kube.put(model("chat", {"engine": {"args": ["--seed=1"]}}))
    kube.before_write = failing(Refused("exceeded quota: services"), ["Service"])
    for _ in range(5):
        operator.run()
        kube.run_pods()
    assert before in kube.of("Deployment") and before in kube.of("Service")
    assert reason(kube, "Model", "chat", "Ready") == reasons.APPLY_FAILED
    kube.before_write = lambda verb, key: None
    operator.settle()
    assert before not in kube.of("Deployment") and reason(kube, "Model", "chat", "Ready") == reasons.READY


def test_a_plan_that_cannot_be_stored_is_not_followed() -> None:
    kube, operator = settled()
    kube.put(model("chat", {"traffic": {"rate": "8"}}))
    kube.before_write = failing(Refused("request is too large"), ["Plan"])
    operator.run()
    assert replicas(kube) == {"chat": 3, "talk": 1}
    assert reason(kube, "Fleet", "default", "Ready") == reasons.APPLY_FAILED
    kube.before_write = lambda verb, key: None
    operator.settle()
    assert replicas(kube) == {"chat": 6, "talk": 1}


def test_while_the_fleet_cannot_be_read_nothing_is_touched() -> None:
    """What is allowed, and whether plans wait for approval, is not known."""
    kube, operator = settled()
    kube.objects["Fleet", None, "default"]["spec"]["approval"] = "Perhaps"
    kube.put(model("chat", {"traffic": {"rate": "8"}}), model("more"))
    state = kube.state()
    operator.run()
    assert kube.state() == state


def test_after_any_single_failed_write_the_next_passes_mend_it() -> None:
    kube, _ = settled()
    expected, writes = kube.state(), len(kube.writes)
    for number in range(writes):
        kube = FakeKubeApi(*START)
        left = [number]

        def fail_once(verb: str, key: Key, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise Unreachable(f"{verb} {key}: the API server is away")

        kube.before_write = fail_once
        operator = Operator(kube)
        try:
            operator.run()
        except ApiError:
            pass  # the process logs it and tries again
        operator.settle()
        assert kube.state() == expected, f"after write {number} failed"


@pytest.mark.parametrize("kind", ["Model", "GPUPool", "Plan", "Deployment", "Pod", "Node", "Job", "EndpointSlice"])
def test_a_pass_that_cannot_see_everything_does_nothing(kind: str) -> None:
    """What is not listed is not gone."""
    kube, operator = settled()
    state, writes = kube.state(), len(kube.writes)

    def away(asked: str) -> None:
        if asked == kind:
            raise Unreachable(f"list {kind}")

    kube.before_read = away
    with pytest.raises(Unreachable):
        operator.run()
    assert (kube.state(), len(kube.writes)) == (state, writes)


def test_a_status_that_cannot_be_written_hides_no_other() -> None:
    kube = FakeKubeApi(*START)
    kube.before_write = failing(Refused("no"), [("Model", "team", "chat"), ("GPUPool", None, "l4")])
    Operator(kube).run()
    assert "status" not in kube.of("Model")["chat"]
    assert all("status" in one for name, one in kube.of("Model").items() if name != "chat")
    assert "status" in kube.of("GPUPool")["spare"] and "status" in kube.of("Fleet")["default"]


def test_a_model_deleted_during_the_pass_is_no_trouble() -> None:
    kube = FakeKubeApi(*START)
    gone: list[bool] = []

    def vanish(verb: str, key: Key) -> None:
        if verb == "apply_status" and not gone:
            gone.append(True)
            kube.remove(("Model", "team", "chat"))

    kube.before_write = vanish
    operator = Operator(kube)
    operator.run()
    operator.settle()
    assert "chat" not in kube.of("RoutingTable") and reason(kube, "Model", "talk", "Ready") == reasons.READY


# The lease


def test_without_the_lease_nothing_more_is_written_from_that_moment_on() -> None:
    _, writes = settled()[0], len(settled()[0].writes)
    for number in range(0, writes, 3):
        kube = FakeKubeApi(*START)

        def lost(verb: str, key: Key, kube: FakeKubeApi = kube, number: int = number) -> None:
            if len(kube.writes) >= number:
                raise LeaseLost("another replica acts now")

        kube.before_write = lost
        operator = Operator(kube)
        with pytest.raises(LeaseLost):
            for _ in range(5):
                operator.run()
                kube.run_pods()
        assert len(kube.writes) == number


def test_the_replica_that_takes_over_comes_to_the_same_end() -> None:
    kube, _ = settled()
    expected = kube.state()
    kube = FakeKubeApi(*START)

    def lost(verb: str, key: Key) -> None:
        if len(kube.writes) >= 9:
            raise LeaseLost("another replica acts now")

    kube.before_write = lost
    with pytest.raises(LeaseLost):
        Operator(kube).run()
    kube.before_write = lambda verb, key: None
    Operator(kube).settle()
    assert kube.state() == expected


def test_every_engine_carries_its_configuration() -> None:
    kube, _ = settled()
    found = {one["metadata"]["labels"][CONFIGURATION] for one in kube.of("Deployment").values()}
    assert len(found) == 2
