"""Several pods on one cache, and pods that are killed: each pod is a process of its own here."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_hub import FakeHub
from loopback import Fault

WORK = "import sys, pathlib, motley_worker.sources as s; print(s.fetch(sys.argv[1], None, pathlib.Path(sys.argv[2])))"
WEIGHTS = os.urandom(1 << 20)


def pod(cache: Path) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-c",
        "import logging; logging.basicConfig(level=20);" + WORK,
        "hf://org/tiny",
        str(cache),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def filled(hub: FakeHub) -> FakeHub:
    hub.repositories["org/tiny"] = {"config.json": b"{}", "model.safetensors": WEIGHTS}
    return hub


def weights(output: str) -> bytes:
    return (Path(output.strip()) / "model.safetensors").read_bytes()


def test_pods_that_share_a_cache_download_once(filled: FakeHub, cache: Path) -> None:
    gate = threading.Event()
    filled.faults.append(Fault("/model.safetensors", stall=gate))
    pods = [pod(cache) for _ in range(3)]
    assert filled.answered_half.wait(30)
    waiting = [p for p in pods if _says(p, "waiting for another pod")]
    assert len(waiting) == 2
    gate.set()
    outputs = [p.communicate(timeout=60)[0] for p in pods]
    assert [p.returncode for p in pods] == [0, 0, 0]
    assert {weights(output) for output in outputs} == {WEIGHTS}
    assert len(filled.asked("GET", "model.safetensors")) == 1


def _says(process: "subprocess.Popen[str]", words: str) -> bool:
    """Reads its log until it either waits or downloads."""
    assert process.stderr is not None
    return next(words in line for line in process.stderr if words in line or "downloading" in line)


def test_a_killed_pods_download_is_finished_by_the_next(
    filled: FakeHub, cache: Path, wait_for: Callable[..., None]
) -> None:
    filled.repositories["org/tiny"]["more.safetensors"] = WEIGHTS
    gate = threading.Event()
    filled.faults.append(Fault("/model.safetensors", stall=gate))
    first = pod(cache)
    assert filled.answered_half.wait(30)
    wait_for(lambda: list(cache.rglob("*.partial/more.safetensors")), "the other file")
    first.kill()
    first.communicate()
    filled.faults.clear()
    gate.set()
    second = pod(cache)
    output, log = second.communicate(timeout=60)
    assert second.returncode == 0, log
    assert weights(output) == WEIGHTS
    assert len(filled.asked("GET", "more.safetensors")) == 1
    assert len(filled.asked("GET", "model.safetensors")) == 2
