"""Runs one engine replica: weights, vLLM, a first token, probes, drain. Exit codes: see `motley_worker.errors`.

The first SIGTERM takes the pod out of the endpoints (/ready is 503) and vLLM goes on until routers have noticed and
no request runs or waits, at most drainSeconds; a second one hurries. Knows nothing of models, GPUs or the cluster."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from motley_worker.arguments import SHUTDOWN_SECONDS, VLLM, vllm_arguments, vllm_environment
from motley_worker.config import Pod, WorkerConfig
from motley_worker.engine import Engine
from motley_worker.errors import EngineNotStarted, WorkerError
from motley_worker.health import Health, health_endpoint
from motley_worker.process import main
from motley_worker.sources import fetch

log = logging.getLogger("motley.launch")

T = TypeVar("T")

_TICK = 0.5
_HURRIED_SECONDS = 3.0


class Stopped(Exception):
    """SIGTERM came before there was anything to drain."""


class Signals:
    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._came)

    def _came(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, or Stopped as soon as SIGTERM comes."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self.stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            return task.result()
        task.cancel()
        raise Stopped


async def launch(config: WorkerConfig, pod: Pod, vllm: Sequence[str] = VLLM) -> None:
    """Returns when stopped, raises a WorkerError when something failed."""
    signals, health = Signals(), Health()
    with health_endpoint(health, pod.health_port):
        health.phase = "fetching weights"
        folder = await signals.unless_stopped(_in_thread(lambda: _weights(config, pod)))
        health.phase = "starting vLLM"
        command = (*vllm, *vllm_arguments(config, folder, pod.engine_port))
        async with Engine(command, vllm_environment(config, os.environ), pod.engine_port) as engine:
            await signals.unless_stopped(_first_token(engine, config, health))
            with suppress(Stopped):
                await signals.unless_stopped(_watch(engine, health))
            await _drain(engine, config, pod, health, signals)


def _weights(config: WorkerConfig, pod: Pod) -> Path:
    return fetch(config.source, config.revision, pod.cache, claims_dir=pod.claims)


async def _in_thread(work: Callable[[], T]) -> T:
    """On a daemon thread, which a stop need not wait for: downloads can be continued."""
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name="weights", daemon=True).start()
    return await asyncio.wrap_future(result)


async def _tick(engine: Engine, was_serving: bool) -> None:
    """A pause that ends with the reason if vLLM does."""
    await asyncio.wait({engine.ended}, timeout=_TICK)
    engine.reap_orphans()
    if engine.ended.done():
        raise await engine.failure(was_serving)


async def _first_token(engine: Engine, config: WorkerConfig, health: Health) -> None:
    start = time.monotonic()
    while not await engine.answers():
        await _tick(engine, was_serving=False)
    health.heard()
    health.phase = "generating a first token"
    log.info("vLLM answers after %.0f s", time.monotonic() - start)
    trouble = await engine.generate_token(config.served_name)
    if trouble is not None:
        with suppress(TimeoutError):  # if it is dying, its own words tell more
            await asyncio.wait_for(asyncio.shield(engine.ended), 3)
            raise await engine.failure(was_serving=False)
        raise EngineNotStarted(f"vLLM answers but generates no token: {trouble}")
    health.token_generated = health.engine_running = True
    health.heard()
    health.phase = "serving"
    log.info("serving %s as %s", config.model, config.served_name)


async def _watch(engine: Engine, health: Health) -> None:
    """Until vLLM ends."""
    while True:
        try:
            await _tick(engine, was_serving=True)
        except WorkerError:
            health.engine_running = False
            raise
        if await engine.answers():
            health.heard()


async def _drain(engine: Engine, config: WorkerConfig, pod: Pod, health: Health, signals: Signals) -> None:
    health.draining, health.phase = True, "draining"
    log.info("draining, at most %d s", config.drain_seconds)
    start = time.monotonic()
    await _until_idle(engine, health, start + config.drain_seconds, start + pod.settle_seconds, signals)
    await engine.stop(_HURRIED_SECONDS if signals.hurry.is_set() else SHUTDOWN_SECONDS + 5)
    log.info("drained in %.0f s", time.monotonic() - start)


async def _until_idle(engine: Engine, health: Health, deadline: float, settled: float, signals: Signals) -> None:
    """Two idle looks in a row: a request that was just accepted shows in the metrics with its first step."""
    idle = 0
    while time.monotonic() < deadline and not signals.hurry.is_set():
        requests = await engine.requests()
        if requests is not None:
            health.heard()
        idle = idle + 1 if requests == 0 else 0
        if idle >= 2 and time.monotonic() >= settled:
            return
        await _tick(engine, was_serving=True)
    log.warning("not waiting any longer for %s requests", await engine.requests())


def run(pod: Pod, vllm: Sequence[str] = VLLM) -> None:
    try:
        asyncio.run(launch(WorkerConfig.from_env(), pod, vllm))
    except Stopped:
        log.info("stopped before serving")


if __name__ == "__main__":
    main(run)
