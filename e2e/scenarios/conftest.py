"""One embedded cluster with Motley on it, as the chart installs it, for all scenarios. Engines are shared: a scenario
that needs one takes the fixture `tiny`. `--soak` runs the repetitions in full, with a printed seed."""

import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from e2e import made, operators, stack
from e2e.api import Api
from e2e.cluster import Cluster
from e2e.waiting import wait_for

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
NAME = os.environ.get("MOTLEY_TEST_CLUSTER", "test")
"""Another name runs beside other tests; MOTLEY_KEEP=1 leaves the cluster up for the next run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="repetitions in full instead of a small sample")
    parser.addoption("--seed", type=int, default=None, help="seed of what is random; printed when not given")


def pytest_report_header(config: pytest.Config) -> str:
    if config.getoption("seed") is None:
        config.option.seed = random.SystemRandom().randrange(2**32)
    return f"seed: {config.option.seed} (repeat with --seed)"


@pytest.fixture
def randomness(request: pytest.FixtureRequest) -> random.Random:
    """Seeded by the run's seed and the test's name."""
    return random.Random(f"{request.config.option.seed} {request.node.name}")


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("soak"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with a real node; without root there is none, and the scenarios fail and say so."""
    found = Cluster(NAME)
    found.up()
    assert found.has_node, "the scenarios need root, for containers"
    stack.make_fake_nodes(found)
    stack.make_tiny_model()
    yield found
    if not os.environ.get("MOTLEY_KEEP"):
        found.down()
        stack.remove_tiny_model()


@pytest.fixture(scope="session")
def motley(cluster: Cluster) -> Cluster:
    """The chart installed, with the quickstart's fleet and pools."""
    stack.install(cluster)
    stack.restart(cluster)
    cluster.kubectl("apply", "-f", str(QUICKSTART / "fleet.yaml"), "-f", str(QUICKSTART / "pools.yaml"))
    return cluster


@pytest.fixture(scope="session")
def tiny(motley: Cluster) -> str:
    """The quickstart's models, planned and applied; `tiny` really serves. The router's address."""
    motley.kubectl("apply", "-f", str(QUICKSTART / "models.yaml"))
    stack.await_model(motley, "tiny", seconds=420)
    return stack.router_url(motley)


@pytest.fixture
def namespace(motley: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the scenario's own, gone after it."""
    name = f"s-{abs(hash(request.node.nodeid)) % 10**8}"
    motley.kubectl("create", "namespace", name)
    yield name
    motley.kubectl("delete", "models", "--all", "-n", name, "--timeout=60s")
    motley.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Iterator[Api]:
    found = Api(cluster.kubeconfig)
    yield found
    found.close()


MakePool = Callable[..., dict[str, Any]]


@pytest.fixture
def make_pool(motley: Cluster, api: Api) -> Iterator[MakePool]:
    """`made.pool` with its fake nodes, gone afterwards. Ask for it before `namespace`, so that Models go first."""
    pools: list[dict[str, Any]] = []

    def make(name: str, **arguments: Any) -> dict[str, Any]:
        pool = made.pool(name, **arguments)
        pools.append(pool)
        motley.apply([*made.nodes_of(pool), pool])
        return pool

    yield make
    for pool in pools:
        api.delete("GPUPool", pool["metadata"]["name"])
    names = {pool["metadata"]["name"] for pool in pools}
    wait_for(
        lambda: not names & {one["metadata"]["name"] for one in api.list("GPUPool")},
        f"GPUPools {', '.join(sorted(names))} to go",
        state=lambda: stack.state(motley),
    )
    for pool in pools:
        for node in made.nodes_of(pool):
            api.delete("Node", node["metadata"]["name"])


@pytest.fixture
def bystander(motley: Cluster, api: Api, make_pool: MakePool, namespace: str) -> Iterator[None]:
    """A good Model, more important than those with mistakes: its replicas are the same before and after, and so are the
    operator's processes, none of whose passes fails."""
    make_pool("bystander")
    motley.apply([made.model("bystander", namespace, ["bystander"], replicas=2, priority=1000)])
    stack.await_model(motley, "bystander", namespace, 90)

    def seen() -> Any:
        deployments = api.list("Deployment", namespace, "motley.dev/model=bystander")
        pods = api.list("Pod", namespace, "motley.dev/model=bystander")
        return (
            [(one["metadata"]["uid"], one["metadata"]["generation"]) for one in deployments],
            sorted(pod["metadata"]["uid"] for pod in pods),
            operators.restarts(api),
            [operators.metrics(pod)["motley_pass_failures_total"] for pod in operators.ready(api)],
        )

    before = seen()
    yield
    assert seen() == before


@pytest.fixture(autouse=True)
def clean_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """In no scenario is a call of the operator forbidden, or does a pass end in an error that nobody foresaw."""
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    yield
    if "motley" in request.fixturenames:
        log = operators.log(request.getfixturevalue("motley"), f"--since-time={since}")
        bad = [line for line in log.splitlines() if "a pass failed" in line or _is_forbidden(line)]
        assert not bad, "\n".join(bad[:10])


def _is_forbidden(line: str) -> bool:
    return (
        "forbidden" in line and "because it is being terminated" not in line
    )  # a namespace that goes takes nothing new
