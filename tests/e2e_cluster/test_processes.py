import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster import processes
from e2e.cluster.state import Process

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "part.log"


def spawned(code: str, log: Path) -> Process:
    process = processes.spawn([sys.executable, "-c", code], log, os.environ, "f")
    until = time.monotonic() + 20
    while "up" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.01)
    return process


@pytest.fixture
def sleeper(log: Path) -> Iterator[Process]:
    process = spawned(SLEEPS, log)
    yield process
    processes.end(process, signal.SIGKILL)


def test_a_process_is_known_by_its_number_and_its_start(sleeper: Process) -> None:
    assert processes.alive(sleeper)
    assert not processes.alive(replace(sleeper, started=sleeper.started - 1))
    assert not processes.alive(None)


def test_a_process_that_got_the_number_of_an_earlier_one_is_not_ended(sleeper: Process) -> None:
    processes.end(replace(sleeper, started=sleeper.started - 1), signal.SIGKILL)
    assert processes.alive(sleeper)


def test_a_process_that_was_ended_is_not_alive_even_before_it_is_reaped(log: Path) -> None:
    process = spawned(SLEEPS, log)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is left as it is
    assert not processes.alive(process)
    processes.end(process)


def test_a_process_that_ignores_sigterm_is_killed(log: Path) -> None:
    process = spawned(STUBBORN, log)
    processes.end(process, signal.SIGTERM, patience=0.3)
    assert not processes.alive(process)


def test_ending_twice_does_no_harm(log: Path) -> None:
    process = spawned(SLEEPS, log)
    processes.end(process)
    processes.end(process)
    assert not processes.alive(process)


def test_the_log_of_the_start_before_is_kept(log: Path) -> None:
    first = spawned(SLEEPS, log)
    processes.end(first)
    log.write_text("the first\n")
    second = spawned(SLEEPS, log)
    processes.end(second)
    assert log.with_suffix(".previous.log").read_text() == "the first\n"


def test_a_process_shares_this_ones_network_namespace(sleeper: Process) -> None:
    assert sleeper.pid in processes.in_network_namespace(Path("/proc/self/ns/net"))
