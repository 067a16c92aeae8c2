"""The API server is away for a while: clients notice nothing, and changes after its return reach the routers."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from e2e import made, stack
from e2e.cluster import Cluster, ClusterError
from e2e.load import Load
from e2e.waiting import wait_for


@pytest.fixture
def seconds_away(soak: bool) -> int:
    return 30 if soak else 10


@pytest.fixture
def with_api_server_in_the_end(motley: Cluster) -> Iterator[Cluster]:
    """Its API server runs again whatever becomes of the test."""
    yield motley
    motley.start("kube-apiserver")


def names_listed(router: str) -> set[str]:
    return {model["id"] for model in httpx.get(f"{router}/v1/models", trust_env=False).json()["data"]}


def what_happened(cluster: Cluster) -> str:
    """To the routers and on the way to them."""
    events = cluster.kubectl("-n", stack.NAMESPACE, "get", "events", "--sort-by=.lastTimestamp")
    routers = ("-l", "app.kubernetes.io/name=motley-router", "--tail=40", "--prefix")
    logs = cluster.kubectl("-n", stack.NAMESPACE, "logs", *routers)
    return "\n".join([stack.state(cluster), events, logs, cluster.log("kube-proxy").read_text()[-4000:]])


def test_serving_goes_on_while_the_api_server_is_away(
    with_api_server_in_the_end: Cluster, tiny: str, namespace: str, seconds_away: int
) -> None:
    cluster = with_api_server_in_the_end
    with Load(tiny, "tiny", lambda: stack.state(cluster)) as clients:
        clients.await_more(4)
        stopped = datetime.now(UTC)
        cluster.stop("kube-apiserver")
        with pytest.raises(ClusterError):
            cluster.kubectl("get", "models", "--request-timeout=5s")
        before, gone = len(clients.outcomes), time.monotonic()
        wait_for(lambda: time.monotonic() - gone > seconds_away, f"{seconds_away} s to pass", seconds_away + 1)
        assert len(clients.outcomes) > before + seconds_away / 5
        cluster.start("kube-apiserver")
        back = time.monotonic()
        later = made.model("later", namespace, ["h100"])
        cluster.apply([later])
        wait_for(
            lambda: all(later["spec"]["servedName"] in names_listed(url) for url in stack.router_pods(cluster)),
            "every router to list a Model that is new since the API server's return",
            90,
            lambda: stack.state(cluster, namespace),
        )
        print(f"a change reached the routers {time.monotonic() - back:.1f} s after the API server's return")
        clients.await_more(4)
    assert clients.failures == [], f"{clients.failures}\nstopped at {stopped}\n{what_happened(cluster)}"
