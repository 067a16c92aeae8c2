"""One completion request from its body to its last byte: choose an engine, forward, retry, pass on, take notes.

A request moves to another engine as long as no byte of a response has been passed on, and never after. Engines see it
at most three times, so that a request that kills engines does not kill them all. A prefill/decode pair will be two hops
here, in `_answer`; admission and prefix affinity belong before `_choose`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from starlette.types import Message, Receive, Scope, Send

from motley_worker.router.choose import choose, size_of
from motley_worker.router.endpoints import Endpoints
from motley_worker.router.errors import Refusal, no_endpoint, unknown_model
from motley_worker.router.estimate import Estimates
from motley_worker.router.metrics import Metrics
from motley_worker.router.request import Ask, BadRequest, ask_of
from motley_worker.router.slo import Served, attains, counts
from motley_worker.router.tables import Endpoint, Route
from motley_worker.router.upstream import Answer, Failed, Headers, TimedOut, Unreachable, Upstream
from motley_worker.router.usage import ERROR_EVENT, Reader, StreamReader, WholeReader
from motley_worker.router.view import View

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_HELD_BYTES = 256 * 1024 * 1024
HUGE_BYTES = 1024 * 1024
BODY_SECONDS = 60.0
MAX_ENGINES = 3
CLIENT_LEFT = 499
CHAT_PATH = "/v1/chat/completions"

# Lists of what passes, not of what does not: no credentials, cookies or engine controls (vLLM reads
# `x-data-parallel-rank`) reach an engine. `identity`, so that responses can be read on the side.
REQUEST_HEADERS = frozenset({b"accept", b"content-type", b"traceparent", b"tracestate", b"x-request-id"})
RESPONSE_HEADERS = frozenset({b"cache-control", b"content-length", b"content-type", b"x-request-id"})

log = logging.getLogger(__name__)


class ClientLeft(Exception):
    pass


@dataclass(slots=True)
class Exchange:
    """One request on its way."""

    path: str
    headers: Headers
    body: bytes
    ask: Ask
    route: Route
    input_tokens: int
    expected_output_tokens: int
    started: float
    status: int = 0
    """Of the response; 0 while none has begun."""
    reader: Reader | None = None
    """Of the response that is passed on."""


class Proxy:
    def __init__(
        self,
        view: View,
        metrics: Metrics,
        random: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        self.endpoints = Endpoints(upstream := Upstream(), lambda: view.endpoints)
        self._upstream = upstream
        self._view = view
        self._metrics = metrics
        self._random = random or Random()
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._bodies = Bodies(max_held_bytes)
        self._estimates: dict[str, Estimates] = {}

    async def aclose(self) -> None:
        await self.endpoints.aclose()
        await self._upstream.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._bodies.held() as hold:
            try:
                exchange = await self._exchange_of(scope, await body_of(scope, receive, self._max_body_bytes, hold))
            except ClientLeft:
                return
            except Refusal as refusal:
                self._metrics.requests.labels("", str(refusal.status)).inc()
                await refusal.response()(scope, receive, send)
                return
            await self._serve_until_client_leaves(exchange, scope, receive, send)

    async def _exchange_of(self, scope: Scope, body: bytes) -> Exchange:
        try:
            # A huge body may take a second to read: not in the event loop, where all streams would wait.
            ask = ask_of(body) if len(body) < HUGE_BYTES else await asyncio.to_thread(ask_of, body)
        except BadRequest as error:
            raise Refusal(400, str(error), param=error.param) from None
        route = self._view.routes.get(ask.model)
        if route is None:
            raise unknown_model(ask.model)
        estimates = self._estimates.setdefault(route.model, Estimates())
        input_tokens = estimates.input_tokens(ask)
        return Exchange(
            path=scope["path"],
            headers=[(name, value) for name, value in scope["headers"] if name in REQUEST_HEADERS]
            + [(b"accept-encoding", b"identity")],
            body=body,
            ask=ask,
            route=route,
            input_tokens=input_tokens,
            expected_output_tokens=estimates.output_tokens(input_tokens, ask.max_output_tokens),
            started=self._clock(),
        )

    async def _serve_until_client_leaves(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        model = exchange.route.model
        serving = asyncio.create_task(self._serve(exchange, scope, receive, send))
        leaving = asyncio.create_task(client_left(receive))
        leaving.add_done_callback(lambda _: serving.cancel())
        self._metrics.in_flight.labels(model).inc()
        try:
            await serving
        except asyncio.CancelledError:
            if not leaving.done():
                raise  # this server is stopping
            exchange.status = CLIENT_LEFT
        finally:
            leaving.cancel()
            self._metrics.in_flight.labels(model).dec()
            exchange.status = exchange.status or 500
            self._metrics.requests.labels(model, str(exchange.status)).inc()
            self._count_offered(exchange)

    def _count_offered(self, exchange: Exchange) -> None:
        if not (counts(exchange.status) or exchange.status == CLIENT_LEFT):
            return
        model, reader = exchange.route.model, exchange.reader
        if reader is None or reader.failed:
            self._metrics.offered.add(model, exchange.input_tokens, None)
        elif reader.usage is None:
            self._metrics.offered.add(model, exchange.input_tokens, reader.output_tokens)
        else:
            self._metrics.offered.add(model, reader.usage.input_tokens, reader.usage.output_tokens)
            self._metrics.offered.told(model, reader.usage)

    async def _serve(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            endpoint, answer = await self._answer(exchange)
        except Refusal as refusal:
            exchange.status = refusal.status
            self._metrics.attempted(exchange.route.model, attained=False)
            await refusal.response()(scope, receive, send)
            return
        try:
            with self.endpoints.held(endpoint):
                whole = await self._pass_on(exchange, answer, send)
        finally:
            await answer.aclose()
        if whole:
            await send({"type": "http.response.body", "body": b""})
        # Otherwise the response stays unfinished and the server cuts the connection, so that the client sees it.

    async def _answer(self, exchange: Exchange) -> tuple[Endpoint, Answer]:
        """The first engine's response that may be passed on."""
        tried: set[Endpoint] = set()
        engines = 0
        while engines < MAX_ENGINES:
            endpoint = self._choose(exchange, tried)
            if tried and endpoint:
                self._metrics.retries.labels(exchange.route.model).inc()
            if endpoint is None:
                self._metrics.no_endpoint.labels(exchange.route.model).inc()
                raise no_endpoint(exchange.route.served_name)
            tried.add(endpoint)
            try:
                with self.endpoints.held(endpoint):
                    answer = await self._upstream.open(endpoint, exchange.path, exchange.headers, exchange.body)
            except Unreachable as failure:
                self.endpoints.avoid(endpoint, str(failure))
                continue
            except TimedOut:
                raise Refusal(504, "The engine did not answer in time.", code="timeout") from None
            except Failed as failure:
                await self._ask_after(endpoint, str(failure))
            else:
                if not await self._is_dying(endpoint, answer):
                    return endpoint, answer
            engines += 1
        raise Refusal(
            503, f"Engines failed {MAX_ENGINES} times on this request; try again later.", code="engines_failed"
        )

    def _choose(self, exchange: Exchange, tried: set[Endpoint]) -> Endpoint | None:
        # The view may have changed since the last attempt.
        route = self._view.routes.get(exchange.route.served_name, exchange.route)
        size = size_of(route.sizes, exchange.input_tokens, exchange.expected_output_tokens)
        endpoints = self.endpoints
        return choose(route, size, endpoints.outstanding, endpoints.avoided, tried, self._random)

    async def _ask_after(self, endpoint: Endpoint, reason: str) -> bool:
        """Whether an endpoint that failed is healthy all the same; if not it is avoided from now on."""
        if await self._upstream.healthy(endpoint):
            return True
        self.endpoints.avoid(endpoint, reason)
        return False

    async def _is_dying(self, endpoint: Endpoint, answer: Answer) -> bool:
        """Closes the answer if so. A 500 may be the request's own fault; it is the engine's if that is unhealthy."""
        away = answer.status in (502, 503)
        if not (away or answer.status == 500 or answer.first.startswith(ERROR_EVENT)):
            return False
        dying = True
        try:
            healthy = await self._ask_after(endpoint, f"status {answer.status}")
            dying = away or not healthy
        finally:
            if dying:
                await answer.aclose()
        return dying

    async def _pass_on(self, exchange: Exchange, answer: Answer, send: Send) -> bool:
        """Every chunk at once as it comes. False if the engine went away before the end."""
        ttft = self._clock() - exchange.started
        streamed = is_stream(answer.headers)
        reader: Reader = StreamReader(opening_events=int(exchange.path == CHAT_PATH)) if streamed else WholeReader()
        exchange.reader = reader
        exchange.status = answer.status
        await send(response_start(answer))
        try:
            chunk = answer.first
            while chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                reader.feed(chunk)
                chunk = await anext(answer.rest, b"")
        except Failed as failure:
            log.warning("engine of %s went away in a response: %s", exchange.route.model, failure)
            self._metrics.attempted(exchange.route.model, attained=False)
            reader.failed = True
            if streamed:
                await send({"type": "http.response.body", "body": interrupted_event(), "more_body": True})
            return False
        reader.finish()
        self._take_notes(exchange, reader, ttft, streamed)
        return True

    def _take_notes(self, exchange: Exchange, reader: Reader, ttft: float, streamed: bool) -> None:
        if not counts(exchange.status):
            return
        model = exchange.route.model
        if exchange.status != 200 or reader.failed:
            self._metrics.attempted(model, attained=False)
            return
        input_tokens = reader.usage.input_tokens if reader.usage else exchange.input_tokens
        served = Served(input_tokens, reader.output_tokens or 1, ttft, self._clock() - exchange.started, streamed)
        self._metrics.attempted(model, attains(exchange.route.slo, served))
        if streamed:
            self._metrics.ttft.labels(model).observe(ttft)
        if served.tpot is not None:
            self._metrics.tpot.labels(model).observe(served.tpot)
        if reader.usage:
            self._estimates[model].learn(exchange.ask, reader.usage.input_tokens, reader.usage.output_tokens)


class Bodies:
    """The bodies of all requests under way: many slow large uploads must not take the memory that streams live on."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """What the block reports is counted until it ends; a Refusal where it would be too much."""
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            if self._bytes + size > self._most:
                raise Refusal(503, "The router holds too many large requests now; try again later.")
            mine += size
            self._bytes += size

        try:
            yield hold
        finally:
            self._bytes -= mine


async def body_of(scope: Scope, receive: Receive, limit: int, hold: Callable[[int], None]) -> bytes:
    """The whole body. One that is somewhat too long is read to its end, so that the client gets to read our answer."""
    body = bytearray()
    seen = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                chunk = message.get("body", b"")
                seen += len(chunk)
                if seen <= limit:
                    hold(len(chunk))
                    body += chunk
                if not message.get("more_body", False) or seen > 4 * limit:
                    break
    except TimeoutError:
        raise Refusal(408, f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from None
    if seen > limit:
        raise Refusal(413, f"The body is longer than {limit} bytes.")
    return bytes(body)


async def client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def response_start(answer: Answer) -> Message:
    headers = [(name, value) for name, value in answer.headers if name in RESPONSE_HEADERS]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


def is_stream(headers: Headers) -> bool:
    return any(name == b"content-type" and b"text/event-stream" in value for name, value in headers)


def interrupted_event() -> bytes:
    """Set off by empty lines from what may be half an event."""
    error = Refusal(502, "The engine went away before the response was complete.", code="interrupted")
    return b"\n\ndata: " + error.body + b"\n\n"
