"""A pod's processes as this machine sees them: found by the pod's cgroup, looked at through /proc. Only where the node
is this machine, as on the embedded cluster."""

import os
import signal
from pathlib import Path
from typing import Any

from e2e.cluster.processes import PROC


def processes(pod: dict[str, Any]) -> dict[int, str]:
    """Command lines by process id, the pause container's left out."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (command := _command(entry, f"pod{pod['metadata']['uid']}")):
            found[int(entry.name)] = command
    return {pid: command for pid, command in found.items() if command != "/pause"}


def process(pod: dict[str, Any], words: str) -> int:
    """The pod's one process with these words in its command line."""
    (found,) = (pid for pid, command in processes(pod).items() if words in command)
    return found


def kill(pod: dict[str, Any], words: str) -> None:
    """SIGKILL, to exactly the process that was looked at."""
    pid = process(pod, words)
    handle = os.pidfd_open(pid)
    try:
        assert process(pod, words) == pid
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


def status(pid: int) -> dict[str, list[str]]:
    """/proc/<pid>/status: user ids, capabilities, seccomp."""
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def mount_options(pid: int) -> dict[str, list[str]]:
    """By mount point, as the process sees them."""
    lines = (PROC / str(pid) / "mounts").read_text().splitlines()
    return {fields[1]: fields[3].split(",") for fields in (line.split() for line in lines)}


def _command(entry: Path, group: str) -> str:
    try:
        if group not in (entry / "cgroup").read_text():
            return ""
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return ""
