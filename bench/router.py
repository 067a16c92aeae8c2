"""What the router adds: latency and CPU, against calling the same engine directly.

    python bench/router.py                                   a fast fake engine on loopback
    python bench/router.py --engine http://HOST:PORT --model NAME     a real engine

The client, the router (its own process, as in a pod) and the fake engine share this machine. Requests go alternately
direct and through the router in short rounds, so that what else the machine does falls on both alike.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

import uvloop

ROOT = Path(__file__).parents[1]
SUPPORT = ROOT / "tests" / "support"
sys.path[:0] = [str(ROOT), str(SUPPORT)]

from fake_watch_api import FakeWatchApi  # noqa: E402
from router_harness import kubeconfig, slice_json, table_json  # noqa: E402

from bench.machine import measured_on  # noqa: E402

ROUNDS = 6
PROMPT = "word " * 200


@dataclass
class Taken:
    """Seconds to the first byte of body and to the last, of each request; and what the round took."""

    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    wall: float = 0.0
    router_cpu: float = 0.0


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    model: str

    def request(self, stream: bool, tokens: int) -> bytes:
        fields = {"model": self.model, "prompt": PROMPT, "stream": stream, "max_tokens": tokens, "temperature": 0}
        body = json.dumps(fields).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: {self.host}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, taken: Taken) -> None:
    began = time.perf_counter()
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        sys.exit(f"the answer was {head[:60]!r}: {(await reader.read(500))!r}")
    if b"transfer-encoding: chunked" in head:
        size = int(await reader.readline(), 16)
        first = time.perf_counter()
        while size:
            await reader.readexactly(size + 2)
            size = int(await reader.readline(), 16)
        await reader.readline()
    else:
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(1)
        first = time.perf_counter()
        await reader.readexactly(length - 1)
    taken.first.append(first - began)
    taken.total.append(time.perf_counter() - began)


async def round_of(target: Target, request: bytes, concurrency: int, count: int, taken: Taken) -> None:
    async def client(requests: int) -> None:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        await one(reader, writer, request, Taken())  # the connection behind is not measured
        barrier_left.release()
        await go.wait()
        for _ in range(requests):
            await one(reader, writer, request, taken)
        writer.close()

    go, barrier_left = asyncio.Event(), asyncio.Semaphore(0)
    clients = [asyncio.create_task(client(max(1, count // concurrency))) for _ in range(concurrency)]
    for _ in clients:
        await asyncio.wait_for(barrier_left.acquire(), 120)
    began = time.perf_counter()
    go.set()
    await asyncio.gather(*clients)
    taken.wall += time.perf_counter() - began


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def program(*arguments: str, port: int, **environment: str) -> AsyncIterator[int]:
    """Its process id, once it listens."""
    running = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=os.environ | environment)
    try:
        await listening(port)
        yield running.pid
    finally:
        running.kill()
        await running.wait()


async def listening(port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"nothing listens on port {port}")
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


@asynccontextmanager
async def router_to(engine: Target) -> AsyncIterator[tuple[Target, int]]:
    api = FakeWatchApi()
    api.kinds["routingtables"].items = [table_json(engine.model, [("engine", engine.port)])]
    api.kinds["endpointslices"].items = [slice_json("engine", [socket.gethostbyname(engine.host)])]
    api.start()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = kubeconfig(Path(folder) / "config", api.url)
        settings = {"KUBECONFIG": str(config), "MOTLEY_ROUTER_PORT": str(port)}
        try:
            async with program("-m", "motley_worker.router", port=port, **settings) as pid:
                await asyncio.sleep(1)  # the first lists
                yield Target("127.0.0.1", port, engine.model), pid
        finally:
            await asyncio.to_thread(api.stop)


def row(name: str, taken: Taken) -> str:
    def shown(times: list[float]) -> str:
        return f"{1000 * median(times):8.2f} {1000 * quantiles(times, n=100)[98]:8.2f}"

    rate = len(taken.total) / taken.wall
    per_core = f"{len(taken.total) / taken.router_cpu:12.0f}" if taken.router_cpu else " " * 12
    return f"{name:<28} {shown(taken.first)}   {shown(taken.total)}   {rate:8.0f} {per_core}"


async def measure(engine: Target, counts: dict[int, int], tokens: int) -> None:
    async with router_to(engine) as (router, pid):
        print(f"{'':<28} {'first byte, ms':>17}   {'last byte, ms':>17}   {'requests':>8} {'requests per':>12}")
        print(f"{'':<28} {'median':>8} {'p99':>8}   {'median':>8} {'p99':>8}   {'per s':>8} {'router cpu-s':>12}")
        for stream in (False, True):
            for concurrency, count in counts.items():
                direct, routed = Taken(), Taken()
                for _ in range(ROUNDS):
                    request = engine.request(stream, tokens)
                    await round_of(engine, request, concurrency, count // ROUNDS, direct)
                    before = cpu_seconds(pid)
                    await round_of(router, request, concurrency, count // ROUNDS, routed)
                    routed.router_cpu += cpu_seconds(pid) - before
                name = f"{'stream' if stream else 'whole'}, {concurrency} at once"
                print(row(f"{name}, direct", direct))
                print(row(f"{name}, router", routed))
                added = [1000 * (median(getattr(routed, part)) - median(getattr(direct, part))) for part in PARTS]
                print(f"{'  added by the router':<28} {added[0]:8.2f} {'':>8}   {added[1]:8.2f}", flush=True)


PARTS = ("first", "total")


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--engine", help="URL of a running engine; without it a fake one is started")
    arguments.add_argument("--model", default="tiny")
    arguments.add_argument("--tokens", type=int, default=16)
    arguments.add_argument("--requests", type=int, default=1200, help="per line of the table")
    chosen = arguments.parse_args()
    engine = chosen.engine or "fake, on loopback"
    print(f"{measured_on()}, {chosen.tokens} tokens per answer, engine: {engine}")
    async with AsyncExitStack() as running:
        if chosen.engine:
            url = urlsplit(chosen.engine)
            engine = Target(url.hostname or "127.0.0.1", url.port or 80, chosen.model)
        else:
            port = free_port()
            fake = (str(SUPPORT / "fake_openai_engine.py"), "--port", str(port), "--tokens", str(chosen.tokens))
            await running.enter_async_context(program(*fake, port=port))
            engine = Target("127.0.0.1", port, chosen.model)
        await measure(engine, {1: chosen.requests, 8: chosen.requests, 64: chosen.requests}, chosen.tokens)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
