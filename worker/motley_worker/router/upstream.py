"""The door to the engines: opens a response up to its first byte of body, and asks whether an engine is healthy.

Failed
├── Unreachable   no connection: the request did not get there
├── Interrupted   the engine went away before the end
└── TimedOut      the engine is silent
"""

import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable
from typing import cast

import httpcore

from motley_worker.router.tables import Endpoint

CONNECT_SECONDS = 2.0
SILENCE_SECONDS = 600.0
"""A long prompt may wait in an engine's queue for minutes."""
HEALTH_SECONDS = 1.0
KEEP_IDLE_SECONDS = 4.0
"""Less than the five seconds after which vLLM closes an idle connection."""

TIMEOUT = {"connect": CONNECT_SECONDS, "read": SILENCE_SECONDS, "write": 60.0}
HEALTH_TIMEOUT = {"connect": HEALTH_SECONDS, "read": HEALTH_SECONDS, "write": HEALTH_SECONDS}

# A node that vanishes sends no reset: notice within half a minute also while a stream is silent.
KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]

FAILURES = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)

Headers = list[tuple[bytes, bytes]]


class Failed(Exception):
    pass


class Unreachable(Failed):
    pass


class Interrupted(Failed):
    pass


class TimedOut(Failed):
    pass


class Connections:
    """One request at a time on each; those between two requests wait here.

    Our own and not httpcore's pool: that one looks at every connection for every request, which with 64 requests at
    once was half of all the router did.
    """

    def __init__(self) -> None:
        self._idle: dict[Endpoint, deque[tuple[float, httpcore.AsyncHTTPConnection]]] = {}
        self._swept = time.monotonic()

    async def take(self, endpoint: Endpoint) -> httpcore.AsyncHTTPConnection:
        idle = self._idle.get(endpoint)
        while idle:
            _, connection = idle.pop()  # the one used last
            if not connection.has_expired():
                return connection
            await connection.aclose()
        origin = httpcore.Origin(b"http", endpoint.host.encode(), endpoint.port)
        return httpcore.AsyncHTTPConnection(origin, keepalive_expiry=KEEP_IDLE_SECONDS, socket_options=KEEPALIVE)

    async def give_back(self, endpoint: Endpoint, connection: httpcore.AsyncHTTPConnection) -> None:
        now = time.monotonic()
        if connection.is_idle():
            self._idle.setdefault(endpoint, deque()).append((now, connection))
        else:
            await connection.aclose()
        if now - self._swept > KEEP_IDLE_SECONDS:
            self._swept = now
            await self._close_older_than(now - KEEP_IDLE_SECONDS)

    async def aclose(self) -> None:
        await self._close_older_than(float("inf"))

    async def _close_older_than(self, moment: float) -> None:
        for endpoint, idle in list(self._idle.items()):
            while idle and idle[0][0] < moment:
                await idle.popleft()[1].aclose()
            if not idle and self._idle.get(endpoint) is idle:
                del self._idle[endpoint]


class Answer:
    """A response whose first bytes have arrived. To be closed, after which its connection may serve again."""

    def __init__(self, response: httpcore.Response, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        self.status = response.status
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers]
        self.first = first
        """Empty if there is no body."""
        self.rest = rest
        """Raises Failed if the engine goes away."""

    async def aclose(self) -> None:
        await self.rest.aclose()


class Upstream:
    def __init__(self) -> None:
        self._connections = Connections()

    async def open(self, endpoint: Endpoint, path: str, headers: Headers, body: bytes) -> Answer:
        request = httpcore.Request(
            b"POST",
            _url(endpoint, path),
            headers=[*headers, (b"host", endpoint.authority), (b"content-length", b"%d" % len(body))],
            content=body,
            extensions={"timeout": TIMEOUT},
        )
        return await self._send(endpoint, request)

    async def healthy(self, endpoint: Endpoint) -> bool:
        request = httpcore.Request(
            b"GET",
            _url(endpoint, "/health"),
            headers=[(b"host", endpoint.authority)],
            extensions={"timeout": HEALTH_TIMEOUT},
        )
        try:
            answer = await self._send(endpoint, request)
        except Failed:
            return False
        await answer.aclose()
        return answer.status == 200

    async def aclose(self) -> None:
        await self._connections.aclose()

    async def _send(self, endpoint: Endpoint, request: httpcore.Request) -> Answer:
        connection = await self._connections.take(endpoint)
        try:
            response = await connection.handle_async_request(request)
        except FAILURES as error:
            raise _failure(error) from error
        rest = self._chunks(endpoint, connection, response)
        return Answer(response, await anext(rest, b""), rest)

    async def _chunks(
        self, endpoint: Endpoint, connection: httpcore.AsyncHTTPConnection, response: httpcore.Response
    ) -> AsyncGenerator[bytes, None]:
        chunks = cast(AsyncGenerator[bytes, None], aiter(cast(AsyncIterable[bytes], response.stream)))
        try:
            async for chunk in chunks:
                yield chunk
        except FAILURES as error:
            raise _failure(error) from error
        finally:
            await chunks.aclose()
            await response.aclose()
            await self._connections.give_back(endpoint, connection)


def _url(endpoint: Endpoint, path: str) -> httpcore.URL:
    return httpcore.URL(scheme=b"http", host=endpoint.host.encode(), port=endpoint.port, target=path.encode())


def _failure(error: Exception) -> Failed:
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
        return Unreachable(said)
    return TimedOut(said) if isinstance(error, httpcore.ReadTimeout) else Interrupted(said)
