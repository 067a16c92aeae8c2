"""FleetView: raw objects as the API server gives them, read once and for all."""

from datetime import UTC, datetime
from typing import Any

import fleets
import pytest
from fleets import MODEL_OWNER, deployment, model, node, pod, pool, view_of

from motley_operator.fleet import TrafficView, fleet_view, inspection_view, selects
from motley_operator.labels import MODEL, SOURCE


def container(**state: Any) -> dict[str, Any]:
    return {"status": {"containerStatuses": [state]}}


def job(**status: Any) -> dict[str, Any]:
    metadata = {"name": "inspect-chat-1", "namespace": "team", "labels": {MODEL: "chat"}}
    return {
        "kind": "Job",
        "metadata": metadata | {"annotations": {SOURCE: "hf://example/chat-8b"}},
        "status": status,
    }


def job_pod(name: str, code: int, message: str, finished: str) -> dict[str, Any]:
    ended = {"exitCode": code, "message": message, "finishedAt": finished}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "team", "labels": {"job-name": "inspect-chat-1"}},
        **container(state={"terminated": ended}),
    }


def test_nothing_at_all_is_a_view_too() -> None:
    view = fleet_view(fleets.NOW, {})
    assert (view.models, view.pools, view.plans, view.nodes) == ((), (), (), ())
    assert view.fleet.spec.approval == "Auto"


def test_only_the_fleet_named_default_counts() -> None:
    other = fleets.fleet({"approval": "Manual"})
    other["metadata"]["name"] = "other"
    assert view_of(other).fleet.spec.approval == "Auto"
    assert view_of(other, fleets.fleet({"budgetPerHour": "7"})).fleet.spec.budget_per_hour == "7"


def test_objects_come_oldest_first_and_by_name_among_twins() -> None:
    view = view_of(model("c", age=5), model("b", age=5), model("a", age=1), model("z", age=9))
    assert [one.metadata.name for one in view.models] == ["z", "b", "c", "a"]


def test_an_object_without_a_time_is_the_youngest() -> None:
    assert [m.metadata.name for m in view_of(model("a", creationTimestamp=None), model("b")).models] == ["b", "a"]


def test_an_unreadable_object_is_named_and_the_others_are_read() -> None:
    view = view_of(model("good"), model("bad", {"slo": {"ttft": 7}}), pool("l4"))
    assert [one.metadata.name for one in view.models] == ["good"]
    (one,) = view.unreadable
    assert (one.kind, one.namespace, one.name) == ("Model", "team", "bad")
    assert one.message.startswith("spec.slo.ttft")


def test_a_pool_has_the_nodes_that_carry_all_its_labels() -> None:
    view = view_of(pool("l4", {"nodeSelector": {"zone": "a"}}), node("n1"), node("n2", "a100"))
    assert view.nodes_of(view.pools[0]) == ()
    view = view_of(pool("l4"), node("n1"), node("n2", "a100"), node("n3", ready=False))
    assert [(one.name, one.ready) for one in view.nodes_of(view.pools[0])] == [("n1", True), ("n3", False)]


def test_an_empty_selector_selects_everything() -> None:
    assert selects({}, {"a": "b"}) and selects({"a": "b"}, {"a": "b", "c": "d"}) and not selects({"a": ""}, {})


def test_a_deployment_is_read_by_its_labels() -> None:
    (one,) = view_of(deployment(model="chat", pool="l4", tensor_parallel="4", configuration="abc")).deployments
    assert (one.model, one.pool, one.tensor_parallel, one.configuration) == ("chat", "l4", 4, "abc")
    assert (one.replicas, one.ready) == (3, 2)


@pytest.mark.parametrize("degree", ["", "two", "-1", "1e3", "²"])
def test_a_deployment_with_a_strange_label_does_not_stop_the_pass(degree: str) -> None:
    """Whoever may write a label in some namespace must not stop the planning of the whole fleet."""
    (one,) = view_of(deployment(model="chat", tensor_parallel=degree)).deployments
    assert one.tensor_parallel == 1


def test_a_deployment_without_status_or_replicas_is_read() -> None:
    raw = deployment(model="chat")
    raw |= {"spec": {}, "status": {}}
    (one,) = view_of(raw).deployments
    assert (one.model, one.replicas, one.ready) == ("chat", 1, 0)


@pytest.mark.parametrize(
    "owners",
    [
        None,
        [],
        [MODEL_OWNER | {"controller": False}],
        [MODEL_OWNER | {"kind": "Deployment"}],
        [MODEL_OWNER | {"apiVersion": "motley.dev.evil.org/v1"}],
    ],
)
def test_a_label_alone_makes_nothing_ours(owners: object) -> None:
    """Somebody may have copied it; it must be neither counted nor removed."""
    raw = deployment(model="chat")
    raw["metadata"]["ownerReferences"] = owners
    view = view_of(raw)
    assert (view.deployments, view.owned) == ((), {})


def test_a_pod_that_no_node_takes_waits_since_then() -> None:
    waiting = pod("p", fleets.unschedulable("2026-03-01T11:59:00Z", "no room"), model="chat", pool="l4")
    (one,) = view_of(waiting).pods
    assert one.unschedulable_since == datetime(2026, 3, 1, 11, 59, tzinfo=UTC)
    assert (one.trouble, one.ready, one.pool) == ("no room", False, "l4")


def test_a_pod_that_was_just_made_is_in_no_trouble() -> None:
    starting = container(state={"waiting": {"reason": "ContainerCreating"}})
    for one in view_of(pod("a"), pod("b", starting)).pods:
        assert (one.trouble, one.unschedulable_since) == ("", None)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}, "ImagePullBackOff: no su"),
        ({"lastState": {"terminated": {"exitCode": 65, "message": "no weights"}}}, "exit code 65: no weights"),
        ({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}, "exit code 137: OOMKilled"),
        ({"state": {"terminated": {"exitCode": 0}}}, ""),
        ({"state": {"waiting": {}}}, ""),
        ({"state": None, "lastState": None} | {"state": {}, "lastState": {}}, ""),
    ],
)
def test_a_pods_trouble_is_told_in_its_own_words(status: dict[str, Any], said: str) -> None:
    (one,) = view_of(pod("p", container(**status))).pods
    assert one.trouble.startswith(said) and bool(one.trouble) == bool(said)


def test_pods_of_others_are_not_looked_at() -> None:
    stranger = pod("p")
    stranger["metadata"]["labels"] = {"app": "web"}
    assert view_of(stranger).pods == ()


def test_an_inspection_says_what_its_pod_said() -> None:
    said = inspection_view(job(succeeded=1), [job_pod("p", 0, "{}", "2026-03-01T11:00:00Z"), pod("other")])
    assert (said.succeeded, said.failed, said.message, said.model) == (True, False, "{}", "chat")
    assert said.source == "hf://example/chat-8b"


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_of_several_tries_the_one_that_succeeded_speaks(names: tuple[str, str]) -> None:
    """Pods are listed by name, which is chance."""
    failed = job_pod(names[0], 66, "the hub is away", "2026-03-01T11:00:00Z")
    good = job_pod(names[1], 0, '{"config": {}}', "2026-03-01T10:00:00Z")
    pods = sorted([failed, good], key=lambda one: str(one["metadata"]["name"]))
    assert inspection_view(job(succeeded=1), pods).message == '{"config": {}}'


def test_of_several_failures_the_last_speaks() -> None:
    pods = [job_pod("a", 66, "last", "2026-03-01T11:09:00Z"), job_pod("b", 66, "first", "2026-03-01T11:00:00Z")]
    failed = job(conditions=[{"type": "Failed", "status": "True"}])
    said = inspection_view(failed, pods)
    assert (said.failed, said.message) == (True, "last")


def test_an_inspection_without_pods_annotations_or_status_is_read() -> None:
    bare = {"metadata": {"name": "j", "namespace": "team"}}
    said = inspection_view(bare, [])
    assert (said.succeeded, said.failed, said.message, said.source) == (False, False, "", "")


def test_what_is_ours_is_known_by_the_model_it_is_for() -> None:
    metadata = {"name": "s", "namespace": "team", "labels": {MODEL: "chat"}, "ownerReferences": [MODEL_OWNER]}
    unlabelled = {"name": "t", "namespace": "team", "ownerReferences": [MODEL_OWNER]}
    view = fleet_view(fleets.NOW, {"services": [{"metadata": metadata}, {"metadata": unlabelled}]})
    assert view.owned == {("Service", "team", "s"): "team/chat"}


def test_equal_objects_make_equal_views() -> None:
    objects = (pool(), model(), node("n"), pod("p"))
    traffic = {"team/chat": TrafficView(5, 1.0)}
    assert view_of(*objects, traffic=traffic) == view_of(*objects, traffic=traffic)
