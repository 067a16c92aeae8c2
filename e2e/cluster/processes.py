"""Starts, finds and ends processes. One is only ever ended when number and start time both match."""

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .state import Process

PROC = Path("/proc")


def start_time(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None when it is gone or only waits to be reaped."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def alive(process: Process | None) -> bool:
    return process is not None and start_time(process.pid) == process.started


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str], fingerprint: str) -> Process:
    """Starts a process that outlives this one, in a session of its own, with its output in a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        os.replace(log, log.with_suffix(".previous.log"))
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawnp(command[0], list(command), dict(environment), file_actions=actions, setsid=True)
    return Process(pid, start_time(pid) or 0, fingerprint)


def end(process: Process, with_signal: signal.Signals = signal.SIGTERM, patience: float = 10.0) -> None:
    """Ends the process with the signal, and with SIGKILL when it has not gone in time."""
    if not alive(process):
        _reap(process.pid)
        return
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if not alive(process):  # looked at again: only now is it sure which process the handle stands for
            return
        signal.pidfd_send_signal(handle, with_signal)
        if not _gone(handle, patience):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            _gone(handle, patience)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
        _reap(process.pid)


def end_all(pids: Sequence[int], deadline: float = 10.0) -> None:
    """Kills the processes at once; for those that belong to a cluster without being recorded by it."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    until = time.monotonic() + deadline
    while any(start_time(pid) is not None for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in pids:
        _reap(pid)


def in_network_namespace(namespace: Path) -> list[int]:
    """The processes that run in the network namespace, whoever started them."""
    wanted = os.stat(namespace)
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            seen = os.stat(entry / "ns" / "net")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(int(entry.name))
    return found


def _gone(handle: int, patience: float) -> bool:
    return bool(select.select([handle], [], [], patience)[0])


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # another process started it
