from pathlib import Path

import pytest
from melange_command import Solve, solver_in

from motley_operator.cli import main


@pytest.fixture
def solve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Solve:
    return solver_in(tmp_path, main, capsys.readouterr)
