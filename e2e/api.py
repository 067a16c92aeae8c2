"""The API server as tests see it: plain JSON by kind, in this process, since polling with kubectl starts many."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

Json = dict[str, Any]

ROOTS = {
    **dict.fromkeys(("Pod", "Service", "Node", "Event", "Namespace"), "/api/v1"),
    **dict.fromkeys(("Deployment", "ReplicaSet"), "/apis/apps/v1"),
    **dict.fromkeys(("Fleet", "GPUPool", "Model", "Profile", "Plan", "RoutingTable"), "/apis/motley.dev/v1alpha1"),
    "Job": "/apis/batch/v1",
    "NetworkPolicy": "/apis/networking.k8s.io/v1",
    "PodDisruptionBudget": "/apis/policy/v1",
    "Lease": "/apis/coordination.k8s.io/v1",
}
CONTENT_TYPES = {"PATCH": "application/merge-patch+json"}


class Api:
    """As the cluster's administrator. Answers are (HTTP status, body): a refusal is an answer too."""

    def __init__(self, kubeconfig: Path) -> None:
        settings = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        settings.retries = urllib3.Retry(connect=3, read=0, redirect=0, backoff_factor=0.2)
        self._client = client.ApiClient(settings)

    def call(
        self, method: str, kind: str, namespace: str | None = None, name: str = "", body: Any = None, **query: str
    ) -> tuple[int, Json]:
        where = f"/namespaces/{namespace}" if namespace else ""
        path = f"{ROOTS[kind]}{where}/{_plural(kind)}{f'/{name}' if name else ''}"
        headers = {"Accept": "application/json", "Content-Type": CONTENT_TYPES.get(method, "application/json")}
        request = self._client.param_serialize(
            method, path, query_params=[*query.items()], header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        answer = self._client.call_api(*request, _request_timeout=(5, 60))
        return answer.status, json.loads(answer.read() or b"{}")  # type: ignore[no-untyped-call]

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Json]:
        status, body = self.call("GET", kind, namespace, labelSelector=selector)
        assert status == 200, body
        return list(body["items"])

    def get(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        status, body = self.call("GET", kind, namespace, name)
        assert status in (200, 404), body
        return body if status == 200 else None

    def create(self, manifest: Mapping[str, Any], **query: str) -> tuple[int, Json]:
        return self.call(
            "POST", manifest["kind"], manifest["metadata"].get("namespace"), body=manifest, fieldManager="test", **query
        )

    def patch(self, kind: str, name: str, change: Json, namespace: str | None = None) -> Json:
        status, body = self.call("PATCH", kind, namespace, name, change)
        assert status == 200, body
        return body

    def delete(self, kind: str, name: str, namespace: str | None = None, **query: str) -> None:
        status, body = self.call("DELETE", kind, namespace, name, **query)
        assert status in (200, 202, 404), body

    def watch(self, kind: str, namespace: str | None = None, seconds: int = 30) -> Iterator[Json]:
        """Every change from this call on, until `seconds` are over."""
        _, now = self.call("GET", kind, namespace, limit="1")
        where = f"/namespaces/{namespace}" if namespace else ""
        query = {"watch": "true", "timeoutSeconds": str(seconds), "resourceVersion": now["metadata"]["resourceVersion"]}
        request = self._client.param_serialize(
            "GET", f"{ROOTS[kind]}{where}/{_plural(kind)}", query_params=[*query.items()], auth_settings=["BearerToken"]
        )
        return _lines(self._client.call_api(*request, _request_timeout=(5, seconds + 5)).response)

    def close(self) -> None:
        self._client.rest_client.pool_manager.clear()


def _plural(kind: str) -> str:
    return "networkpolicies" if kind == "NetworkPolicy" else f"{kind.lower()}s"


def _lines(answer: Any) -> Iterator[Json]:
    rest = b""
    try:
        for chunk in answer.stream(amt=None, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (json.loads(line) for line in lines if line.strip())
    finally:
        answer.close()
