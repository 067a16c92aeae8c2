"""The router under test and fake engines, each closed after its test."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_openai_engine import FakeEngine
from router_harness import RunningRouter, StartEngine, running_router


@pytest.fixture
async def start_engine() -> AsyncIterator[StartEngine]:
    started: list[FakeEngine] = []

    async def start(**options: Any) -> FakeEngine:
        engine = await FakeEngine(**options).start()
        started.append(engine)
        return engine

    yield start
    for engine in started:
        await engine.stop()


@pytest.fixture
async def router() -> AsyncIterator[RunningRouter]:
    async with running_router() as running:
        yield running


@pytest.fixture
async def engine(router: RunningRouter, start_engine: StartEngine) -> FakeEngine:
    """One engine that the router knows."""
    one = await start_engine()
    router.route_to(one)
    return one
