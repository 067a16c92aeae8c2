"""Bad input: each is answered in OpenAI's shape and never reaches an engine."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from fake_openai_engine import FakeEngine
from hypothesis import given, settings
from hypothesis import strategies as st
from router_harness import RunningRouter, running_router, table_json

from motley_worker.router import proxy, server
from motley_worker.router.request import BadRequest, ask_of


def error_of(response: httpx.Response) -> dict[str, Any]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    return dict(error)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b'{"model": "tiny"', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"model": "\\ud800"}', "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'"tiny"', "must be a JSON object"),
        (b"{}", "Name the model"),
        (b'{"model": 7}', "Name the model"),
        (b'{"model": ["tiny"]}', "Name the model"),
        (b'{"model": ""}', "Name the model"),
    ],
)
async def test_a_body_that_is_no_request_is_400_with_what_is_wrong(
    router: RunningRouter, engine: FakeEngine, body: bytes, says: str
) -> None:
    response = await router.http.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert says in error_of(response)["message"]
    assert error_of(response)["type"] == "invalid_request_error"
    assert not engine.received


async def test_an_unknown_model_is_404_and_never_a_metrics_label(router: RunningRouter, engine: FakeEngine) -> None:
    for number in range(20):
        response = await router.ask(model=f'evil{number}"}}\n' + "x" * 10_000)
        assert response.status_code == 404
    assert error_of(response)["code"] == "model_not_found"
    assert len(response.content) < 1000
    scraped = (await router.http.get("/metrics")).text
    assert "evil" not in scraped
    assert 'motley_router_requests_total{code="404",model=""} 20.0' in scraped


async def test_a_model_without_live_engines_is_503_with_retry_after(router: RunningRouter) -> None:
    router.put_table(table_json())
    response = await router.ask()
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert error_of(response)["type"] == "server_error"
    assert router.metric("motley_router_no_endpoint_total", model="default/tiny") == 1
    assert router.metric("motley_router_slo_attainment_ratio", model="default/tiny") == 0


@pytest.mark.parametrize("size", [1025, 3000, 1_000_000])
async def test_a_body_above_the_limit_is_413(size: int) -> None:
    async with running_router(max_body_bytes=1024) as router:
        response = await router.http.post("/v1/completions", content=b"x" * size)
        assert response.status_code == 413
        assert "1024 bytes" in error_of(response)["message"]


async def test_bodies_that_are_too_large_together_are_503_and_give_their_room_back() -> None:
    async with running_router(max_held_bytes=100) as router:
        slow, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(router.url).port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n" + b"x" * 80)
        await writer.drain()
        while (refused := await router.http.post("/v1/completions", content=b"x" * 30)).status_code == 400:
            await asyncio.sleep(0.01)  # until the slow one has arrived
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        writer.close()
        while (await router.http.post("/v1/completions", content=b"x" * 30)).status_code == 503:
            await asyncio.sleep(0.01)  # until the slow one is gone
        assert slow is not None


async def test_a_body_that_does_not_arrive_is_408(router: RunningRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "BODY_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(router.url).port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_a_head_that_does_not_end_closes_the_connection(
    router: RunningRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(router.url).port)
    writer.write(b"GET /healthz HTTP/1.1\r\n" + b"x-long: " + b"y" * (server.HEAD_BYTES + 1))
    assert await reader.read() == b""
    writer.close()
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(router.url).port)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length : 5\r\n\r\nhello",
    ],
)
async def test_a_request_with_two_lengths_is_refused(router: RunningRouter, engine: FakeEngine, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(router.url).port)
    writer.write(head)
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert not engine.received


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/load_lora_adapter", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/health", 404),
        ("GET", "/v1/models/", 404),
        ("POST", "/v1//chat/completions", 404),
        ("POST", "/v1/chat/completions/../../load_lora_adapter", 404),
        ("POST", "/v1/completions%2f..%2fload_lora_adapter", 404),
        ("GET", "/v1/chat/completions", 405),
        ("GET", "/docs", 404),
    ],
)
async def test_paths_that_are_not_listed_do_not_exist(
    router: RunningRouter, engine: FakeEngine, method: str, path: str, status: int
) -> None:
    response = await router.http.request(method, httpx.URL(router.url).copy_with(raw_path=path.encode()), json={})
    assert response.status_code == status
    error_of(response)
    assert not engine.received


async def test_ready_means_that_tables_and_endpoints_have_been_listed(router: RunningRouter) -> None:
    assert (await router.http.get("/healthz")).status_code == 200
    assert (await router.http.get("/readyz")).status_code == 503
    router.view.tables.replace({})
    assert (await router.http.get("/readyz")).status_code == 503
    router.view.slices.replace({})
    assert (await router.http.get("/readyz")).status_code == 200


@settings(max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=8))
def test_any_json_is_an_ask_or_a_bad_request(value: Any) -> None:
    for document in (value, {"model": value}, {"model": "tiny", "messages": value, "max_tokens": value}):
        try:
            ask = ask_of(json.dumps(document).encode())
        except BadRequest:
            continue
        assert ask.text_bytes >= 0 and ask.token_ids >= 0


@given(st.binary(max_size=200))
def test_any_bytes_are_an_ask_or_a_bad_request(body: bytes) -> None:
    try:
        ask_of(body)
    except BadRequest as error:
        assert str(error)
