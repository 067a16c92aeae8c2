"""Decision → what should be in the cluster: order, pruning, held models, drains, inspections."""

from dataclasses import replace
from typing import Any

import pytest
from fleets import (
    A100,
    SOURCE,
    deployed,
    fleet,
    model,
    node,
    planned,
    pod,
    pool,
    profile,
    unschedulable,
    view_of,
    with_plan,
)

from motley_operator.desired import Desired, desired, reference
from motley_operator.fleet import DeploymentView, FleetView, InspectionView, Unreadable
from motley_operator.formulation import formulated
from motley_operator.labels import DRAIN_FINALIZER
from motley_operator.planning import Decision
from motley_operator.settings import Settings

OBJECTS = (pool("l4"), model(), profile(), *(node(f"n{n}") for n in range(4)))


def wanted(view: FleetView, **changes: Any) -> Desired:
    formulation, decision = planned(view)
    return desired(view, formulation, replace(decision, **changes), Settings())


def in_force(*objects: dict[str, Any], **changes: Any) -> FleetView:
    return replace(with_plan(*objects)[0], **changes)


def kinds(found: Desired, about: str = "") -> list[str]:
    return [manifest["kind"] for key, manifest in found.manifests if about in key]


def owned(*deployments: DeploymentView) -> dict[tuple[str, str | None, str], str]:
    return {(kind, "team", one.name): f"team/{one.model}" for one in deployments for kind in ("Deployment", "Service")}


OLD = DeploymentView("team", "chat-old", "chat", "l4", 1, "old", 2, 2)


# Manifests


def test_the_policy_comes_before_the_pods_and_the_table_after_the_services() -> None:
    assert kinds(wanted(in_force(*OBJECTS))) == [
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "Deployment",
        "RoutingTable",
    ]


def test_every_manifest_is_filed_under_its_model() -> None:
    found = wanted(in_force(*OBJECTS, model("talk")))
    assert {key for key, _ in found.manifests} == {"Model team/chat", "Model team/talk"}
    for key, manifest in found.manifests:
        assert manifest["metadata"]["ownerReferences"][0]["name"] == key.rsplit("/", 1)[1]


def test_no_object_is_wanted_twice() -> None:
    found = wanted(in_force(*OBJECTS, model("talk"), model("read", {"shape": None})))
    names = [reference(manifest) for _, manifest in found.manifests]
    assert len(names) == len(set(names))


def test_without_a_plan_nothing_is_applied_or_taken_away() -> None:
    view = replace(view_of(*OBJECTS), deployments=(OLD,), owned=owned(OLD))
    found = desired(view, formulated(view), Decision(None), Settings())
    assert (found.groups, found.manifests, found.scales, found.gone) == ((), (), (), ())
    assert found.drains == {"l4": True}


def test_a_model_without_replicas_has_a_table_and_nothing_else() -> None:
    idle = model("chat", {"scaling": {"minReplicas": 0}, "traffic": {"rate": "0"}})
    assert kinds(wanted(in_force(OBJECTS[0], idle, profile()))) == ["RoutingTable"]


def test_a_refused_model_has_nothing() -> None:
    found = wanted(in_force(*OBJECTS, model("bad", {"placement": {"pools": ["x"]}})))
    assert {key for key, _ in found.manifests} == {"Model team/chat"}


# What goes


def test_what_is_owned_and_not_wanted_goes() -> None:
    view = in_force(*OBJECTS)
    stale: dict[tuple[str, str | None, str], str] = {("RoutingTable", "team", "gone"): "team/gone"}
    stale[("Service", "team", "x")] = "team/chat"
    found = wanted(replace(view, owned=stale))
    assert set(found.gone) == stale.keys()


def test_what_is_wanted_stays() -> None:
    view = in_force(*OBJECTS)
    own: dict[tuple[str, str | None, str], str] = {
        reference(manifest): "team/chat" for _, manifest in wanted(view).manifests
    }
    assert wanted(replace(view, owned=own)).gone == ()


def test_a_leaving_group_keeps_deployment_and_service_until_its_successor_is_up() -> None:
    view = in_force(*OBJECTS)
    waiting = wanted(replace(view, deployments=(OLD,), owned=owned(OLD)))
    assert (waiting.gone, waiting.scales, waiting.settled) == ((), (), False)
    new = tuple(map(deployed, waiting.groups))
    unreachable = wanted(replace(view, deployments=(OLD, *new), owned=owned(OLD)))
    assert unreachable.gone == (), "the successor has no Service yet"
    done = wanted(replace(view, deployments=(OLD, *new), owned=owned(OLD, *new)))
    assert set(done.gone) == owned(OLD).keys()


def test_the_routing_table_lists_a_leaving_group_last() -> None:
    found = wanted(replace(in_force(*OBJECTS), deployments=(OLD,)))
    table = found.manifests[-1][1]
    assert [one["service"] for one in table["spec"]["backends"]] == [found.groups[0].name, "chat-old"]


def test_a_leaving_group_makes_room_where_new_pods_find_none() -> None:
    view = in_force(*OBJECTS)
    (group,) = wanted(view).groups
    waiting = pod("p", unschedulable("2026-03-01T11:59:00Z"), model="chat", pool="l4", configuration=group.fingerprint)
    old = replace(OLD, replicas=4, ready=4)
    found = wanted(replace(view, deployments=(old,), pods=view_of(waiting).pods, owned=owned(old)))
    ((leaving, replicas),) = found.scales
    assert leaving.name == "chat-old" and 0 < replicas < 4 and found.gone == ()


def test_a_model_that_cannot_be_read_keeps_everything() -> None:
    view = in_force(*OBJECTS)
    everything = tuple(map(deployed, wanted(view).groups))
    unread = replace(
        view,
        models=(),
        deployments=everything,
        owned=owned(*everything),
        unreadable=(Unreadable("Model", "team", "chat", "spec.slo: no"),),
    )
    found = wanted(unread)
    assert (found.gone, found.scales, found.manifests) == ((), (), ())


def test_a_pool_that_cannot_be_read_moves_nothing() -> None:
    view = in_force(*OBJECTS)
    everything = tuple(map(deployed, wanted(view).groups))
    unread = replace(
        view,
        pools=(),
        deployments=everything,
        owned=owned(*everything),
        unreadable=(Unreadable("GPUPool", None, "l4", "spec.node: no"),),
    )
    found = wanted(unread)
    assert not [one for one in found.gone if one[0] in ("Deployment", "Service")] and found.scales == ()


# Drains


def drains(raw: dict[str, Any], *deployments: DeploymentView, pods: tuple[dict[str, Any], ...] = ()) -> bool:
    view = replace(view_of(raw, *pods), deployments=deployments)
    return desired(view, formulated(view), Decision(None), Settings()).drains["l4"]


@pytest.mark.parametrize(
    ("finalizers", "replicas", "kept"),
    [([DRAIN_FINALIZER], 2, True), ([DRAIN_FINALIZER], 0, False), ([], 2, False)],
)
def test_a_pool_is_held_back_only_while_replicas_run_on_it(finalizers: list[str], replicas: int, kept: bool) -> None:
    """A finalizer may not be added to what is being deleted."""
    leaving = pool("l4", deletionTimestamp="2026-03-01T11:00:00Z", finalizers=finalizers)
    assert drains(leaving, replace(OLD, replicas=replicas)) is kept
    assert drains(leaving, replace(OLD, pool="a100")) is False


def test_a_pool_is_held_back_until_the_last_pod_has_left_its_nodes() -> None:
    leaving = pool("l4", deletionTimestamp="2026-03-01T11:00:00Z", finalizers=[DRAIN_FINALIZER])
    assert drains(leaving, pods=(pod("old-1", pool="l4"),)) is True
    assert drains(leaving, pods=(pod("old-1", pool="a100"),)) is False


def test_every_pool_that_stays_carries_the_finalizer() -> None:
    assert drains(pool("l4")) is True


# Inspections


def reading(view: FleetView) -> list[str]:
    formulation = formulated(view)
    found = desired(view, formulation, Decision(None), Settings())
    return [
        str(manifest["metadata"]["namespace"]) + "/" + manifest["metadata"]["labels"]["motley.dev/model"]
        for _, manifest in found.manifests
    ]


def test_a_model_without_a_shape_is_inspected() -> None:
    assert reading(view_of(pool(), model("chat", {"shape": None}), model("known"))) == ["team/chat"]


@pytest.mark.parametrize(
    "spec",
    [
        {"source": {"uri": "file:///etc"}},
        {"cache": {"hostPath": "/etc"}},
        {"engine": {"image": "evil"}},
        {"engine": {"args": ["--trust-remote-code"]}},
        {"engine": {"env": [{"name": "LD_PRELOAD", "value": "/cache/evil.so"}]}},
        {"servedName": "taken"},
    ],
)
def test_what_is_not_allowed_is_not_inspected(spec: dict[str, Any]) -> None:
    limits = fleet({"allowedImages": ["good"], "allowedArguments": ["--seed"]})
    owner = model("owner", {"servedName": "taken"}, age=90)
    assert reading(view_of(limits, pool(), owner, model("chat", {"shape": None, **spec}))) == []


def test_a_model_that_is_being_deleted_is_not_inspected() -> None:
    assert reading(view_of(pool(), model("chat", {"shape": None}, deletionTimestamp="2026-03-01T11:00:00Z"))) == []


def failed(job: dict[str, Any], view: FleetView) -> FleetView:
    """With the Job of Model team/read in the cluster, which could not read the config.json."""
    name, source = job["metadata"]["name"], job["metadata"]["annotations"]["motley.dev/source"]
    seen = InspectionView("team", name, "read", source, False, True, "no such repository", "")
    return replace(view, inspections=(seen,), owned={("Job", "team", name): "team/read"})


def job_of(found: Desired) -> dict[str, Any]:
    (job,) = (manifest for _, manifest in found.manifests if manifest["kind"] == "Job")
    return dict(job)


UNREAD = {"shape": None, "source": {"uri": "hf://else/x", "secretName": "hub"}}


def test_a_failed_inspection_is_left_until_its_time_is_over() -> None:
    view = in_force(*OBJECTS, model("read", UNREAD))
    job = job_of(wanted(view))
    found = wanted(failed(job, view))
    assert job_of(found) == job and found.gone == ()


@pytest.mark.parametrize(
    "change", [{"source": {"secretName": "mended"}}, {"imagePullSecrets": ["mended"]}, {"engine": {"image": "mended"}}]
)
@pytest.mark.parametrize("with_a_plan", [True, False])
def test_a_failed_inspection_makes_way_when_what_it_ran_with_changes(change: dict[str, Any], with_a_plan: bool) -> None:
    def found(view: FleetView) -> Desired:
        return wanted(view) if with_a_plan else desired(view, formulated(view), Decision(None), Settings())

    job = job_of(found(in_force(*OBJECTS, model("read", UNREAD))))
    after = found(failed(job, in_force(*OBJECTS, model("read", UNREAD, change))))
    assert job_of(after)["metadata"]["name"] != job["metadata"]["name"]
    assert after.gone == (reference(job),)


def test_other_traffic_does_not_repeat_a_failed_inspection() -> None:
    job = job_of(wanted(in_force(*OBJECTS, model("read", UNREAD))))
    busier = model("read", UNREAD, {"traffic": {"rate": "9"}})
    assert job_of(wanted(in_force(*OBJECTS, busier))) == job


def test_an_inspection_that_has_done_its_work_goes() -> None:
    view = in_force(*OBJECTS)
    key = ("Job", "team", "inspect-chat-1")
    job = InspectionView("team", "inspect-chat-1", "chat", SOURCE, True, False, "{}", "")
    assert wanted(replace(view, inspections=(job,), owned={key: "team/chat"})).gone == (key,)


def test_an_inspection_of_an_older_source_goes() -> None:
    view = in_force(*OBJECTS, model("read", {"shape": None, "source": {"uri": "hf://else/x"}}))
    job = InspectionView("team", "inspect-read-1", "read", "hf://else/older", False, True, "no", "")
    key = ("Job", "team", "inspect-read-1")
    found = wanted(replace(view, inspections=(job,), owned={key: "team/read"}))
    assert "Job" in kinds(found) and key in found.gone


def test_an_inspection_runs_only_where_the_model_may() -> None:
    raw = model("chat", {"shape": None, "placement": {"pools": ["a100"]}})
    view = view_of(pool("l4"), pool("a100", A100), raw)
    ((_, job),) = desired(view, formulated(view), Decision(None), Settings()).manifests
    required = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    terms = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [term["matchExpressions"][0]["values"] for term in terms] == [["a100"]]


# Coming to rest


def test_the_next_pass_can_wait_once_everything_is_up() -> None:
    view = in_force(*OBJECTS)
    assert wanted(replace(view, deployments=tuple(map(deployed, wanted(view).groups)))).settled


def test_there_is_no_hurry_while_an_inspection_that_failed_waits_for_its_next_try() -> None:
    view = in_force(*OBJECTS, model("read", UNREAD))
    view = replace(view, deployments=tuple(map(deployed, wanted(view).groups)))
    job = job_of(wanted(view))
    assert not wanted(view).settled, "it is being read"
    after = failed(job, view)
    assert wanted(after).settled
    mended = view_of(model("read", UNREAD, {"source": {"secretName": "mended"}})).models
    assert not wanted(replace(after, models=(*after.models[:1], *mended))).settled, "it is read at once"


@pytest.mark.parametrize(("since", "settled"), [("2026-03-01T11:59:50Z", False), ("2026-03-01T11:00:00Z", True)])
def test_a_pod_that_waits_for_nodes_for_long_is_no_reason_to_hurry(since: str, settled: bool) -> None:
    view = in_force(*OBJECTS)
    waiting = view_of(pod("p", unschedulable(since), model="chat", pool="l4")).pods
    assert wanted(replace(view, pods=waiting, deployments=tuple(map(deployed, wanted(view).groups)))).settled is settled


def test_equal_views_make_equal_wishes() -> None:
    view = in_force(*OBJECTS, model("talk"))
    assert wanted(view) == wanted(view)
    assert [manifest for _, manifest in wanted(view).manifests] == [manifest for _, manifest in wanted(view).manifests]
