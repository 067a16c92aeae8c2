"""Answers the kubelet's probes: what the launcher knows, as 200 or 503 with a one-line reason. Decides nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# An engine that is only busy answers within seconds; restarting a busy one would make trouble worse.
SILENT_SECONDS = 120.0


@dataclass
class Health:
    """Written by the launcher, read by the probes' threads."""

    phase: str = "starting"
    engine_answered: bool = False
    token_generated: bool = False
    engine_running: bool = False
    draining: bool = False
    last_answer: float = field(default_factory=time.monotonic)

    def heard(self) -> None:
        self.engine_answered = True
        self.last_answer = time.monotonic()

    def startup(self) -> tuple[bool, str]:
        return self.engine_answered, "started" if self.engine_answered else self.phase

    def ready(self) -> tuple[bool, str]:
        if self.draining:
            return False, "draining"
        return self.token_generated and self.engine_running, self.phase

    def live(self, now: float | None = None) -> tuple[bool, str]:
        silent = (time.monotonic() if now is None else now) - self.last_answer
        if self.token_generated and silent > SILENT_SECONDS:  # the first token may take long: kernels are compiled
            return False, f"vLLM has not answered for {silent:.0f} s"
        return True, self.phase


@contextmanager
def health_endpoint(health: Health, port: int) -> Iterator[None]:
    probes = {"/startup": health.startup, "/ready": health.ready, "/live": health.live}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            probe = probes.get(self.path)
            ok, reason = probe() if probe else (False, "paths: /startup /ready /live")
            body = f"{reason}\n".encode()
            self.send_response(200 if ok else 503 if probe else 404)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """A line for every probe would drown the engine's log."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
