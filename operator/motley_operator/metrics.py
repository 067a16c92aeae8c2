"""What Prometheus reads of the operator, and the health endpoints beside it."""

import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

REGISTRY = CollectorRegistry()
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)

PASS_SECONDS = Histogram(
    "motley_pass_duration_seconds", "One pass, solve included.", registry=REGISTRY, buckets=_SECONDS
)
SOLVE_SECONDS = Histogram("motley_solve_duration_seconds", "One solve.", registry=REGISTRY, buckets=_SECONDS)
PASS_FAILURES = Counter("motley_pass_failures_total", "Passes that ended in an error.", registry=REGISTRY)
PLAN_COST = Gauge("motley_plan_cost_per_hour", "Cost of the active plan's nodes per hour.", registry=REGISTRY)
PLAN_BOUND = Gauge("motley_plan_lower_bound_per_hour", "No plan that serves as much is cheaper.", registry=REGISTRY)
DESIRED = Gauge("motley_replicas_desired", "Planned replicas.", ["model", "pool"], registry=REGISTRY)
READY = Gauge("motley_replicas_ready", "Ready replicas.", ["model", "pool"], registry=REGISTRY)
REPLANS = Counter("motley_replans_total", "New plans by reason.", ["reason"], registry=REGISTRY)
API_ERRORS = Counter(
    "motley_api_errors_total", "Refused or failed API calls.", ["verb", "kind", "error"], registry=REGISTRY
)
LEADER = Gauge("motley_leader", "1 while this replica holds the lease.", registry=REGISTRY)


def set_replicas(rows: Iterable[tuple[str, str, int, int]]) -> None:
    """(model, pool, desired, ready); what is no longer there goes."""
    DESIRED.clear()
    READY.clear()
    for model, pool, desired, ready in rows:
        DESIRED.labels(model, pool).set(desired)
        READY.labels(model, pool).set(ready)


def forget() -> None:
    """What only the leader knows, once it is no longer this process: two replicas must not say it twice."""
    set_replicas(())
    PLAN_COST.set(0)
    PLAN_BOUND.set(0)


def serve(port: int, healthy: Callable[[], str], ready: Callable[[], str]) -> ThreadingHTTPServer:
    """`/metrics`, `/healthz`, `/readyz` on all addresses; the checks return why not, or an empty string."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path.split("?")[0]:
                case "/metrics":
                    self._answer(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)
                case "/healthz":
                    self._check(healthy())
                case "/readyz":
                    self._check(ready())
                case _:
                    self._answer(404, b"try /metrics, /healthz or /readyz\n")

        def _check(self, trouble: str) -> None:
            self._answer(503 if trouble else 200, f"{trouble or 'ok'}\n".encode())

        def _answer(self, code: int, body: bytes, content_type: str = "text/plain") -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes are not worth a line."""

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
