"""What the router counts of offered requests, and that `motley traffic` makes of it what it makes of their trace."""

import asyncio
import json
from pathlib import Path
from random import Random

import httpx
import pytest
from fake_openai_engine import FakeEngine
from prometheus_client.parser import text_string_to_metric_families
from router_harness import RunningRouter, table_json, until

from motley_operator.cli import main
from motley_solver.offered import Request, workload_of
from motley_worker.router.offered import Offered
from motley_worker.router.usage import Usage

Size = tuple[str, str]


async def sizes(router: RunningRouter) -> dict[Size, float]:
    text = (await router.http.get("/metrics/sizes")).text
    return sizes_in(text, "default/tiny")


def sizes_in(text: str, model: str) -> dict[Size, float]:
    return {
        (sample.labels["input_tokens"], sample.labels["output_tokens"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "motley_router_offered_requests_total" and sample.labels["model"] == model
    }


async def offer(router: RunningRouter, engine: FakeEngine, request: Request, stream: bool) -> None:
    """As a prompt of token ids, so that the router knows its size without an answer."""
    engine.prompt_tokens, engine.cached_tokens = request.input_tokens, request.cached_tokens
    engine.tokens = request.output_tokens or 0
    engine.behaviour = "429" if request.output_tokens is None else "serve"
    body = {"prompt": [1] * request.input_tokens, "stream": stream, "messages": None}
    answer = await router.ask("/v1/completions", **body, stream_options={"include_usage": stream})
    assert answer.status_code == (429 if request.output_tokens is None else 200)


async def test_counters_make_the_traffic_that_the_trace_makes(
    router: RunningRouter, engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = Random(4)
    largest = Request(4096, 64, 1024)  # on the grid: counters know the edge of the largest, a trace the largest itself
    trace = [largest]
    for _ in range(300):
        inputs, outputs = round(4000 / 60 ** random.random()), random.choice([1, 5, 20, 40, 60])
        trace.append(Request(inputs, outputs if random.random() < 0.9 else None))
    trace = [one._replace(cached_tokens=one.input_tokens // 4 if one.output_tokens else 0) for one in trace]

    await offer(router, engine, Request(100, 30), stream=False)
    before, after = tmp_path / "before.txt", tmp_path / "after.txt"
    before.write_text((await router.http.get("/metrics/sizes")).text)
    for number, request in enumerate(trace):
        await offer(router, engine, request, stream=number % 2 == 0)
    after.write_text((await router.http.get("/metrics/sizes")).text)

    assert main(["traffic", "--counters", str(before), str(after), "--rate", "3", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = workload_of(trace, 3.0)
    assert [(s["inputTokens"], s["outputTokens"], float(s["weight"])) for s in found["traffic"]["sizes"]] == [
        (load.bucket.input_tokens, load.bucket.output_tokens, pytest.approx(load.rate / 3, rel=1e-3))
        for load in expected.loads
    ]
    assert float(found["traffic"]["prefixReuse"]) == pytest.approx(0.25, abs=1e-3)
    assert found["measured"]["requests"] == 301
    assert found["measured"]["rejected"] == sum(request.output_tokens is None for request in trace) > 20
    assert found["measured"]["rate"] == pytest.approx(301 / found["measured"]["seconds"])


async def test_without_usage_a_stream_counts_by_its_events_and_the_estimate(
    router: RunningRouter, engine: FakeEngine
) -> None:
    engine.tokens = 30
    await router.ask("/v1/completions", prompt=[1] * 1000, stream=True)
    assert await sizes(router) == {("1024", "32"): 1}


@pytest.mark.parametrize("behaviour", ["429", "500", "close_in_body", "error_event"])
async def test_what_is_rejected_or_fails_counts_by_its_input_alone(
    router: RunningRouter, engine: FakeEngine, behaviour: str
) -> None:
    engine.behaviour = behaviour
    try:
        await router.ask("/v1/completions", prompt=[1] * 1000, stream=True)
    except httpx.RemoteProtocolError:
        assert behaviour == "close_in_body"
    assert await sizes(router) == {("1024", "rejected"): 1}


async def test_a_request_that_no_engine_takes_was_offered_too(router: RunningRouter) -> None:
    router.put_table(table_json())
    assert (await router.ask("/v1/completions", prompt=[1] * 1000)).status_code == 503
    assert await sizes(router) == {("1024", "rejected"): 1}


async def test_a_clients_own_mistakes_are_no_load(router: RunningRouter, engine: FakeEngine) -> None:
    engine.behaviour = "400"
    assert (await router.ask()).status_code == 400
    assert (await router.ask(model="other")).status_code == 404
    assert (await router.http.post("/v1/completions", content=b"{")).status_code == 400
    assert await sizes(router) == {}


async def test_a_client_that_leaves_counts_with_what_it_got(router: RunningRouter, engine: FakeEngine) -> None:
    engine.gate, engine.tokens = asyncio.Semaphore(20), 90
    body = {"model": "tiny", "prompt": [1] * 1000, "stream": True}
    async with router.http.stream("POST", "/v1/completions", json=body) as response:
        seen = b""
        async for chunk in response.aiter_bytes():
            seen += chunk
            if seen.count(b"data:") == 20:
                break
    await until(lambda: not router.proxy.endpoints.outstanding)
    assert await sizes(router) == {("1024", "20"): 1}


async def test_a_client_that_leaves_before_its_first_token_counts_by_its_input_alone(
    router: RunningRouter, engine: FakeEngine
) -> None:
    engine.behaviour = "silent"
    asking = asyncio.create_task(router.ask("/v1/completions", prompt=[1] * 1000, stream=True))
    await until(lambda: len(engine.received) == 1)
    asking.cancel()
    await until(lambda: not router.proxy.endpoints.outstanding)
    assert await sizes(router) == {("1024", "rejected"): 1}


async def test_a_request_that_is_sent_again_counts_once(router: RunningRouter, engine: FakeEngine) -> None:
    engine.first, engine.tokens, engine.prompt_tokens = ["503"], 16, 64
    assert (await router.ask()).status_code == 200
    assert await sizes(router) == {("64", "16"): 1}


# --- the text ---


def test_the_text_is_what_prometheus_reads() -> None:
    now = 5.0
    offered = Offered("router-1", clock=lambda: now)
    offered.add('odd/"name"\\\n', 10, None)
    offered.add("team/chat", 100, 17)
    offered.told("team/chat", Usage(100, 17, 30))
    now = 8.5
    samples = [
        (sample.name.removeprefix("motley_router_"), sample.labels, sample.value)
        for family in text_string_to_metric_families(offered.text())
        for sample in family.samples
    ]
    odd = {"router": "router-1", "model": 'odd/"name"\\\n'}
    chat = {"router": "router-1", "model": "team/chat"}
    assert samples == [
        ("uptime_seconds", {"router": "router-1"}, 3.5),
        ("offered_requests_total", odd | {"input_tokens": "64", "output_tokens": "rejected"}, 1),
        ("offered_requests_total", chat | {"input_tokens": "108", "output_tokens": "20"}, 1),
        ("prompt_tokens_total", chat, 100),
        ("cached_prompt_tokens_total", chat, 30),
    ]


def test_however_many_sizes_come_the_counters_stay_few() -> None:
    offered, random = Offered("router-1"), Random(1)
    for _ in range(20_000):
        inputs = random.randrange(8192)
        offered.add("team/chat", inputs, random.randrange(8192 - inputs))
    assert len(sizes_in(offered.text(), "team/chat")) < 29 * 37, "edges up to 8192 tokens"
