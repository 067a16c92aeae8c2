"""Whole explanations, held equal to files that a person can read. After a change that is meant:
`GOLDEN=write .venv/bin/python -m pytest tests/operator/cli/test_sentences.py`, and read the difference."""

import os
from pathlib import Path

import pytest
from explained import FLEETS, Explained

from motley_operator.cli.sentences import sections
from motley_solver.check import violations
from motley_solver.explain import explained
from motley_solver.ilp import solve
from motley_solver.plan import Plan

GOLDEN = Path(__file__).parent / "golden"


def said(name: str) -> str:
    fleet = Explained(FLEETS[name]())
    plan = solve(fleet.problem)
    assert isinstance(plan, Plan)
    assert violations(fleet.problem, plan) == ()
    found = explained(fleet.problem, plan, fleet.loosened, 60.0)
    parts = [f"{plan.cost_per_hour:.2f} per hour\n"]
    for title, lines in sections(found, fleet.problem, plan, fleet.slos):
        if lines:
            parts += ["", title.upper(), *lines]
    return "\n".join([*parts[1:], ""]).lstrip("\n")


@pytest.mark.parametrize("name", FLEETS)
def test_an_explanation_says_what_its_golden_file_says(name: str) -> None:
    path, text = GOLDEN / f"{name}.txt", said(name)
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_every_golden_file_has_its_fleet() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == FLEETS.keys()
