"""The door to the Kubernetes API: lists and watches one kind in a thread of its own, for as long as the process lives.

Hands over parsed objects and keeps nothing but the place where to go on. Any trouble ends in another try.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from kubernetes import client, config
from pydantic import BaseModel, ValidationError

from motley_worker.router.tables import Key

Item = TypeVar("Item", bound=BaseModel)
SinkItem = TypeVar("SinkItem", contravariant=True)

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 5.0  # engines that leave wait about as long for routers to know of it
WATCH_SECONDS = 240
GONE = 410

log = logging.getLogger(__name__)


class Expired(Exception):
    """The place where to go on is too old for the API server: list again."""


class Broken(Exception):
    """What the API server says makes no sense: list again."""


class Sink(Protocol[SinkItem]):
    """Where the objects go. `None` stands for one that is malformed."""

    def replace(self, listed: Mapping[Key, SinkItem | None]) -> None: ...

    def put(self, key: Key, item: SinkItem | None) -> None: ...

    def drop(self, key: Key) -> None: ...


@dataclass(frozen=True)
class Source:
    group: str
    version: str
    plural: str
    namespace: str = ""
    """Empty for all."""
    label_selector: str = ""


ROUTING_TABLES = Source("motley.dev", "v1alpha1", "routingtables")
ENDPOINT_SLICES = Source(
    "discovery.k8s.io", "v1", "endpointslices", label_selector="app.kubernetes.io/managed-by=motley"
)
"""A slice carries its Service's labels, and the operator labels the Services of engines."""


def api_client() -> client.ApiClient:
    """With the pod's ServiceAccount, outside a cluster with the kubeconfig."""
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.retries = False  # the watch tries again by itself, and says so
    configuration.keep_alive = True  # a watch is silent for long: notice when the other side has vanished
    return client.ApiClient(configuration)


class Watch(threading.Thread, Generic[Item]):
    """Runs until `stop`; the sink is called from this thread."""

    def __init__(self, api: client.ApiClient, source: Source, parse: type[Item], sink: Sink[Item]) -> None:
        super().__init__(name=f"watch-{source.plural}", daemon=True)
        self._objects = client.CustomObjectsApi(api)
        self._source = source
        self._parse = parse
        self._sink = sink
        self._stopped = threading.Event()
        self._resource_version = ""
        self._failures = 0

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                if not self._resource_version:
                    self._list()
                self._watch()
            except Exception as error:  # whatever it is, serving must go on and the next try may succeed
                self._note(error)
            self._stopped.wait(self._wait_seconds())

    def _note(self, error: Exception) -> None:
        self._failures += 1
        if isinstance(error, Expired | Broken) or (isinstance(error, client.ApiException) and error.status == GONE):
            self._resource_version = ""
        said = f"{error.status} {error.reason}" if isinstance(error, client.ApiException) else str(error)
        log.warning("watching %s: %s: %s", self._source.plural, type(error).__name__, said[:300])

    def _wait_seconds(self) -> float:
        """Nothing after a watch that ended well; else longer each time, and never at the same time as others."""
        longest = min(FIRST_WAIT_SECONDS * 2 ** min(self._failures, 10) / 2, LONGEST_WAIT_SECONDS)
        return random.uniform(longest / 2, longest) if self._failures else 0.0

    def _list(self) -> None:
        with closing(self._get(timeout_seconds=60)) as response:
            listed = _decoded(response.data)
        items = listed.get("items")
        version = _mapping(listed.get("metadata")).get("resourceVersion")
        if not isinstance(version, str) or not version:
            raise Broken("a list without metadata.resourceVersion")
        parsed = (self._parsed(item) for item in (items if isinstance(items, list) else []))
        self._sink.replace(dict(pair for pair in parsed if pair is not None))
        self._resource_version = version

    def _watch(self) -> None:
        # An early end without a single event counts as a failure, or a broken server would be asked without a pause.
        fruitful = False
        seconds = WATCH_SECONDS + random.randrange(60)
        began = time.monotonic()
        with closing(
            self._get(
                timeout_seconds=seconds,
                watch=True,
                allow_watch_bookmarks=True,
                resource_version=self._resource_version,
            )
        ) as response:
            for line in _lines(response):
                if self._stopped.is_set():
                    return
                self._take(_decoded(line))
                fruitful = True
                self._failures = 0
        if not fruitful and time.monotonic() - began < 1.0:
            raise ConnectionError("the watch ended at once")
        self._failures = 0

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, changed = event.get("type"), _mapping(event.get("object"))
        if kind == "ERROR":
            raise Expired(str(changed.get("message"))) if changed.get("code") == GONE else Broken(str(changed))
        if kind in ("ADDED", "MODIFIED"):
            pair = self._parsed(changed)
            if pair is not None:
                self._sink.put(*pair)
        elif kind == "DELETED":
            key = _key(changed)
            if key is not None:
                self._sink.drop(key)
        version = _mapping(changed.get("metadata")).get("resourceVersion")
        if isinstance(version, str) and version:
            self._resource_version = version

    def _parsed(self, raw: Any) -> tuple[Key, Item | None] | None:
        key = _key(raw)
        if key is None:
            log.warning("skipping an object of %s without a name", self._source.plural)
            return None
        try:
            return key, self._parse.model_validate(raw)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            log.warning("skipping %s %s/%s: %s: %s", self._source.plural, *key, where[:200], first["msg"][:200])
            return key, None

    def _get(self, timeout_seconds: int, **query: Any) -> Any:
        """The undecoded response of a list or watch; raises on any status but 200."""
        source = self._source
        arguments: dict[str, Any] = {
            "label_selector": source.label_selector or None,
            "timeout_seconds": timeout_seconds,
            "_preload_content": False,
            "_request_timeout": (5, timeout_seconds + 15),
            **query,
        }
        if source.namespace:
            return self._objects.list_namespaced_custom_object(
                source.group, source.version, source.namespace, source.plural, **arguments
            )
        return self._objects.list_cluster_custom_object(source.group, source.version, source.plural, **arguments)


def _lines(response: Any) -> Iterator[bytes]:
    """Whole lines; what stands after the last line end is an event cut in two and will be sent again."""
    rest = b""
    for chunk in response.stream(amt=None, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)


def _decoded(document: bytes) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(document))
    except (ValueError, RecursionError) as error:
        raise Broken(f"not JSON: {error}") from None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _key(raw: Any) -> Key | None:
    metadata = _mapping(_mapping(raw).get("metadata"))
    namespace, name = metadata.get("namespace"), metadata.get("name")
    return (namespace, name) if isinstance(namespace, str) and isinstance(name, str) else None
