"""A Model from its creation to its end, and the Plans between: new, approved, rolled back, partial."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e import made, stack
from e2e.api import Api
from e2e.cluster import Cluster, ClusterError
from e2e.waiting import wait_for

Json = dict[str, Any]


@pytest.fixture
def fleet(motley: Cluster, api: Api) -> Iterator[Any]:
    """Changes fields of the Fleet's spec; they are as before after the scenario."""
    before = (api.get("Fleet", "default") or {})["spec"]
    changed: set[str] = set()

    def change(**fields: Any) -> None:
        changed.update(fields)
        api.patch("Fleet", "default", {"spec": fields})

    yield change
    api.patch("Fleet", "default", {"spec": {field: before.get(field) for field in changed}})


def plans(api: Api) -> list[Json]:
    """Oldest first."""
    return sorted(api.list("Plan"), key=lambda plan: plan["metadata"]["name"])


def active(api: Api) -> Json | None:
    return next((plan for plan in plans(api) if stack.condition(plan, "Active").get("status") == "True"), None)


def active_name(api: Api) -> str:
    plan = active(api)
    return str(plan["metadata"]["name"]) if plan else ""


def await_plan(cluster: Cluster, api: Api, namespace: str, *words: str) -> Json:
    """A newest Plan whose reason has these words."""

    def found() -> Json | None:
        newest = plans(api)[-1:]
        return next((plan for plan in newest if all(word in plan["spec"]["reason"] for word in words)), None)

    return wait_for(found, f"a Plan because of {' '.join(words)}", 60, lambda: stack.state(cluster, namespace))


def replicas(api: Api, namespace: str, model: str) -> int:
    selector = f"motley.dev/model={model}"
    return sum(one["spec"]["replicas"] for one in api.list("Deployment", namespace, selector))


def status(api: Api, namespace: str, model: str, kind: str) -> Json:
    """The Model's condition, once it is about the present spec."""
    found = api.get("Model", model, namespace) or {}
    condition = stack.condition(found, kind)
    return condition if condition.get("observedGeneration") == found["metadata"]["generation"] else {}


def test_deleting_a_model_removes_all_that_was_made_for_it(
    motley: Cluster, api: Api, make_pool: Any, namespace: str
) -> None:
    kinds = ("Deployment", "Pod", "Service", "NetworkPolicy", "PodDisruptionBudget", "RoutingTable")
    make_pool("shared")
    motley.apply([made.model("leaving", namespace, ["shared"]), made.model("staying", namespace, ["shared"])])
    stack.await_model(motley, "leaving", namespace, 90)
    stack.await_model(motley, "staying", namespace, 90)

    def left(model: str) -> dict[str, list[str]]:
        return {
            kind: [one["metadata"]["uid"] for one in api.list(kind, namespace, f"motley.dev/model={model}")]
            for kind in kinds
        }

    others = left("staying")
    assert all(others.values()) and all(left("leaving").values())
    api.delete("Model", "leaving", namespace)
    wait_for(
        lambda: not any(left("leaving").values()),
        "all that was made for Model leaving to go",
        60,
        lambda: f"{left('leaving')}\n{stack.state(motley, namespace)}",
    )
    assert left("staying") == others


def test_engines_admit_the_router_alone_and_are_evicted_one_by_one(
    motley: Cluster, api: Api, make_pool: Any, namespace: str
) -> None:
    make_pool("shared")
    motley.apply([made.model("chat", namespace, ["shared"], replicas=2)])
    stack.await_model(motley, "chat", namespace, 90)
    (policy,) = api.list("NetworkPolicy", namespace)
    (budget,) = api.list("PodDisruptionBudget", namespace)
    engines = api.list("Pod", namespace, "motley.dev/component=engine")
    routers = api.list("Pod", stack.NAMESPACE, "app.kubernetes.io/name=motley-router")
    for selector in (policy["spec"]["podSelector"], budget["spec"]["selector"]):
        assert len(engines) == 2
        assert all(selector["matchLabels"].items() <= pod["metadata"]["labels"].items() for pod in engines)
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    (rule,) = policy["spec"]["ingress"]
    (source,) = rule["from"]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": stack.NAMESPACE}
    assert routers and all(
        source["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items() for pod in routers
    )
    assert [port["port"] for port in rule["ports"]] == [8000]
    assert budget["spec"]["maxUnavailable"] == 1
    wait_for(
        lambda: (api.list("PodDisruptionBudget", namespace)[0].get("status") or {}).get("disruptionsAllowed") == 1,
        "one eviction to be allowed",
        30,
        lambda: stack.state(motley, namespace),
    )


def test_other_traffic_makes_a_new_plan_that_names_the_model(
    motley: Cluster, api: Api, make_pool: Any, namespace: str
) -> None:
    make_pool("busy")
    motley.apply([made.model("chat", namespace, ["busy"])])
    stack.await_model(motley, "chat", namespace, 90)
    before = plans(api)[-1]["metadata"]["name"]
    sizes = [{"inputTokens": 3000, "outputTokens": 1000}]
    api.patch("Model", "chat", {"spec": {"traffic": {"rate": "4", "sizes": sizes}}}, namespace)
    plan = await_plan(motley, api, namespace, f"Model {namespace}/chat changed")
    assert plan["metadata"]["name"] > before
    assert replicas(api, namespace, "chat") >= 1
    ready = stack.await_model(motley, "chat", namespace, 90)
    assert ready["status"]["plan"] == plan["metadata"]["name"]
    assert ready["status"]["readyReplicas"] > 1


def other(value: Any) -> Any:
    """Another value of the same form."""
    match value:
        case bool():
            return not value
        case dict():
            return {"Fleet": "other"}
        case list():
            return [*value, value[-1]]
        case str():
            return value + "x"
    return value + 1


def test_a_plan_cannot_be_changed_except_for_its_approval(
    motley: Cluster, api: Api, make_pool: Any, namespace: str
) -> None:
    make_pool("shared")
    motley.apply([made.model("chat", namespace, ["shared"])])
    stack.await_model(motley, "chat", namespace, 90)
    name = plans(api)[-1]["metadata"]["name"]
    spec = (api.get("Plan", name) or {})["spec"]
    for field in spec.keys() - {"approved"}:
        if spec[field] != []:
            status, body = api.call("PATCH", "Plan", None, name, {"spec": {field: other(spec[field])}})
            assert status == 422 and "immutable except for approved" in body["message"], (field, body)
    api.patch("Plan", name, {"spec": {"approved": True}})
    assert (api.get("Plan", name) or {})["spec"]["approved"] is True


def test_where_approval_is_manual_a_plan_waits_for_it_and_goes_with_it(
    motley: Cluster, api: Api, make_pool: Any, namespace: str, fleet: Any
) -> None:
    make_pool("shared")
    motley.apply([made.model("chat", namespace, ["shared"], replicas=1)])
    stack.await_model(motley, "chat", namespace, 90)
    first = plans(api)[-1]["metadata"]["name"]
    motley.kubectl("patch", "plan", first, "--type=merge", "-p", '{"spec":{"approved":true}}')
    fleet(approval="Manual")

    api.patch("Model", "chat", {"spec": {"scaling": {"minReplicas": 2}}}, namespace)
    second = await_plan(motley, api, namespace, f"Model {namespace}/chat changed")["metadata"]["name"]

    def state() -> str:
        return stack.state(motley, namespace)

    def waits() -> bool:
        plan = stack.condition(api.get("Plan", second) or {}, "Active")
        said = stack.condition(api.get("Fleet", "default") or {}, "Ready").get("message", "")
        return plan.get("reason") == "WaitingForApproval" and f"kubectl patch plan {second}" in said

    wait_for(waits, f"Plan {second} to wait for approval", 30, state)
    assert replicas(api, namespace, "chat") == 1
    assert active_name(api) == first

    motley.kubectl("patch", "plan", second, "--type=merge", "-p", '{"spec":{"approved":true}}')
    wait_for(lambda: replicas(api, namespace, "chat") == 2, "the approved Plan to be applied", 60, state)
    wait_for(lambda: active_name(api) == second, f"Plan {second} to be active", 30, state)

    motley.kubectl("patch", "plan", second, "--type=merge", "-p", '{"spec":{"approved":false}}')
    wait_for(lambda: replicas(api, namespace, "chat") == 1, "the Plan before to be in force again", 60, state)
    wait_for(lambda: active_name(api) == first, f"Plan {first} to be active", 30, state)


def test_what_the_budget_does_not_pay_for_is_left_out_the_least_important_first(
    motley: Cluster, api: Api, make_pool: Any, namespace: str, fleet: Any
) -> None:
    """Each of the two Models alone would fit."""
    spent = float((active(api) or {"spec": {"costPerHour": 0}})["spec"]["costPerHour"])
    make_pool("dear", price="1000")
    fleet(budgetPerHour=f"{spent + 1500:.2f}")
    scaling = {"minReplicas": 0}
    motley.apply(
        [
            made.model("minor", namespace, ["dear"], scaling=scaling, priority=0),
            made.model("major", namespace, ["dear"], scaling=scaling, priority=5),
        ]
    )
    stack.await_model(motley, "major", namespace, 90)
    left_out = wait_for(
        lambda: status(api, namespace, "minor", "Planned") or None,
        "a word on Model minor",
        60,
        lambda: stack.state(motley, namespace),
    )
    assert left_out["status"] == "False"
    assert left_out["reason"] == "NotPlanned" and "budget" in left_out["message"], left_out
    assert replicas(api, namespace, "major") == 1 and replicas(api, namespace, "minor") == 0

    def incomplete() -> Json | None:
        plan = active(api) or {}
        return plan if stack.condition(plan, "Complete").get("status") == "False" else None

    plan = wait_for(incomplete, "an active Plan that is not complete", 30, lambda: stack.state(motley, namespace))
    assert f"{namespace}/minor" in stack.condition(plan, "Complete")["message"]
    assert {one["model"] for one in plan["spec"]["unserved"]} == {f"{namespace}/minor"}
    assert plan["spec"]["costPerHour"] <= spent + 1500


def test_kubectl_get_shows_what_runs_where_and_at_what_cost(
    motley: Cluster, api: Api, make_pool: Any, namespace: str
) -> None:
    make_pool("shown", price="2.5")
    motley.apply([made.model("chat", namespace, ["shown"], replicas=2)])
    stack.await_model(motley, "chat", namespace, 90)

    def row(*arguments: str) -> dict[str, str]:
        """The first line under the header, by column; columns are cut where the header's words begin."""
        header, line, *_ = motley.kubectl("get", *arguments).splitlines()
        starts = [0, *(at for at in range(1, len(header)) if header[at] != " " and header[at - 2 : at] == "  ")]
        return {
            header[start:end].strip(): line[start:end].strip()
            for start, end in zip(starts, [*starts[1:], None], strict=True)
        }

    def shown() -> bool:
        return row("gpupool", "shown")["READY"] == "True"

    wait_for(shown, "the pool's columns", 30, lambda: stack.state(motley, namespace))
    pool = row("gpupool", "shown")
    assert (pool["GPU"], pool["PLANNED"], pool["MAX"], pool["COST/H"]) == ("A100-80GB", "2", "4", "5.00")
    model = row("model", "chat", "-n", namespace)
    assert (model["READY"], model["REPLICAS"], model["ON"], model["COST/H"]) == ("True", "2", "2×A100-80GB", "5.00")
    assert model["SLO-MET"] == "Unknown" and "Estimated" in model["PREDICTED"]
    plan = row("plan", active_name(api))
    assert plan["ACTIVE"] == "True" and float(plan["COST/H"]) >= 5
    assert "A100-80GB" in plan["SINGLE-TYPE/H"]
    with pytest.raises(ClusterError, match="not found"):
        row("mdl", "other", "-n", namespace)  # the short name is known, the Model is not
    assert row("mdl", "chat", "-n", namespace) and row("gpup", "shown") and row("mfl", "default")
