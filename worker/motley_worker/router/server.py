"""Serves the app over uvicorn, with bounds on a request's head and a drain on SIGTERM."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LINGER_SECONDS = 5.0
"""After SIGTERM new requests still come until every proxy has learned that this endpoint is gone."""
HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0


class BoundedProtocol(HttpToolsProtocol):
    """httptools bounds neither how long a request's head is nor how long it takes: here both close the connection."""

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_begins()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_ends()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._head_begins()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_ends()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self.transport.close()

    def _head_begins(self) -> None:
        self._head_ends()
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_ends(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def server_of(app: Starlette, host: str, port: int, drain_seconds: float) -> "DrainingServer":
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
    return DrainingServer(config, app, min(LINGER_SECONDS, drain_seconds / 2))


class DrainingServer(uvicorn.Server):
    """On SIGTERM `/readyz` turns 503, requests are taken for a little longer, then those in flight are finished."""

    def __init__(self, config: uvicorn.Config, app: Starlette, linger_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._linger_seconds = linger_seconds

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.drain)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    def drain(self) -> None:
        if not self._app.state.draining:
            self._app.state.draining = True
            asyncio.get_running_loop().call_later(self._linger_seconds, self._close)

    def _close(self) -> None:
        self.should_exit = True
