"""What is remembered of a cluster between two commands: its place on the machine and its processes.

One JSON file in the cluster's folder, replaced as a whole. A cluster has a slot, a small number from which its
addresses follow, so that clusters can stand side by side.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .build import cache


@dataclass(frozen=True)
class Process:
    """A process, told apart from a later one with the same number by its start time."""

    pid: int
    started: int
    fingerprint: str  # of the command and configuration that it was started with


@dataclass(frozen=True)
class State:
    name: str
    boot: str  # after a reboot nothing that is recorded here lives
    slot: int
    root: bool  # namespaces of its own, or plain processes on the loopback address
    node: bool = False
    extras: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    processes: Mapping[str, Process] = field(default_factory=dict)

    def with_process(self, name: str, process: Process | None) -> "State":
        others = {key: value for key, value in self.processes.items() if key != name}
        return replace(self, processes=others if process is None else {**others, name: process})


def clusters_folder() -> Path:
    return cache() / "clusters"


def folder_of(name: str) -> Path:
    return clusters_folder() / name


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def load(name: str) -> State | None:
    try:
        content = json.loads((folder_of(name) / "state.json").read_text())
    except FileNotFoundError:
        return None
    processes = {key: Process(**value) for key, value in content.pop("processes").items()}
    return State(**{**content, "extras": tuple(content["extras"]), "processes": processes})


def save(state: State) -> None:
    path = folder_of(state.name) / "state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(state), indent=2))
    os.replace(draft, path)


def remove(state: State) -> None:
    """Deletes the cluster's folder, the state last: a clean-up that is interrupted can be done again."""
    folder = folder_of(state.name)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "state.json":
            path.unlink()
    shutil.rmtree(folder)


def names() -> list[str]:
    return sorted(path.parent.name for path in clusters_folder().glob("*/state.json"))
