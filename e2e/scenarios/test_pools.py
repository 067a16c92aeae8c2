"""Pools of nodes: drained before they go, left alone where they may hold nothing, packed as the scheduler can pack."""

from typing import Any

from e2e import made, stack
from e2e.api import Api
from e2e.cluster import Cluster
from e2e.waiting import wait_for

Json = dict[str, Any]


def pods_of(api: Api, namespace: str, model: str) -> list[Json]:
    """The engine pods that stay."""
    pods = api.list("Pod", namespace, f"motley.dev/model={model},motley.dev/component=engine")
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def ready_on(api: Api, namespace: str, model: str) -> list[str]:
    """The pool of each ready replica."""
    return sorted(
        pod["metadata"]["labels"]["motley.dev/pool"]
        for pod in pods_of(api, namespace, model)
        if stack.condition(pod, "Ready").get("status") == "True"
    )


def reason(api: Api, kind: str, condition: str, name: str, namespace: str | None = None) -> str:
    return str(stack.condition(api.get(kind, name, namespace) or {}, condition).get("reason", ""))


def test_a_deleted_pool_stays_until_its_replicas_have_moved_and_no_replica_is_missed(
    motley: Cluster, api: Api, make_pool: Any, namespace: str
) -> None:
    make_pool("old", price="0.01")
    make_pool("new", price="0.02")
    motley.apply([made.model("moving", namespace, ["old", "new"], replicas=2)])
    stack.await_model(motley, "moving", namespace, 90)
    assert ready_on(api, namespace, "moving") == ["old", "old"]
    fewest, reasons = 2, set()
    api.delete("GPUPool", "old")

    def gone() -> bool:
        nonlocal fewest
        fewest = min(fewest, len(ready_on(api, namespace, "moving")))
        reasons.add(reason(api, "GPUPool", "Ready", "old"))
        return api.get("GPUPool", "old") is None

    wait_for(gone, "GPUPool old to go", 90, lambda: stack.state(motley, namespace), every=0.05)
    assert fewest == 2, f"{fewest} of 2 replicas were ready at the worst moment"
    assert "Draining" in reasons
    assert ready_on(api, namespace, "moving") == ["new", "new"]
    stack.await_model(motley, "moving", namespace, 30)


def test_the_last_pool_of_a_model_can_be_deleted_and_the_model_says_what_it_lacks(
    motley: Cluster, api: Api, make_pool: Any, namespace: str
) -> None:
    make_pool("only")
    motley.apply([made.model("stranded", namespace, ["only"])])
    stack.await_model(motley, "stranded", namespace, 90)
    api.delete("GPUPool", "only")
    wait_for(
        lambda: (
            api.get("GPUPool", "only") is None and reason(api, "Model", "Accepted", "stranded", namespace) == "NoPool"
        ),
        "GPUPool only to go, and Model stranded to miss it",
        60,
        lambda: stack.state(motley, namespace),
    )
    assert not api.list("Deployment", namespace)


def test_a_pool_with_max_zero_gets_no_replicas(motley: Cluster, api: Api, make_pool: Any, namespace: str) -> None:
    make_pool("closed", nodes=0, price="0.001")
    make_pool("open", price="1")
    motley.apply([made.model("chat", namespace, ["closed", "open"])])
    stack.await_model(motley, "chat", namespace, 90)
    assert ready_on(api, namespace, "chat") == ["open"]
    assert reason(api, "GPUPool", "Ready", "closed") == "Idle"


def test_three_tp4_replicas_on_two_nodes_of_six_gpus_are_never_planned(
    motley: Cluster, api: Api, make_pool: Any, namespace: str
) -> None:
    make_pool("six", gpus=6, nodes=2)
    wanted = made.model("wide", namespace, ["six"], 3, placement={"pools": ["six"], "tensorParallel": [4]})
    motley.apply([wanted])
    condition = wait_for(
        lambda: stack.condition(api.get("Model", "wide", namespace) or {}, "Planned") or None,
        "a word on whether Model wide is planned",
        60,
        lambda: stack.state(motley, namespace),
    )
    assert condition["status"] == "False" and "minReplicas" in condition["message"], condition
    key = f"{namespace}/wide"
    counts = [
        sum(one["replicas"] for one in plan["spec"].get("allocations", ()) if one["model"] == key)
        for plan in api.list("Plan")
    ]
    assert max(counts) <= 2
    assert len(pods_of(api, namespace, "wide")) <= 2


def test_what_is_planned_for_nodes_of_six_gpus_is_what_the_scheduler_places(
    motley: Cluster, api: Api, make_pool: Any, namespace: str
) -> None:
    """All twelve GPUs: two groups of four, and two of two between them; the small ones come first."""
    make_pool("full", gpus=6, nodes=2)
    narrow = made.model("narrow", namespace, ["full"], 2, placement={"pools": ["full"], "tensorParallel": [2]})
    wide = made.model("wide", namespace, ["full"], 2, placement={"pools": ["full"], "tensorParallel": [4]})
    motley.apply([narrow])
    stack.await_model(motley, "narrow", namespace, 90)
    motley.apply([wide])
    stack.await_model(motley, "wide", namespace, 120)
    stack.await_model(motley, "narrow", namespace, 60)
    pods = [*pods_of(api, namespace, "narrow"), *pods_of(api, namespace, "wide")]
    nodes = sorted((pod["spec"]["nodeName"], pod["metadata"]["labels"]["motley.dev/tensor-parallel"]) for pod in pods)
    assert nodes == [("full-0", "2"), ("full-0", "4"), ("full-1", "2"), ("full-1", "4")]
