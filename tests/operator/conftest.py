from collections.abc import Iterator

import pytest
from fake_api_server import FakeApiServer, kube_at

from motley_operator.kube import Kube


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer() as running:
        yield running


@pytest.fixture
def kube(server: FakeApiServer) -> Kube:
    return kube_at(server.url)
