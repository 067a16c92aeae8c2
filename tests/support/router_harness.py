"""Runs the real router app over uvicorn on loopback, with routing tables and endpoint slices given as their JSON."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx
from fake_openai_engine import FakeEngine

from motley_worker.router.app import app_of
from motley_worker.router.metrics import Metrics
from motley_worker.router.proxy import Proxy
from motley_worker.router.server import DrainingServer, server_of
from motley_worker.router.tables import EndpointSlice, RoutingTable
from motley_worker.router.view import View

StartEngine = Callable[..., Awaitable[FakeEngine]]

SLO = {"ttftSeconds": 5.0, "tpotSeconds": 1.0, "attainment": 0.99}


def table_json(
    served_name: str = "tiny",
    backends: Sequence[tuple[str, int]] = (("chat", 8000),),
    sizes: Sequence[tuple[int, int, Sequence[float]]] = (),
    **metadata: Any,
) -> dict[str, Any]:
    named = {"namespace": "default", "name": "tiny", "creationTimestamp": "2025-01-01T00:00:00Z"} | metadata
    return {
        "apiVersion": "motley.dev/v1alpha1",
        "kind": "RoutingTable",
        "metadata": named,
        "spec": {
            "servedName": served_name,
            "model": named["name"],
            "slo": SLO,
            "backends": [{"service": service, "port": port} for service, port in backends],
            "sizes": [
                {"inputTokens": inputs, "outputTokens": outputs, "shares": list(shares)}
                for inputs, outputs, shares in sizes
            ],
        },
    }


def slice_json(service: str = "chat", addresses: Sequence[str] = ("127.0.0.1",), **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": f"{service}-abc",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}}
            for address in addresses
        ],
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
    } | fields


def kubeconfig(path: Path, server: str) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        "clusters": [{"name": "fake", "cluster": {"server": server}}],
        "users": [{"name": "fake", "user": {"token": "any"}}],
    }
    path.write_text(json.dumps(config))
    return path


@dataclass
class RunningRouter:
    view: View
    metrics: Metrics
    proxy: Proxy
    server: DrainingServer
    http: httpx.AsyncClient
    url: str

    def route_to(self, *engines: FakeEngine, sizes: Sequence[tuple[int, int, Sequence[float]]] = ()) -> None:
        """One backend per engine: on loopback engines differ by port, which is the backend's."""
        backends = [(f"service-{number}", engine.port) for number, engine in enumerate(engines)]
        self.put_table(table_json(backends=backends, sizes=sizes))
        self.view.slices.replace({})
        for service, _ in backends:
            self.put_slice(slice_json(service))

    def put_table(self, table: dict[str, Any]) -> None:
        parsed = RoutingTable.model_validate(table)
        self.view.tables.put((parsed.metadata.namespace, parsed.metadata.name), parsed)

    def put_slice(self, piece: dict[str, Any]) -> None:
        parsed = EndpointSlice.model_validate(piece)
        self.view.slices.put((parsed.metadata.namespace, parsed.metadata.name), parsed)

    async def ask(self, path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]} | fields
        return await self.http.post(path, json=body)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@asynccontextmanager
async def running_router(seed: int = 1, drain_seconds: float = 2.0, **options: Any) -> AsyncIterator[RunningRouter]:
    view, metrics = View(), Metrics()
    proxy = Proxy(view, metrics, random=Random(seed), **options)
    server = server_of(app_of(view, metrics, proxy), "127.0.0.1", 0, drain_seconds)
    await start(server)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=20) as http:
            yield RunningRouter(view, metrics, proxy, server, http, url)
    finally:
        await stop(server)


async def start(server: DrainingServer) -> None:
    """As `server.serve()` does, without its main loop: that looks only ten times a second whether it should end."""
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()


async def stop(server: DrainingServer) -> None:
    for listener in server.servers:
        listener.close()
    for connection in list(server.server_state.connections):
        connection.shutdown()
    await until(lambda: not server.server_state.tasks)
    await server.lifespan.shutdown()


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)
