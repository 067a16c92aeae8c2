"""The operator's own metrics and health endpoints, over HTTP."""

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from motley_operator import metrics


class Health:
    def __init__(self) -> None:
        self.unhealthy = self.unready = ""
        self.server = metrics.serve(0, lambda: self.unhealthy, lambda: self.unready)

    def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.server.server_address[1]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture(scope="module")
def served() -> Iterator[Health]:
    found = Health()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def health(served: Health) -> Health:
    served.unhealthy = served.unready = ""
    return served


def test_all_is_well_until_a_check_says_otherwise(health: Health) -> None:
    assert health.get("/healthz") == health.get("/readyz") == (200, "ok\n")
    health.unhealthy = "a pass does not end"
    assert health.get("/healthz") == (503, "a pass does not end\n")
    assert health.get("/readyz") == (200, "ok\n")
    health.unready = "not yet"
    assert health.get("/readyz?verbose") == (503, "not yet\n")


def test_an_unknown_path_tells_the_known_ones(health: Health) -> None:
    code, said = health.get("/")
    assert code == 404 and "/metrics" in said


def test_metrics_are_prometheus_text(health: Health) -> None:
    metrics.set_replicas([("team/chat", "l4", 3, 2)])
    code, text = health.get("/metrics")
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert code == 200
    assert {
        "motley_pass_duration_seconds",
        "motley_solve_duration_seconds",
        "motley_plan_cost_per_hour",
        "motley_replicas_desired",
        "motley_replicas_ready",
        "motley_replans",
        "motley_api_errors",
        "motley_leader",
    } <= found.keys()
    (sample,) = found["motley_replicas_ready"].samples
    assert (sample.labels, sample.value) == ({"model": "team/chat", "pool": "l4"}, 2)


def test_replicas_that_are_gone_are_no_longer_shown() -> None:
    metrics.set_replicas([("team/chat", "l4", 3, 2)])
    metrics.set_replicas([("team/talk", "l4", 1, 1)])
    labels = {"model": "team/chat", "pool": "l4"}
    assert metrics.REGISTRY.get_sample_value("motley_replicas_desired", labels) is None
