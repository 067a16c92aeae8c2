"""A loopback HTTP server in the place of the API server, or of a router, that answers what it is told, misbehaviour
included."""

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

from kubernetes import client

from motley_operator.kube import Kube


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    query: dict[str, str]
    content_type: str
    body: Any


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: Any = field(default_factory=dict)
    """JSON, or bytes as they are."""
    raw: bytes | None = None
    """Sent in place of a whole HTTP response; empty: hangs up."""
    stall: bool = False
    """Says nothing until the server stops."""


class FakeApiServer(ThreadingHTTPServer):
    """Answers in the order of `answers`, then with an empty object."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = deque(answers)
        self.calls: list[Call] = []
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "FakeApiServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self._thread.join()


def kube_at(url: str, may_write: Callable[[], None] = lambda: None) -> Kube:
    configuration = client.Configuration()
    configuration.host = url
    configuration.retries = False
    return Kube(client.ApiClient(configuration), may_write)


class _Handler(BaseHTTPRequestHandler):
    server: FakeApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        url = urlparse(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length)
        self.server.calls.append(
            Call(
                self.command,
                url.path,
                {name: values[0] for name, values in parse_qs(url.query).items()},
                self.headers.get("Content-Type", ""),
                json.loads(sent) if sent else None,
            )
        )
        answer = self.server.answers.popleft() if self.server.answers else Answer()
        self.close_connection = True
        if answer.stall:
            self.server.stopping.wait(30)
        elif answer.raw is not None:
            self.wfile.write(answer.raw)
        else:
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer
