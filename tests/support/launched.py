"""A launcher in a process of its own, as in a pod: started, asked by its probes, signalled, and cleaned up."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Launched:
    """Use as a context manager: whatever happens, neither launcher nor engine outlives it."""

    def __init__(self, folder: Path, command: Sequence[str], config: str, environ: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.engine_port, self.health_port = free_port(), free_port()
        self.log_file, self.termination_log = folder / "log", folder / "termination-log"
        self.client = httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
        own = {
            "MOTLEY_WORKER_CONFIG": config,
            "MOTLEY_CACHE_DIR": str(folder / "cache"),
            "MOTLEY_TERMINATION_LOG": str(self.termination_log),
            "MOTLEY_ENGINE_PORT": str(self.engine_port),
            "MOTLEY_HEALTH_PORT": str(self.health_port),
        }
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], env={**os.environ, **environ, **own}, stdout=log, stderr=log
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # it could start an engine between our look and its end
            engines = children(self.process.pid)
            self.process.kill()
            self.process.wait()
            for engine in engines:
                with suppress(ProcessLookupError):
                    os.killpg(engine, signal.SIGKILL)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.engine_port}"

    @property
    def engine_pid(self) -> int | None:
        found = re.search(r"started vLLM, pid (\d+)", self.log)
        return int(found[1]) if found else None

    def probe(self, path: str) -> tuple[int, str]:
        try:
            answer = self.client.get(f"http://127.0.0.1:{self.health_port}{path}")
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text.strip()

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended while waiting for {what}:\n{self.log[-4000:]}"
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}:\n{self.log[-4000:]}"
            time.sleep(0.05)

    def wait_until_ready(self, seconds: float = 60) -> None:
        self.wait(lambda: self.probe("/ready")[0] == 200, "readiness", seconds)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self, seconds: float = 60) -> int:
        """The exit code."""
        return self.process.wait(timeout=seconds)

    def reason(self) -> str:
        return self.termination_log.read_text() if self.termination_log.exists() else ""


def children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for text in lists for child in text.read_text().split()]


def alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
