"""The door to the Kubernetes API: lists, server-side apply, status, deletion, events. Plain JSON in and out."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from motley_operator import metrics
from motley_operator.api import GROUP, KINDS, VERSION
from motley_operator.errors import ApiError, Conflict, NotFound, Refused, Unreachable
from motley_operator.labels import FIELD_MANAGER

Json = dict[str, Any]
log = logging.getLogger(__name__)

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
PAGE = 500
READ_SECONDS = (3, 30)
WRITE_SECONDS = (2, 4)
"""To connect and to be answered. A write must not land long after the Lease went to somebody else."""


@dataclass(frozen=True)
class Kind:
    name: str
    root: str
    """`/api/v1`, `/apis/apps/v1`"""
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        where = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join(filter(None, (f"{self.root}{where}/{self.plural}", name, sub)))


_BUILT_IN = (
    Kind("Deployment", "/apis/apps/v1", "deployments"),
    Kind("Service", "/api/v1", "services"),
    Kind("Pod", "/api/v1", "pods"),
    Kind("Node", "/api/v1", "nodes", namespaced=False),
    Kind("Job", "/apis/batch/v1", "jobs"),
    Kind("NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies"),
    Kind("PodDisruptionBudget", "/apis/policy/v1", "poddisruptionbudgets"),
    Kind("EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices"),
    Kind("Lease", "/apis/coordination.k8s.io/v1", "leases"),
    Kind("Event", "/api/v1", "events"),
)
_OWN = tuple(
    Kind(kind.__name__, f"/apis/{GROUP}/{VERSION}", kind.crd.plural, kind.crd.scope == "Namespaced") for kind in KINDS
)
KIND: Mapping[str, Kind] = {kind.name: kind for kind in (*_BUILT_IN, *_OWN)}


def api_client() -> client.ApiClient:
    """From the pod's ServiceAccount, else from the kubeconfig."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        config.load_kube_config()  # type: ignore[no-untyped-call]
    settings = client.Configuration.get_default_copy()
    settings.retries = False  # a pass that fails is repeated as a whole
    return client.ApiClient(settings)


class Kube:
    """`may_write` is asked before every write: it raises LeaseLost when another replica acts."""

    def __init__(self, api: client.ApiClient, may_write: Callable[[], None] = lambda: None) -> None:
        self._api, self._may_write = api, may_write

    def listed(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Json]:
        return list(self._pages(KIND[kind], namespace, selector))

    def _pages(self, kind: Kind, namespace: str | None, selector: str) -> Iterator[Json]:
        query: dict[str, Any] = {"limit": PAGE, "labelSelector": selector}
        while True:
            page = self._call("list", "GET", kind, kind.path(namespace), query=query)
            yield from page.get("items") or ()
            following = page.get("metadata", {}).get("continue")
            if not following:
                return
            query["continue"] = following

    def get(self, kind: str, namespace: str | None, name: str) -> Json:
        return self._call("get", "GET", KIND[kind], KIND[kind].path(namespace, name))

    def apply(self, manifest: Mapping[str, Any], sub: str | None = None) -> Json:
        """Server-side apply as our field manager; what we do not own stays as it is."""
        self._may_write()
        kind, metadata = KIND[manifest["kind"]], manifest["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"], sub)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._call("apply", "PATCH", kind, path, manifest, query, APPLY)

    def apply_status(self, manifest: Mapping[str, Any]) -> Json:
        return self.apply(manifest, sub="status")

    def create(self, manifest: Mapping[str, Any]) -> Json:
        self._may_write()
        return self.create_unguarded(manifest)

    def replace(self, manifest: Mapping[str, Any]) -> Json:
        """With the resourceVersion in the manifest: a Conflict when somebody else was faster. Needs no lease."""
        kind, metadata = KIND[manifest["kind"]], manifest["metadata"]
        return self._call("update", "PUT", kind, kind.path(metadata.get("namespace"), metadata["name"]), manifest)

    def create_unguarded(self, manifest: Mapping[str, Any]) -> Json:
        """Only for the Lease itself."""
        kind = KIND[manifest["kind"]]
        return self._call("create", "POST", kind, kind.path(manifest["metadata"].get("namespace")), manifest)

    def set_finalizers(self, kind: str, obj: Mapping[str, Any], finalizers: list[str]) -> Json:
        """Of the object as it was read; never brings a deleted one back."""
        self._may_write()
        metadata = obj["metadata"]
        patch = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
        path = KIND[kind].path(metadata.get("namespace"), metadata["name"])
        return self._call("patch", "PATCH", KIND[kind], path, patch, content_type=MERGE)

    def scale(self, kind: str, namespace: str, name: str, replicas: int) -> Json:
        """Only the number: an apply with nothing else would give up the fields that an earlier one set."""
        self._may_write()
        path, patch = KIND[kind].path(namespace, name), {"spec": {"replicas": replicas}}
        return self._call("scale", "PATCH", KIND[kind], path, patch, content_type=MERGE)

    def delete(self, kind: str, namespace: str | None, name: str) -> None:
        self._may_write()
        query = {"propagationPolicy": "Background"}
        try:
            self._call("delete", "DELETE", KIND[kind], KIND[kind].path(namespace, name), query=query)
        except NotFound:
            pass

    def _call(
        self,
        verb: str,
        method: str,
        kind: Kind,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        try:
            request = self._api.param_serialize(
                method,
                path,
                query_params=[(key, value) for key, value in (query or {}).items() if value != ""],
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=json.dumps(body) if content_type == APPLY else body,
                auth_settings=["BearerToken"],
            )
            response = self._api.call_api(*request, _request_timeout=READ_SECONDS if verb == "list" else WRITE_SECONDS)
            data: bytes = response.read() or b"{}"  # type: ignore[no-untyped-call]
        except (ApiException, HTTPError, OSError) as error:
            metrics.API_ERRORS.labels(verb, kind.name, Unreachable.__name__).inc()
            raise Unreachable(f"{verb} {path}: {error}") from error
        if response.status >= 300:
            refused = _error(response.status, f"{verb} {path}", data)
            metrics.API_ERRORS.labels(verb, kind.name, type(refused).__name__).inc()
            raise refused
        found = _parsed(data)
        if not isinstance(found, dict):  # whatever stands between: a proxy, a load balancer
            metrics.API_ERRORS.labels(verb, kind.name, Unreachable.__name__).inc()
            raise Unreachable(f"{verb} {path}: the answer is not a JSON object")
        return found


def _parsed(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _error(status: int, doing: str, data: bytes) -> ApiError:
    try:
        message = json.loads(data)["message"]
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {status}"
    known: dict[int, type[ApiError]] = {404: NotFound, 409: Conflict}
    kind = known.get(status, Unreachable if status >= 500 or status == 429 else Refused)
    return kind(f"{doing}: {message}")
