"""The chart's life: upgraded with other CRDs, rolled back, uninstalled, installed again, while engines go on serving.

Last of all scenarios: for a while there is no Motley on the cluster."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import made, operators, stack
from e2e.api import Api
from e2e.cluster import Cluster
from e2e.waiting import wait_for

Json = dict[str, Any]


@pytest.fixture
def installed(motley: Cluster) -> Iterator[Cluster]:
    """As other scenarios expect it, also after a failure on the way."""
    yield motley
    stack.install(motley)


@pytest.fixture
def served(installed: Cluster, api: Api, make_pool: Any, namespace: str) -> str:
    """A Model whose engines are ready; its namespace."""
    make_pool("charted")
    installed.apply([made.model("chat", namespace, ["charted"], replicas=2)])
    stack.await_model(installed, "chat", namespace, 90)
    return namespace


def engines(api: Api) -> dict[str, tuple[str, int]]:
    """Of all namespaces: by name of the pod its identity, and how often its containers were restarted."""
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            sum(one["restartCount"] for one in pod["status"].get("containerStatuses") or ()),
        )
        for pod in api.list("Pod", selector="motley.dev/component=engine")
    }


def owned(api: Api, namespace: str) -> dict[str, tuple[str, int]]:
    """What the operator made, with identity and generation: adopted means that both stay."""
    kinds = ("Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "RoutingTable")
    return {
        f"{kind} {one['metadata']['name']}": (one["metadata"]["uid"], one["metadata"].get("generation", 0))
        for kind in kinds
        for one in api.list(kind, namespace, "app.kubernetes.io/managed-by=motley")
    }


def with_another_field(folder: Path) -> Path:
    """A copy of the chart whose Models have the optional field spec.note, as a later version might."""
    chart = folder / "motley"
    shutil.copytree(stack.CHART, chart)
    path = chart / "files" / "crds" / "models.yaml"
    crd = yaml.safe_load(path.read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["note"] = {"type": "string"}
    path.write_text(yaml.safe_dump(crd, sort_keys=False))
    return chart


def await_operators(cluster: Cluster, api: Api) -> None:
    for name in ("motley-operator", "motley-router"):
        cluster.kubectl("-n", stack.NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=120s")
    wait_for(lambda: operators.lease_holder(api), "an operator to act", 60, lambda: stack.state(cluster))


def test_an_upgrade_with_changed_crds_and_its_rollback_leave_engines_alone(
    installed: Cluster, api: Api, served: str, tmp_path: Path
) -> None:
    before = engines(api), owned(api, served)
    note = {"spec": {"note": "hello"}}
    _, body = api.call("PATCH", "Model", served, "chat", note, fieldValidation="Strict")
    assert "unknown field" in body["message"]

    installed.helm("upgrade", stack.RELEASE, str(with_another_field(tmp_path)), "-n", stack.NAMESPACE, "--reuse-values")
    await_operators(installed, api)
    status, body = api.call("PATCH", "Model", served, "chat", note, fieldValidation="Strict")
    assert status == 200 and body["spec"]["note"] == "hello", body
    stack.await_model(installed, "chat", served, 60)
    assert (engines(api), owned(api, served)) == before

    installed.helm("rollback", stack.RELEASE, "-n", stack.NAMESPACE)
    await_operators(installed, api)
    _, body = api.call("PATCH", "Model", served, "chat", note, fieldValidation="Strict")
    assert "unknown field" in body["message"]
    api.patch("Model", "chat", {"metadata": {"labels": {"still": "here"}}}, served)
    stack.await_model(installed, "chat", served, 60)
    assert (engines(api), owned(api, served)) == before


def test_after_an_uninstall_engines_run_on_pools_can_go_and_an_install_adopts_everything(
    installed: Cluster, api: Api, make_pool: Any, served: str
) -> None:
    make_pool("spare")
    wait_for(
        lambda: "motley.dev/drain" in (api.get("GPUPool", "spare") or {})["metadata"].get("finalizers", ()),
        "GPUPool spare to be held",
        30,
        lambda: stack.state(installed, served),
    )
    before = engines(api), owned(api, served)
    plan = (api.get("Model", "chat", served) or {})["status"]["plan"]

    installed.helm("uninstall", stack.RELEASE, "-n", stack.NAMESPACE, "--wait", "--timeout=180s")
    wait_for(lambda: not operators.staying(api), "the operators to go", 60, lambda: stack.state(installed, served))
    held = [pool["metadata"]["name"] for pool in api.list("GPUPool") if pool["metadata"].get("finalizers")]
    assert not held, f"GPUPools {held} are still held back by a finalizer that nobody takes off"
    installed.kubectl("delete", "gpupool", "spare", "--timeout=20s")
    assert api.get("Model", "chat", served) and api.get("Plan", plan) and api.get("Fleet", "default")
    assert (engines(api), owned(api, served)) == before

    stack.install(installed)
    await_operators(installed, api)
    api.patch("Model", "chat", {"spec": {"priority": 7}}, served)
    ready = stack.await_model(installed, "chat", served, 90)
    assert ready["status"]["readyReplicas"] == 2
    assert (engines(api), owned(api, served)) == before
