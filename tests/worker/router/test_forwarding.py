"""A request goes through: whole, streamed chunk by chunk, with what must not pass left behind."""

import asyncio
import json

import httpx
import openai
import pytest
from fake_openai_engine import FakeEngine
from router_harness import RunningRouter, StartEngine, slice_json, table_json, until

from motley_worker.router import upstream


async def test_a_chat_completion_comes_back_as_the_engine_wrote_it(router: RunningRouter, engine: FakeEngine) -> None:
    response = await router.ask()
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "engine0 engine1 engine2 engine3"
    assert engine.received[0].path == "/v1/chat/completions"


async def test_the_body_reaches_the_engine_byte_for_byte(router: RunningRouter, engine: FakeEngine) -> None:
    body = b'{ "model" : "tiny",\n "prompt": "\\u00e9t\xc3\xa9", "unknown_field": [1.50, {}] }'
    response = await router.http.post("/v1/completions", content=body)
    assert response.status_code == 200
    assert engine.received[0].body == body
    assert engine.received[0].path == "/v1/completions"


async def test_credentials_cookies_and_engine_controls_do_not_reach_the_engine(
    router: RunningRouter, engine: FakeEngine
) -> None:
    headers = {
        "authorization": "Bearer secret",
        "cookie": "a=b",
        "x-data-parallel-rank": "3",
        "x-forwarded-for": "1.2.3.4",
        "te": "trailers",
        "traceparent": "00-1-2-01",
    }
    body = {"model": "tiny", "prompt": "hi"}
    await router.http.post("/v1/completions", json=body, headers=headers)
    seen = set(engine.received[0].headers)
    assert seen == {"host", "content-length", "content-type", "accept", "accept-encoding", "traceparent"}
    assert engine.received[0].headers["accept-encoding"] == "identity"


async def test_each_chunk_of_a_stream_arrives_before_the_next_one_is_made(
    router: RunningRouter, engine: FakeEngine
) -> None:
    engine.gate = asyncio.Semaphore(1)
    body = {"model": "tiny", "prompt": "hi", "stream": True}
    async with router.http.stream("POST", "/v1/completions", json=body, timeout=10) as response:
        lines = response.aiter_lines()
        seen = []
        while (line := await anext(lines)) != "data: [DONE]":
            if line.startswith("data: "):
                seen.append(json.loads(line[6:])["choices"][0]["text"])
                engine.gate.release()  # only now does the engine make the next one
        assert response.headers["content-type"].startswith("text/event-stream")
    assert seen == ["engine0 ", "engine1 ", "engine2 ", "engine3 "]


async def test_the_openai_client_streams_chats_and_lists_models(router: RunningRouter, engine: FakeEngine) -> None:
    async with openai.AsyncOpenAI(base_url=router.url + "/v1", api_key="any", max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["tiny"]
        stream = await client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        words, usage = [], None
        async for chunk in stream:
            words += [choice.delta.content or "" for choice in chunk.choices]
            usage = chunk.usage or usage
    assert "".join(words) == "engine0 engine1 engine2 engine3 "
    assert usage is not None and usage.completion_tokens == 4


async def test_the_openai_client_understands_our_errors(router: RunningRouter, engine: FakeEngine) -> None:
    async with openai.AsyncOpenAI(base_url=router.url + "/v1", api_key="any", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.completions.create(model="huge", prompt="hi")
        assert unknown.value.code == "model_not_found"
        router.view.slices.replace({})
        with pytest.raises(openai.InternalServerError) as away:
            await client.completions.create(model="tiny", prompt="hi")
        assert away.value.response.headers["retry-after"] == "5"
        engine.behaviour = "close_in_body"
        router.route_to(engine)
        stream = await client.completions.create(model="tiny", prompt="hi", stream=True)
        with pytest.raises(openai.APIError, match="went away"):
            async for _ in stream:
                pass


async def test_a_client_that_hangs_up_in_a_stream_frees_the_engine(router: RunningRouter, engine: FakeEngine) -> None:
    engine.gate = asyncio.Semaphore(1)
    body = {"model": "tiny", "prompt": "hi", "stream": True}
    async with router.http.stream("POST", "/v1/completions", json=body) as response:
        await anext(response.aiter_bytes())
    await asyncio.wait_for(engine.left.wait(), 10)
    await until(lambda: not router.proxy.endpoints.outstanding)
    assert router.metric("motley_router_requests_total", model="default/tiny", code="499") == 1
    assert router.metric("motley_router_slo_window_requests", model="default/tiny") is None


async def test_a_client_that_hangs_up_before_the_first_token_frees_the_engine(
    router: RunningRouter, engine: FakeEngine
) -> None:
    engine.behaviour = "silent"
    asking = asyncio.create_task(router.ask(stream=True))
    await until(lambda: len(engine.received) == 1)
    asking.cancel()
    await asyncio.wait_for(engine.left.wait(), 10)
    await until(lambda: not router.proxy.endpoints.outstanding)


async def test_an_engines_own_refusal_is_passed_on_and_not_held_against_it(
    router: RunningRouter, engine: FakeEngine
) -> None:
    engine.behaviour = "400"
    response = await router.ask()
    assert (response.status_code, response.json()) == (400, {"error": {"message": "engine"}})
    assert len(engine.received) == 1
    assert router.metric("motley_router_slo_window_requests", model="default/tiny") is None


async def test_a_response_cut_short_is_seen_as_cut_short(router: RunningRouter, engine: FakeEngine) -> None:
    engine.behaviour = "close_in_body"
    with pytest.raises(httpx.RemoteProtocolError):
        await router.ask()
    assert len(engine.received) == 1, "bytes were passed on: no retry"


async def test_a_long_prompt_passes(router: RunningRouter, engine: FakeEngine) -> None:
    prompt = "word " * 1_000_000
    response = await router.ask("/v1/completions", prompt=prompt)
    assert response.status_code == 200
    assert engine.received[0].json["prompt"] == prompt


async def test_requests_to_one_backend_go_to_the_least_busy_engine(
    router: RunningRouter, start_engine: StartEngine
) -> None:
    busy, idle = await start_engine(gate=asyncio.Semaphore(0)), await start_engine()
    router.route_to(busy, idle)
    waiting = []
    while not busy.received:
        waiting.append(asyncio.create_task(router.ask()))
        await until(lambda: len(busy.received) + len(idle.received) == len(waiting))
    seen = len(idle.received)
    for _ in range(10):
        await router.ask()
    assert len(idle.received) == seen + 10
    busy.gate = None
    await busy.stop()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_engine_with_an_ipv6_address_is_reached(router: RunningRouter, start_engine: StartEngine) -> None:
    engine = await start_engine(host="::1")
    router.put_table(table_json(backends=[("chat", engine.port)]))
    router.put_slice(slice_json("chat", ["::1"], addressType="IPv6"))
    assert (await router.ask()).status_code == 200
    assert engine.received[0].headers["host"] == f"[::1]:{engine.port}"


async def test_connections_to_an_engine_are_used_again_and_closed_when_idle(
    router: RunningRouter, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in (False, True, False):
        await router.ask(stream=stream)
    assert engine.connections == 1
    await asyncio.gather(*(router.ask() for _ in range(5)))
    opened = engine.connections
    assert 1 < opened <= 5
    monkeypatch.setattr(upstream, "KEEP_IDLE_SECONDS", 0.0)
    await router.ask()
    await until(lambda: engine.open_connections <= 1)
    assert engine.connections == opened
