"""The operator's pods as tests look at them from outside: logs, metrics, restarts, who holds the Lease."""

from collections.abc import Mapping
from typing import Any

import httpx

from e2e import stack
from e2e.api import Api
from e2e.cluster import Cluster, ClusterError
from e2e.waiting import wait_for

Json = dict[str, Any]

SELECTOR = "app.kubernetes.io/name=motley-operator"


def log(cluster: Cluster, *arguments: str) -> str:
    """Of all pods that are there; one that is just being started has none for a moment."""

    def read() -> str | None:
        try:
            return cluster.kubectl("-n", stack.NAMESPACE, "logs", "-l", SELECTOR, "--tail=-1", "--prefix", *arguments)
        except ClusterError:
            return None

    return wait_for(read, "the logs of the operator's pods", 60, lambda: stack.state(cluster))


def staying(api: Api) -> list[Json]:
    """The pods that are not being deleted."""
    return [pod for pod in api.list("Pod", stack.NAMESPACE, SELECTOR) if "deletionTimestamp" not in pod["metadata"]]


def ready(api: Api) -> list[Json]:
    return [pod for pod in staying(api) if stack.condition(pod, "Ready").get("status") == "True"]


def restarts(api: Api) -> dict[str, int]:
    """By name of the pod."""
    return {
        pod["metadata"]["name"]: sum(one["restartCount"] for one in pod["status"].get("containerStatuses") or ())
        for pod in staying(api)
    }


def lease_holder(api: Api) -> str:
    """The pod that acts; empty while none does."""
    lease = api.get("Lease", "motley-operator", stack.NAMESPACE)
    return str(lease["spec"].get("holderIdentity") or "") if lease else ""


def metrics(pod: Mapping[str, Any]) -> dict[str, float]:
    """By name with labels, as Prometheus reads them."""
    address = f"http://{pod['status']['podIP']}:8080/metrics"
    lines = httpx.get(address, trust_env=False, timeout=10).raise_for_status().text.splitlines()
    return {name: float(value) for line in lines if line[:1] != "#" for name, _, value in [line.rpartition(" ")]}
