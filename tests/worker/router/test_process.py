"""The process as it runs in a pod: finds the API server, routes, goes on without it, and drains on SIGTERM."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fake_watch_api import FakeWatchApi
from router_harness import StartEngine, kubeconfig, slice_json, table_json


@asynccontextmanager
async def process(config: Path, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    settings = {"KUBECONFIG": str(config), "MOTLEY_ROUTER_PORT": port, **environment}
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "motley_worker.router", env=os.environ | settings
    )
    try:
        yield running, f"http://127.0.0.1:{port}"
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def status(http: httpx.AsyncClient, path: str) -> int:
    try:
        return (await http.get(path)).status_code
    except httpx.TransportError:
        return 0


async def becomes(http: httpx.AsyncClient, path: str, wanted: int, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while (seen := await status(http, path)) != wanted:
        assert time.monotonic() < deadline, f"{path} is {seen}, not {wanted}"
        await asyncio.sleep(0.02)


@pytest.fixture
async def api() -> AsyncIterator[FakeWatchApi]:
    fake = FakeWatchApi()
    fake.start()
    yield fake
    await asyncio.to_thread(fake.stop)


async def test_the_process_routes_and_on_sigterm_finishes_its_streams(
    api: FakeWatchApi, start_engine: StartEngine, tmp_path: Path
) -> None:
    engine = await start_engine(gate=asyncio.Semaphore(1))
    api.kinds["routingtables"].items = [table_json(backends=[("chat", engine.port)])]
    api.kinds["endpointslices"].items = [slice_json("chat")]
    api.kinds["routingtables"].refuse_lists = 403
    config = kubeconfig(tmp_path / "config", api.url)
    async with (
        process(config, MOTLEY_ROUTER_DRAIN_SECONDS="4", MOTLEY_ROUTER_NAMESPACE="default") as (running, url),
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        await becomes(http, "/healthz", 200)
        assert await status(http, "/readyz") == 503
        api.kinds["routingtables"].refuse_lists = 0
        await becomes(http, "/readyz", 200)
        assert "/namespaces/default/" in api.kinds["endpointslices"].lists[0]["path"]
        assert api.kinds["endpointslices"].lists[0]["labelSelector"] == "app.kubernetes.io/managed-by=motley"

        await asyncio.to_thread(api.stop)  # serving goes on with what was seen
        body = {"model": "tiny", "prompt": "hi", "stream": True}
        async with http.stream("POST", "/v1/completions", json=body) as response:
            running.send_signal(signal.SIGTERM)
            await becomes(http, "/readyz", 503)
            assert await status(http, "/v1/models") == 200, "requests are still taken"
            await becomes(http, "/healthz", 0)
            for _ in range(10):
                engine.gate.release()
            assert (await response.aread()).endswith(b"data: [DONE]\n\n")
        assert await asyncio.wait_for(running.wait(), 10) == 0


async def test_a_stream_that_does_not_end_does_not_hold_the_process_forever(
    api: FakeWatchApi, start_engine: StartEngine, tmp_path: Path
) -> None:
    engine = await start_engine(gate=asyncio.Semaphore(1))
    api.kinds["routingtables"].items = [table_json(backends=[("chat", engine.port)])]
    api.kinds["endpointslices"].items = [slice_json("chat")]
    config = kubeconfig(tmp_path / "config", api.url)
    async with (
        process(config, MOTLEY_ROUTER_DRAIN_SECONDS="1") as (running, url),
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        await becomes(http, "/readyz", 200)
        body = {"model": "tiny", "prompt": "hi", "stream": True}
        async with http.stream("POST", "/v1/completions", json=body) as response:
            running.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.RemoteProtocolError):
                await response.aread()
        assert await asyncio.wait_for(running.wait(), 10) == 0
        await asyncio.wait_for(engine.left.wait(), 10)
