"""What cannot be read or written: one object's failure never hides another's, and the next passes mend it."""

import pytest
from fake_kube import FakeKubeApi, Key, failing
from fleets import model
from passes import SETTINGS, START, Operator, reason, replicas, settled

from motley_operator import reasons
from motley_operator.errors import ApiError, Conflict, NotFound, Refused, Unreachable


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
