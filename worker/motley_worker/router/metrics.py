"""The router's Prometheus metrics. Labels are names of Models from routing tables, never a client's words."""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from motley_worker.router.offered import Offered
from motley_worker.router.slo import Window

TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 30.0, 60.0)
TPOT_BUCKETS = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.4, 1.0)


class Metrics:
    def __init__(self, router: str = "router", clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self.offered = Offered(router, clock)
        self.requests = Counter(
            "motley_router_requests", "Responses by status code (499: the client left).", ["model", "code"],
            registry=self.registry,
        )  # fmt: skip
        self.ttft = Histogram(
            "motley_router_ttft_seconds", "Time to first token of streamed responses.", ["model"],
            buckets=TTFT_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.tpot = Histogram(
            "motley_router_tpot_seconds", "Time per output token after the first.", ["model"],
            buckets=TPOT_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.retries = Counter(
            "motley_router_retries", "Requests sent to an engine again before their first byte.", ["model"],
            registry=self.registry,
        )  # fmt: skip
        self.no_endpoint = Counter(
            "motley_router_no_endpoint", "Requests turned away because no engine of the model answered.", ["model"],
            registry=self.registry,
        )  # fmt: skip
        self.in_flight = Gauge("motley_router_in_flight", "Requests being served.", ["model"], registry=self.registry)
        self._clock = clock
        self._windows: dict[str, Window] = {}
        self.registry.register(_Attainment(self._windows, clock))

    def attempted(self, model: str, attained: bool) -> None:
        """One more request of the SLO window."""
        self._windows.setdefault(model, Window()).add(self._clock(), attained)


class _Attainment(Collector):
    """Models without a request in the window are absent: no traffic is neither good nor bad."""

    def __init__(self, windows: dict[str, Window], clock: Callable[[], float]) -> None:
        self._windows = windows
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        ratio = GaugeMetricFamily(
            "motley_router_slo_attainment_ratio", "Fraction of the last five minutes within the SLO.", labels=["model"]
        )
        requests = GaugeMetricFamily(
            "motley_router_slo_window_requests", "Requests of the last five minutes.", labels=["model"]
        )
        for model, window in self._windows.items():
            attained, attempted = window.attained_and_attempted(self._clock())
            if attempted:
                ratio.add_metric([model], attained / attempted)
                requests.add_metric([model], attempted)
        yield ratio
        yield requests
