"""A loopback HTTP server that keeps what it was asked and misbehaves on command: the base of hub and bucket."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

S = TypeVar("S", bound="Loopback")


@dataclass
class Fault:
    """What happens to requests whose "METHOD path" holds `where`, `times` times."""

    where: str
    status: int = 0  # answer with this
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncate: int | None = None  # promise the whole body, send so many bytes and hang up
    stall: threading.Event | None = None  # answer half of the body, the rest when this is set
    times: int = 1_000_000


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]


class Loopback(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.answered_half = threading.Event()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError

    def fault(self, request: Request) -> Fault | None:
        for fault in self.faults:
            if fault.where in f"{request.method} {request.path}" and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def asked(self, method: str, part: str = "") -> list[Request]:
        return [request for request in self.requests if request.method == method and part in request.path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Loopback

    def do_GET(self) -> None:
        request = Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        self.server.requests.append(request)
        fault = self.server.fault(request)
        if fault and fault.status:
            self._send(fault.status, dict(fault.headers), fault.body)
            return
        status, headers, body = self.server.answer(request)
        self._send(status, headers, body, fault)

    do_HEAD = do_GET

    def _send(self, status: int, headers: dict[str, str], body: bytes, fault: Fault | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.truncate is not None:
            self.wfile.write(body[: fault.truncate])
            self.close_connection = True
        elif fault and fault.stall is not None:
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            self.server.answered_half.set()
            fault.stall.wait(60)
            self.wfile.write(body[half:])
        else:
            self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # a client that was killed
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running(server: S) -> Iterator[S]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        for fault in server.faults:
            if fault.stall is not None:
                fault.stall.set()
        server.shutdown()
        server.server_close()
        thread.join()
