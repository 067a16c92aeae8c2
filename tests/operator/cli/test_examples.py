"""Every example is planned whole."""

import json
from pathlib import Path

import pytest
import yaml

from motley_operator.cli import main

EXAMPLES = sorted(path for path in (Path(__file__).parents[3] / "examples").iterdir() if path.is_dir())


def test_there_are_examples() -> None:
    assert {"quickstart", "three-models", "mixed-fleet"} <= {example.name for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_planned_whole(example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """But for Models whose shape only a cluster can read."""
    documents = [one for file in sorted(example.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())]
    known = [one for one in documents if one["kind"] != "Model" or "shape" in one["spec"]]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(known))
    code = main(["plan", "-o", "json", "-f", str(tmp_path / "all.yaml")])
    out, err = capsys.readouterr()
    assert code == 0, err
    report = json.loads(out)
    assert (report["status"], report["unserved"], report["refused"]) == ("Planned", [], [])
