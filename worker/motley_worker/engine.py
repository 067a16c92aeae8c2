"""The vLLM process: started in its own process group, listened to, asked how it is, and ended with all its children."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx

from motley_worker.diagnosis import diagnosis
from motley_worker.errors import WorkerError

log = logging.getLogger("motley.engine")

_TAIL_BYTES = 256 << 10
_LOOK = 0.1
_BUSY = ("vllm:num_requests_running", "vllm:num_requests_waiting")
_CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")


class Engine:
    """Use as `async with Engine(…)`: at the end nothing of the process group is left."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], port: int) -> None:
        self._command = tuple(command)
        self._environ = dict(environ)
        self._client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False)
        self._tail = bytearray()

    async def __aenter__(self) -> Self:
        self._kills_before = kernel_kills()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._listener = asyncio.create_task(self._listen())
        self.ended = asyncio.create_task(self._end())
        log.info("started vLLM, pid %d", self._process.pid)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._kill_group()
        await self.ended
        await self._finish_listening()
        await self._client.aclose()

    async def _end(self) -> int:
        """The exit code. Not `Process.wait()`: that one goes on until all children of vLLM have let go of its output
        (python/cpython#119710)."""
        while (code := self._process.returncode) is None:
            await asyncio.sleep(_LOOK)
        return code

    async def _listen(self) -> None:
        """vLLM's output goes on to ours; the end of it is kept for the diagnosis."""
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(1 << 16):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            self._tail += chunk
            del self._tail[:-_TAIL_BYTES]

    async def _finish_listening(self) -> None:
        """A grandchild that left the group may hold the pipe open for ever."""
        await asyncio.wait({self._listener}, timeout=2)

    async def failure(self, was_serving: bool) -> WorkerError:
        """Why it ended. Only to be asked when it has."""
        code = await self.ended
        self._kill_group()  # what is left of it may hold the output open
        await self._finish_listening()
        killed = kernel_kills() > self._kills_before
        return diagnosis(self._tail.decode(errors="replace"), code, was_serving, killed)

    async def answers(self) -> bool:
        try:
            return (await self._client.get("/health")).status_code == 200
        except httpx.HTTPError:
            return False

    async def generate_token(self, served_name: str) -> str | None:
        """Through the API that clients use; None, or what went wrong."""
        body = {"model": served_name, "prompt": "Hello", "max_tokens": 1}
        try:  # the first request may compile kernels
            answer = await self._client.post("/v1/completions", json=body, timeout=900)
            if answer.status_code == 200 and answer.json()["choices"]:
                return None
            return f"{answer.status_code} {answer.text[:300]}"
        except (httpx.HTTPError, ValueError, KeyError) as error:
            return f"{type(error).__name__}: {error}"

    async def requests(self) -> int | None:
        """Running and waiting; None if it did not say."""
        try:
            answer = await self._client.get("/metrics")
        except httpx.HTTPError:
            return None
        return busy(answer.text) if answer.status_code == 200 else None

    async def stop(self, patience: float) -> None:
        log.info("stopping vLLM")
        with suppress(ProcessLookupError):
            self._process.terminate()
        await asyncio.wait({self.ended}, timeout=patience)

    def reap_orphans(self) -> None:
        """As process 1 the launcher inherits orphans. Its own child is left to asyncio."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid == self._process.pid:
                return
            os.waitpid(found.si_pid, os.WNOHANG)

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def busy(metrics: str) -> int | None:
    """Requests running and waiting, from vLLM's metrics; None where they are not."""
    found = [
        float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.partition("{")[0].partition(" ")[0] in _BUSY
    ]
    return int(sum(found)) if found else None


def kernel_kills() -> int:
    """Processes of this container that the kernel killed for memory so far."""
    try:
        counts = dict(line.split() for line in _CGROUP_EVENTS.read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0
