"""The README's commands run and its resources are valid."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"<!-- (.*?) -->\n```sh\n(.*?)```", TEXT, re.DOTALL)
RESOURCES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def test_every_block_of_commands_says_what_runs_it() -> None:
    assert len(re.findall(r"```sh\n", TEXT)) == len(COMMANDS)
    for said, _ in COMMANDS:
        assert re.match(r"tested: (unit|demo)$|not run: .+", said), said


@pytest.mark.parametrize("command", [command for said, command in COMMANDS if said == "tested: unit"])
def test_a_command_of_the_readme_prints_what_the_readme_shows(command: str) -> None:
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = re.search(re.escape(command) + r"```\n\n```\n(.*?)```", TEXT, re.DOTALL)
    assert shown is not None
    # Which of several equally cheap placements is found may differ; what it costs may not.
    assert done.stdout.splitlines()[0] == shown[1].splitlines()[0]


def test_the_resources_of_the_readme_are_valid_and_planned_together(tmp_path: Path) -> None:
    assert len(RESOURCES) == 4
    shape = "  shape: {layers: 32, hiddenSize: 4096, attentionHeads: 32, kvHeads: 8, headDim: 128, "
    shape += "intermediateSize: 14336, vocabSize: 128256}\n"
    texts = [text.replace("spec:\n  source:", f"spec:\n{shape}  source:") for text in RESOURCES]
    (tmp_path / "all.yaml").write_text("---\n".join(texts))
    done = subprocess.run(
        [ROOT / ".venv/bin/motley", "plan", "-f", tmp_path / "all.yaml"], capture_output=True, text=True
    )
    assert done.returncode in (0, 3), done.stderr
    assert "default/chat" in done.stdout


def test_the_quickstart_that_make_demo_applies_is_planned_but_for_the_model_that_the_demo_inspects() -> None:
    done = subprocess.run(
        [ROOT / ".venv/bin/motley", "plan", "-f", ROOT / "examples/quickstart"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (3, "")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Model ")]
    assert line.startswith("Model default/tiny") and "default/chat" in done.stdout
