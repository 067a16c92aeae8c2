"""kopf: watches, and nothing else. Every event pokes the batcher; what an event says is not used, since a pass lists
everything anew. kopf writes nothing to the cluster."""

import asyncio
import threading
from collections.abc import Callable

import kopf

from motley_operator.api import GROUP, KINDS

WATCHED = (*((GROUP, kind.crd.plural) for kind in KINDS), ("apps", "deployments"))


def watch(poke: Callable[[], None], stop: threading.Event) -> None:
    """Runs kopf in this thread until `stop` is set."""
    registry = kopf.OperatorRegistry()
    for group, plural in WATCHED:

        @kopf.on.event(group, plural, registry=registry, id=f"poke-{plural}")
        def changed(**_: object) -> None:
            poke()

    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = (1, 2, 5, 10)
    stopped = asyncio.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(
            target=lambda: (stop.wait(), loop.call_soon_threadsafe(stopped.set)), name="stop-kopf", daemon=True
        ).start()
        await kopf.operator(registry=registry, settings=settings, clusterwide=True, standalone=True, stop_flag=stopped)

    asyncio.run(run())
