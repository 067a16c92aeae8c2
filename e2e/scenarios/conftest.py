"""One embedded cluster with Motley on it, as the chart installs it, for all scenarios. Engines are shared: a scenario that
needs one takes the fixture `tiny`. `--soak` runs the repetitions in full, with a printed seed."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import stack
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
    motley.kubectl("delete", "namespace", name, "--wait=false")
    wait_for(
        lambda: not motley.kubectl("get", "models", "-n", name, "-o", "name"), f"Models in {name} to go", state=str
    )
