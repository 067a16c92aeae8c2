"""Traps of the layout: folders that look like packages, modules named after Python's own, imports across the rooms."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {"operator": "motley_operator", "solver": "motley_solver", "worker": "motley_worker"}
PACKAGES = [ROOT / room / package for room, package in ROOMS.items()]


def run(*command: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env={**clean, **environ}, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("room", [*ROOMS, "tests"])
def test_a_room_is_no_package(room: str) -> None:
    """`operator/__init__.py` would hide Python's own `operator`; one under tests/ breaks pytest."""
    folder = ROOT / room
    found = folder.rglob("__init__.py") if room == "tests" else folder.glob("__init__.py")
    assert [str(path.relative_to(ROOT)) for path in found] == []


def test_pythons_own_operator_is_found_from_the_checkout() -> None:
    code = "import operator, collections, sys; print(operator.__file__); assert operator.eq(1, 1)"
    for flags in ([], ["-S"]):
        done = run(sys.executable, *flags, "-c", code, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert not done.stdout.startswith(str(ROOT / "operator"))


def test_no_top_level_module_is_named_after_pythons_own() -> None:
    own = {path.stem for room in ROOMS for path in (ROOT / room).iterdir()} - set(ROOMS.values())
    assert not own & sys.stdlib_module_names


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_package_is_one_and_says_that_it_is_typed(package: Path) -> None:
    assert (package / "__init__.py").exists() and (package / "py.typed").exists()
    for folder in {path.parent for path in package.rglob("*.py")}:
        assert (folder / "__init__.py").exists(), f"{folder} would be left out of the wheel"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_module_says_what_it_is_for(package: Path) -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in package.rglob("*.py")
        if path.read_text().strip() and not path.read_text().lstrip().startswith('"""')
    ]
    assert silent == []


def test_the_contract_modules_of_the_worker_need_no_engine() -> None:
    """The operator's tests and the router's image read them without torch."""
    modules = "motley_worker.config, motley_worker.arguments, motley_worker.router.app"
    code = f"import sys, {modules}; print(sorted({{'torch', 'vllm', 'transformers'}} & set(sys.modules)))"
    done = run(sys.executable, "-c", code, cwd=ROOT / "tests")
    assert done.stdout == "[]\n", done.stderr


# A contract that nothing can break holds nothing: (module, import, the contract that must break)
FORBIDDEN = (
    ("solver/motley_solver/hardware.py", "import kubernetes", "The solver knows numbers only"),
    ("operator/motley_operator/settings.py", "import motley_worker.config", "The operator imports neither"),
    ("worker/motley_worker/config.py", "import motley_solver.ilp", "A worker imports neither operator nor planner"),
    ("operator/motley_operator/fleet.py", "import motley_operator.planning", "Layers of the operator"),
    ("operator/motley_operator/status.py", "import pulp", "Only ilp imports pulp"),
    ("operator/motley_operator/rollout.py", "import motley_operator.kube", "there is no client"),
    ("operator/motley_operator/triggers.py", "import random", "no clock, chance or log"),
    ("operator/motley_operator/lease.py", "import kubernetes.client", "Only kube and router.watch"),
    ("operator/motley_operator/reconcile.py", "import kopf", "Only handlers imports kopf"),
    ("operator/motley_operator/batch.py", "import httpx", "Only traffic imports httpx"),
    ("worker/motley_worker/router/app.py", "import motley_worker.sources", "The router has no engine"),
)


def test_forbidden_imports_are_found(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for room, package in ROOMS.items():
        shutil.copytree(ROOT / room / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path, line, _ in FORBIDDEN:
        module = tmp_path / Path(path).relative_to(Path(path).parts[0])
        module.write_text(f"{module.read_text()}\n{line}  # a mistake\n")
    command = Path(sys.executable).parent / "lint-imports"
    done = run(str(command), "--no-cache", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    for _, line, contract in FORBIDDEN:
        assert any(contract in part.split(" KEPT")[-1] for part in said.split(" BROKEN")[:-1]), f"{line}: {done.stdout}"
