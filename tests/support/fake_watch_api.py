"""The list and watch part of a Kubernetes API server on loopback, over threads, that misbehaves on command."""

import json
import queue
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

END = object()
CUT = object()


@dataclass
class Kind:
    """One kind: what a list gives, and the events that watches send. END ends a watch, CUT in the middle of a line."""

    items: list[Any] = field(default_factory=list)
    version: str = "1"
    refuse_lists: int = 0
    refuse_watches: int = 0
    """Status with which to answer, 0 for none."""
    events: "queue.Queue[Any]" = field(default_factory=queue.Queue)
    lists: list[dict[str, str]] = field(default_factory=list)
    watches: list[dict[str, str]] = field(default_factory=list)
    """The queries that came."""

    def send(self, kind: str, item: Any) -> None:
        self.events.put({"type": kind, "object": item})


class FakeWatchApi:
    def __init__(self) -> None:
        self.kinds = {"routingtables": Kind(), "endpointslices": Kind()}
        self.port = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.stopping.clear()
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.api = self
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """Ends every watch and refuses connections from now on."""
        if self._server is not None and self._thread is not None:
            self.stopping.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    api: FakeWatchApi


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        kind = self.server.api.kinds[url.path.rsplit("/", 1)[-1]]
        if query.get("watch"):
            kind.watches.append({"path": url.path, **query})
            self._watch(kind)
        else:
            kind.lists.append({"path": url.path, **query})
            self._list(kind)

    def _list(self, kind: Kind) -> None:
        if kind.refuse_lists:
            self._document(kind.refuse_lists, {"kind": "Status", "code": kind.refuse_lists})
            return
        self._document(200, {"metadata": {"resourceVersion": kind.version}, "items": kind.items})

    def _watch(self, kind: Kind) -> None:
        if kind.refuse_watches:
            self._document(kind.refuse_watches, {"kind": "Status", "code": kind.refuse_watches})
            return
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        while (event := self._next(kind)) not in (END, CUT):
            line = event if isinstance(event, bytes) else json.dumps(event).encode()
            for half in (line[: len(line) // 2], line[len(line) // 2 :] + b"\n"):
                self._chunk(half)
        if event is CUT:
            self._chunk(b'{"type": "ADDED", "obj')
        self._chunk(b"")

    def _next(self, kind: Kind) -> Any:
        while not self.server.api.stopping.is_set():
            try:
                return kind.events.get(timeout=0.02)
            except queue.Empty:
                pass
        return END

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def _document(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
