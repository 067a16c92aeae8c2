import pytest

from motley_worker.sources import cache


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PAUSES", (0.01, 0.01))
