"""The door to the engines: opens a response up to its first byte of body, and asks whether an engine is healthy.

Failed
├── Unreachable   no connection: the request did not get there
├── Interrupted   the engine went away before the first byte
└── TimedOut      the engine is silent
"""

import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import httpx

from motley_worker.router.tables import Endpoint

CONNECT_SECONDS = 2.0
SILENCE_SECONDS = 600.0
"""A long prompt may wait in an engine's queue for minutes."""
HEALTH_SECONDS = 1.0
KEEP_IDLE_SECONDS = 4.0
"""Less than the five seconds after which vLLM closes an idle connection."""

TIMEOUT = {"connect": CONNECT_SECONDS, "read": SILENCE_SECONDS, "write": 60.0, "pool": None}
HEALTH_TIMEOUT = {"connect": HEALTH_SECONDS, "read": HEALTH_SECONDS, "write": HEALTH_SECONDS, "pool": HEALTH_SECONDS}

# A node that vanishes sends no reset: notice within half a minute also while a stream is silent.
KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]

Headers = list[tuple[bytes, bytes]]


class Failed(Exception):
    pass


class Unreachable(Failed):
    pass


class Interrupted(Failed):
    pass


class TimedOut(Failed):
    pass


@dataclass(slots=True)
class Answer:
    """A response whose first bytes have arrived. `rest` raises Failed if the engine goes away."""

    status: int
    headers: Headers
    first: bytes
    rest: AsyncGenerator[bytes, None]
    response: httpx.Response

    async def aclose(self) -> None:
        await self.rest.aclose()
        await self.response.aclose()


class Upstream:
    def __init__(self) -> None:
        # The transport rather than a client: no cookies, redirects or proxy settings between us and an engine.
        self._transport = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=1000, keepalive_expiry=KEEP_IDLE_SECONDS
            ),
            socket_options=KEEPALIVE,
            trust_env=False,
        )

    async def open(self, endpoint: Endpoint, path: str, headers: Headers, body: bytes) -> Answer:
        request = httpx.Request(
            "POST", _url(endpoint, path), headers=headers, content=body, extensions={"timeout": TIMEOUT}
        )
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise _failure(error) from error
        rest = _chunks(response)
        try:
            first = await anext(rest, b"")
        except BaseException:
            await response.aclose()
            raise
        return Answer(response.status_code, response.headers.raw, first, rest, response)

    async def healthy(self, endpoint: Endpoint) -> bool:
        request = httpx.Request("GET", _url(endpoint, "/health"), extensions={"timeout": HEALTH_TIMEOUT})
        try:
            response = await self._transport.handle_async_request(request)
            try:
                await response.aread()
            finally:
                await response.aclose()
        except httpx.TransportError:
            return False
        return response.status_code == 200

    async def aclose(self) -> None:
        await self._transport.aclose()


@lru_cache(4096)
def _url(endpoint: Endpoint, path: str) -> httpx.URL:
    return httpx.URL(f"http://{endpoint.host}:{endpoint.port}{path}")


async def _chunks(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in cast(httpx.AsyncByteStream, response.stream):
            yield chunk
    except httpx.TransportError as error:
        raise _failure(error) from error


def _failure(error: httpx.TransportError) -> Failed:
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return Unreachable(said)
    return TimedOut(said) if isinstance(error, httpx.ReadTimeout) else Interrupted(said)
