"""kopf: watches, and nothing else. An event with news pokes the batcher; what else it says is not used, since a pass
lists everything anew. kopf writes nothing to the cluster."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import kopf
from kopf._core.engines.peering import Identity

from motley_operator.api import GROUP, KINDS
from motley_operator.labels import MANAGED


def asked_of(meta: Mapping[str, Any]) -> tuple[object, ...]:
    """What changes with the spec and with the object's life, and not with its status."""
    finalizers = tuple(meta.get("finalizers") or ())
    return meta.get("generation"), meta.get("deletionTimestamp"), finalizers


def is_news(seen: dict[str, object], event: str | None, meta: Mapping[str, Any]) -> bool:
    """Whether a person's part changed since this object was `seen`, by uid: a poke for every status that we write would
    never end."""
    if event == "DELETED":
        seen.pop(meta["uid"], None)
        return True
    asked = asked_of(meta)
    if seen.get(meta["uid"]) == asked:
        return False
    seen[meta["uid"]] = asked
    return True


def watch(poke: Callable[[], None], stop: threading.Event, identity: str) -> None:
    """Runs kopf in this thread until `stop` is set."""
    registry = kopf.OperatorRegistry()
    seen: dict[str, object] = {}
    for kind in KINDS:

        @kopf.on.event(GROUP, kind.crd.plural, registry=registry, id=f"poke-{kind.crd.plural}")
        def changed(type: str | None, meta: Mapping[str, Any], **_: object) -> None:
            if is_news(seen, type, meta):
                poke()

    @kopf.on.event("apps", "deployments", labels=MANAGED, registry=registry, id="poke-deployments")
    def progressed(**_: object) -> None:
        poke()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**kwargs)

    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = (1, 2, 5, 10)
    asyncio.run(_run(registry, settings, stop, identity))


async def _run(
    registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, stop: threading.Event, identity: str
) -> None:
    stopped = asyncio.Event()
    kopf_task = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=settings,
            clusterwide=True,
            standalone=True,
            stop_flag=stopped,
            identity=Identity(identity),  # its own guess asks for the user's name, which a container may lack
        )
    )
    while not kopf_task.done() and not stop.is_set():
        await asyncio.wait([kopf_task], timeout=0.5)
    stopped.set()
    await kopf_task
