"""Engines fail in every way: before the first byte another one answers, after it the client is told."""

import asyncio
from contextlib import suppress

import httpx
import pytest
from fake_openai_engine import FakeEngine
from router_harness import RunningRouter, StartEngine, running_router, until

from motley_worker.router import upstream

FIRST = [(10_000, 10_000, (1.0, 0.0))]
"""The plan sends everything to the first of two engines."""


@pytest.mark.parametrize(
    ("behaviour", "stream"),
    [
        ("close_before_head", False),
        ("close_before_head", True),
        ("close_after_head", True),
        ("503", False),
        ("503", True),
        ("502", False),
    ],
)
async def test_another_engine_answers_when_one_fails_before_the_first_byte(
    router: RunningRouter, start_engine: StartEngine, behaviour: str, stream: bool
) -> None:
    failing, good = await start_engine(behaviour=behaviour, health=503), await start_engine(name="good")
    router.route_to(failing, good, sizes=FIRST)
    response = await router.ask(stream=stream)
    assert response.status_code == 200
    assert "good3" in response.text
    assert (len(failing.received), len(good.received)) == (1, 1)
    assert router.metric("motley_router_retries_total", model="default/tiny") == 1
    assert router.metric("motley_router_slo_attainment_ratio", model="default/tiny") == 1


async def test_another_engine_answers_when_one_refuses_the_connection(
    router: RunningRouter, start_engine: StartEngine
) -> None:
    gone, good = await start_engine(), await start_engine(name="good")
    await gone.stop()
    router.route_to(gone, good, sizes=FIRST)
    assert (await router.ask()).status_code == 200
    assert len(router.proxy.endpoints.avoided) == 1


async def test_an_engine_that_refused_is_asked_again_once_it_answers_a_probe(
    router: RunningRouter, engine: FakeEngine
) -> None:
    await engine.stop()
    refused = await router.ask()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    engine.health = 503
    await engine.start()
    assert (await router.ask()).status_code == 503, "it has not answered a probe yet"
    engine.health = 200
    await until(lambda: not router.proxy.endpoints.avoided)
    assert (await router.ask()).status_code == 200


async def test_an_endpoint_that_is_gone_is_probed_no_more(router: RunningRouter, engine: FakeEngine) -> None:
    await engine.stop()
    await router.ask()
    assert router.proxy.endpoints.avoided
    router.view.slices.replace({})
    await until(lambda: not router.proxy.endpoints.avoided)


async def test_a_dying_engines_500_goes_to_another_engine(router: RunningRouter, start_engine: StartEngine) -> None:
    dying, good = await start_engine(behaviour="500", health=503), await start_engine()
    router.route_to(dying, good, sizes=FIRST)
    assert (await router.ask()).status_code == 200


async def test_a_healthy_engines_500_is_the_requests_own_and_passed_on(
    router: RunningRouter, start_engine: StartEngine
) -> None:
    healthy, other = await start_engine(behaviour="500"), await start_engine()
    router.route_to(healthy, other, sizes=FIRST)
    assert (await router.ask()).status_code == 500
    assert not other.received
    assert router.metric("motley_router_slo_attainment_ratio", model="default/tiny") == 0


async def test_a_dying_engines_error_event_goes_to_another_engine(
    router: RunningRouter, start_engine: StartEngine
) -> None:
    dying, good = await start_engine(behaviour="error_event", health=503), await start_engine(name="good")
    router.route_to(dying, good, sizes=FIRST)
    assert "good3" in (await router.ask(stream=True)).text


async def test_a_healthy_engines_error_event_is_passed_on_and_counts_as_a_miss(
    router: RunningRouter, engine: FakeEngine
) -> None:
    engine.behaviour = "error_event"
    assert "EngineCore encountered an issue" in (await router.ask(stream=True)).text
    assert router.metric("motley_router_slo_attainment_ratio", model="default/tiny") == 0


async def test_no_other_engine_is_asked_once_bytes_were_passed_on(
    router: RunningRouter, start_engine: StartEngine
) -> None:
    failing, other = await start_engine(behaviour="close_in_body"), await start_engine()
    router.route_to(failing, other, sizes=FIRST)
    seen = b""
    with pytest.raises(httpx.RemoteProtocolError):
        async with router.http.stream(
            "POST", "/v1/completions", json={"model": "tiny", "prompt": "hi", "stream": True}
        ) as response:
            async for chunk in response.aiter_bytes():
                seen += chunk
    assert seen.count(b"data: ") == 3, "two tokens, then what happened"
    assert b'"code": "interrupted"' in seen
    assert b"[DONE]" not in seen
    assert not other.received
    assert router.metric("motley_router_slo_attainment_ratio", model="default/tiny") == 0


async def test_a_request_that_kills_engines_meets_only_three_of_them(
    router: RunningRouter, start_engine: StartEngine
) -> None:
    engines = [await start_engine(behaviour="close_before_head", health=503) for _ in range(5)]
    router.route_to(*engines)
    response = await router.ask()
    assert response.status_code == 503
    assert sum(len(engine.received) for engine in engines) == 3


async def test_a_connection_that_went_stale_does_not_cost_the_only_engine(
    router: RunningRouter, engine: FakeEngine
) -> None:
    engine.first = ["close_before_head"]
    assert (await router.ask()).status_code == 200
    assert len(engine.received) == 2
    assert not router.proxy.endpoints.avoided


async def test_backends_without_a_live_endpoint_leave_their_requests_to_those_with_one(
    router: RunningRouter, start_engine: StartEngine
) -> None:
    planned, unplanned = await start_engine(), await start_engine()
    router.route_to(planned, unplanned, sizes=FIRST)
    router.view.slices.drop(("default", "service-0-abc"))
    assert (await router.ask()).status_code == 200
    assert len(unplanned.received) == 1


async def test_no_request_that_had_not_begun_fails_when_engines_are_killed_under_load() -> None:
    async with running_router() as router:
        engines = [await FakeEngine(name=f"e{number}").start() for number in range(4)]
        router.route_to(*engines)
        statuses: list[int] = []

        async def client() -> None:
            for _ in range(40):
                with suppress(httpx.RemoteProtocolError):  # had begun
                    statuses.append((await router.ask(stream=True)).status_code)

        clients = [asyncio.create_task(client()) for _ in range(8)]
        for doomed, after in ((engines[0], 60), (engines[1], 150)):
            await until(lambda after=after: len(statuses) >= after)  # type: ignore[misc]
            await doomed.stop()
        await asyncio.gather(*clients)
        assert set(statuses) == {200}
        assert len(statuses) > 300
        for engine in engines:
            await engine.stop()


async def test_an_engine_that_never_answers_is_504_and_a_miss(
    router: RunningRouter, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(upstream.TIMEOUT, "read", 0.05)
    engine.behaviour = "silent"
    response = await router.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
    assert router.metric("motley_router_slo_attainment_ratio", model="default/tiny") == 0
    await asyncio.wait_for(engine.left.wait(), 10)
