import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_bucket import FakeBucket
from fake_hub import FakeHub
from loopback import running


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running(FakeHub()) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBucket]:
    with running(FakeBucket()) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_REGION", "local-1")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "local-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server


@pytest.fixture(scope="session")
def worker_config() -> Callable[..., str]:
    """The JSON that the manifests put into the environment, with changes."""

    def text(**changes: Any) -> str:
        base = {
            "model": "team/tiny",
            "servedName": "tiny",
            "source": "file:///nowhere",
            "dtype": "bfloat16",
            "maxModelLen": 1024,
            "tensorParallel": 1,
            "maxNumBatchedTokens": 512,
            "maxNumSeqs": 8,
            "device": "cpu",
            "drainSeconds": 60,
        }
        return json.dumps({**base, **changes})

    return text


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """Until the condition holds; fails with what it was about."""

    def wait(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(0.02)

    return wait
