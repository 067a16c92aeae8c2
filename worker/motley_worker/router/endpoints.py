"""What this router itself knows of endpoints: how many requests each one holds, and which ones do not answer.

An endpoint that does not answer is avoided, whatever its Ready bit says, until it answers a probe.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from motley_worker.router.tables import Endpoint
from motley_worker.router.upstream import Upstream

FIRST_PROBE_SECONDS = 0.25
LAST_PROBE_SECONDS = 5.0

log = logging.getLogger(__name__)


class Endpoints:
    def __init__(self, upstream: Upstream, known: Callable[[], Collection[Endpoint]]) -> None:
        """`known`: the endpoints that routes name now; one that is not among them is probed no more."""
        self.outstanding: Counter[Endpoint] = Counter()
        self._upstream = upstream
        self._known = known
        self._probes: dict[Endpoint, asyncio.Task[None]] = {}

    @property
    def avoided(self) -> Collection[Endpoint]:
        return self._probes.keys()

    @contextmanager
    def held(self, endpoint: Endpoint) -> Iterator[None]:
        """While one request is at the endpoint."""
        self.outstanding[endpoint] += 1
        try:
            yield
        finally:
            self.outstanding[endpoint] -= 1
            if not self.outstanding[endpoint]:
                del self.outstanding[endpoint]

    def avoid(self, endpoint: Endpoint, reason: str) -> None:
        if endpoint not in self._probes:
            log.warning("avoiding %s:%d until it answers: %s", *endpoint, reason)
            self._probes[endpoint] = asyncio.create_task(self._probe(endpoint))

    async def _probe(self, endpoint: Endpoint) -> None:
        delay = FIRST_PROBE_SECONDS
        try:
            while endpoint in self._known():
                await asyncio.sleep(delay)
                if await self._upstream.healthy(endpoint):
                    log.info("%s:%d answers again", *endpoint)
                    return
                delay = min(2 * delay, LAST_PROBE_SECONDS)
        finally:
            del self._probes[endpoint]

    async def aclose(self) -> None:
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
