"""`motley plan` from the command line: what it prints, where, and how it exits."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from bad_objects import CONDITIONED, MODEL, POOL, REFUSED, Conditioned, changed
from commandline import CHAT, CONFIG, EXAMPLE, FLEET, SHAPE, TABLE, NeverSolves, Ran, written

from motley_operator.cli import main, plan


def test_the_table_says_what_runs_where_what_it_costs_and_what_each_gpu_alone_would_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = Ran(capsys, "plan", "-f", written(tmp_path, EXAMPLE))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(TABLE)


def test_json_holds_the_whole_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Ran(capsys, "plan", "-o", "json", "-f", written(tmp_path, EXAMPLE)).report
    assert report["status"] == "Planned"
    assert report["costPerHour"] == report["lowerBound"] == report["objective"] == 5.07
    assert (report["switchingPerHour"], report["riskPerHour"]) == (0.0, 0.0)
    assert {"Fleet", "Model default/chat", "GPUPool l4", "GPUPool a100"} <= report["inputs"].keys()
    assert report["proven"] is True
    assert [(one["pool"], one["nodes"]) for one in report["pools"]] == [("a100", 1), ("l4", 2)]
    (model,) = report["models"]
    places = [
        (one["pool"], one["gpu"], one["tensorParallel"], one["role"], one["replicas"]) for one in model["allocations"]
    ]
    assert places == [("l4", "L4", 1, "Aggregated", 2), ("a100", "A100-80GB", 1, "Aggregated", 1)]
    short, long = model["assignment"]
    assert {share["pool"]: share["share"] for share in long["shares"]} == {"a100": 1.0}
    assert sum(share["share"] for share in short["shares"]) == pytest.approx(1)
    assert [(one["gpu"], one["costPerHour"]) for one in report["comparisons"]] == [("A100-80GB", 7.34), ("L4", None)]
    assert report["unserved"] == report["refused"] == []
    assert report["solveSeconds"] >= 0


def test_yaml_says_the_same_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, EXAMPLE)
    as_json = Ran(capsys, "plan", "-o", "json", "-f", file).report
    as_yaml = yaml.safe_load(Ran(capsys, "plan", "-o", "yaml", "-f", file).out)
    assert {**as_yaml, "solveSeconds": 0} == {**as_json, "solveSeconds": 0}


def test_objects_may_come_from_many_files_and_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = EXAMPLE.split("---\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(documents[0].encode())))
    first, rest = written(tmp_path, documents[1], "a.yaml"), written(tmp_path, "---\n".join(documents[2:]), "b.yaml")
    ran = Ran(capsys, "plan", "-f", "-", first, "-f", rest)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(TABLE)


def test_every_mistake_is_told_and_nothing_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = written(tmp_path, EXAMPLE)
    bad = written(tmp_path, changed(CHAT, "ttft: 1s", "ttft: 0s"), "bad.yaml")
    torn = written(tmp_path, "a:\n\tb: 1\n", "torn.yaml")
    ran = Ran(capsys, "plan", "-f", good, bad, torn, tmp_path / "none.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        f"{torn}:2: malformed YAML: a tab in the indentation; use spaces",
        f"{tmp_path}/none.yaml: no such file or directory",
        f"{bad}:3: metadata.name: Model default/chat is given twice, first on {good}:47; remove one",
        f"{bad}:8: spec.slo.ttft: must be longer than zero, for example 500ms",
    ]


@pytest.mark.parametrize("case", REFUSED[:8], ids=lambda case: case.name)
def test_bad_input_exits_with_2(case: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "plan", "-f", written(tmp_path, case.text))
    assert (ran.code, ran.out) == (2, "")
    assert case.field in ran.err


def test_of_many_objects_of_other_programs_a_few_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = "".join(f"---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: a{i}}}\n" for i in range(30))
    ran = Ran(capsys, "plan", "-f", written(tmp_path, EXAMPLE + others))
    assert (ran.code, len(ran.err.splitlines())) == (0, 6)
    assert ran.err.splitlines()[-1] == "note: and 25 more objects of other programs were skipped"


def test_files_without_a_model_are_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n")
    ran = Ran(capsys, "plan", "-f", file)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        f"note: {file}:1: skipped Namespace a: not an object of motley.dev",
        f"{file}: no Model in here, so there is nothing to plan",
    ]


@pytest.mark.parametrize("case", CONDITIONED, ids=lambda case: case.name)
def test_what_cannot_be_served_is_said_with_the_reason(
    case: Conditioned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = case.text if "kind: Model" in case.text else f"{case.text}---\n{MODEL}"
    ran = Ran(capsys, "plan", "-o", "json", "-f", written(tmp_path, text))
    assert ran.code == 3
    kind, name = case.about.split(" ")
    unserved = sum(one["rate"] for one in ran.report["unserved"] if one["model"] == name)
    match case.reason:
        case "NotPlanned":
            assert unserved == pytest.approx(0.5)
        case "PartlyPlanned":
            assert 0 < unserved < 0.5
        case "Infeasible":
            assert ran.report["status"] == "Incomplete"
            assert unserved == 0
            assert "minReplicas is" in ran.report["unserved"][0]["reason"]
        case reason:
            refused = [one for one in ran.report["refused"] if (one["kind"], one["name"]) == (kind, name)]
            assert [one["reason"] for one in refused] == [reason]
            assert kind == "GPUPool" or unserved == 0.5


def test_an_unknown_gpu_is_shown_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, f"{EXAMPLE}---\n{changed(POOL, 'gpu: L4', 'gpu: L5').replace('l4', 'l5')}")
    ran = Ran(capsys, "plan", "-f", file)
    assert ran.code == 3
    line = file.read_text().splitlines().index("  gpu: L5") + 1
    said = " ".join(ran.out.split())
    assert f"GPUPool l5 {file}:{line} UnknownGPU spec.gpu: unknown type 'L5'" in said.replace("WHAT TO CHANGE ", "")
    assert "Incomplete: 5.07 per hour" in ran.out  # the others are planned all the same


def test_no_plan_within_the_time_limit_exits_with_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "Solver", NeverSolves)
    ran = Ran(capsys, "plan", "--time-limit", "3", "-f", written(tmp_path, EXAMPLE))
    assert ran.code == 4
    assert ran.out.startswith("Unsolved: no plan was found within 3 s\n")


def test_a_model_without_a_shape_is_read_from_a_local_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "weights" / "config.json"
    config.parent.mkdir()
    model = changed(CHAT.replace(SHAPE, ""), "hf://example/chat-8b", f"file://{config.parent}")
    fleet = changed(FLEET, '{headroom: "0"}', f'{{headroom: "0", allowedHostPaths: ["{tmp_path}"]}}')
    file = written(tmp_path, EXAMPLE.replace(CHAT, model).replace(FLEET, fleet))
    line = file.read_text().splitlines().index("kind: Model") + 3

    ran = Ran(capsys, "plan", "-f", file)
    assert (ran.code, ran.err) == (3, "")
    assert f"{file}:{line} " in ran.out.replace("\n", " ")
    (refused,) = Ran(capsys, "plan", "-o", "json", "-f", file).report["refused"]
    assert (refused["name"], refused["line"]) == ("default/chat", line)
    assert refused["message"] == (
        f"spec.shape is missing and cannot be read here: {config}: no such file or directory; "
        "add it, or let a cluster inspect the model"
    )

    config.write_text(json.dumps(CONFIG))
    assert Ran(capsys, "plan", "-f", file).out.startswith(TABLE)

    config.write_text(json.dumps(CONFIG | {"vocab_size": "many"}))
    (refused,) = Ran(capsys, "plan", "-o", "json", "-f", file).report["refused"]
    assert "config.json: vocab_size is missing or not a positive whole number" in refused["message"]


def test_a_model_on_a_hub_without_a_shape_is_left_out_and_the_others_are_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = CHAT.replace(SHAPE, "").replace("name: chat", "name: other")
    ran = Ran(capsys, "plan", "-o", "json", "-f", written(tmp_path, f"{EXAMPLE}---\n{other}"))
    (refused,) = ran.report["refused"]
    assert (ran.code, refused["name"], refused["reason"]) == (3, "default/other", "InspectionFailed")
    assert "cannot be read here: hf://example/chat-8b is not a local folder" in refused["message"]
    assert [one["model"] for one in ran.report["models"]] == ["default/chat"]


def test_a_shape_that_a_cluster_has_read_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = CHAT.replace(SHAPE, "") + "status:\n" + SHAPE
    ran = Ran(capsys, "plan", "-f", written(tmp_path, EXAMPLE.replace(CHAT, model)))
    assert ran.out.startswith(TABLE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan"], "the following arguments are required: -f/--filename"),
        (["plan", "-f", "x", "-o", "xml"], "invalid choice: 'xml'"),
        (["plan", "-f", "x", "--time-limit", "0"], "must be a number of seconds above 0, for example 20, not '0'"),
        (["plan", "-f", "x", "--time-limit", "nan"], "must be a number of seconds above 0"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_says_what_is_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "called"), [("/usr/bin/motley", "motley"), ("/usr/bin/kubectl-motley", "kubectl motley")]
)
def test_help_shows_examples_under_the_name_that_was_called(
    program: str, called: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(SystemExit) as exit:
        main(["plan", "--help"])
    assert exit.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: {called} plan ")
    assert f"\n  {called} plan -f models.yaml -f pools.yaml " in out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "version")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("motley 0.")


def test_help_loads_neither_the_solver_nor_the_rules_nor_the_models() -> None:
    program = (
        "import sys; from motley_operator.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'pulp', 'celpy', 'pydantic', 'yaml', 'rich'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_standard_output_holds_the_report_alone(tmp_path: Path) -> None:
    """The solver's library writes past Python: only a process of its own shows what really comes out."""
    command = [sys.executable, "-c", "import sys; from motley_operator.cli import main; sys.exit(main())"]
    arguments = ["plan", "-o", "json", "-f", str(written(tmp_path, EXAMPLE))]
    ran = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["costPerHour"] == 5.07


def test_a_terminal_gets_tables_and_progress(tmp_path: Path) -> None:
    program = "import sys; from motley_operator.cli import main, terminal; terminal.PATIENCE = 0; sys.exit(main())"
    terminal, inside = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "plan", "-f", str(written(tmp_path, EXAMPLE))],
        stdout=inside,
        stderr=inside,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "70"},
    )
    os.close(inside)
    shown = b""
    try:
        while part := os.read(terminal, 65536):
            shown += part
    except OSError:  # how a terminal says that the other side is gone
        pass
    os.close(terminal)
    assert process.wait(30) == 0
    text = shown.decode()
    assert "Reading and checking the files" in text or "Looking for the cheapest plan" in text
    assert "Planned: 5.07 per hour" in text
    assert max(len(line) for line in text.split("Planned:")[1].splitlines()) <= 70
    assert "    SLO met (100%, target 95%; Profile ±10%)" in text  # there is no room beside the rest of the row


def test_a_reader_that_leaves_early_is_no_trouble(tmp_path: Path) -> None:
    program = "import sys; from motley_operator.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "plan", "-o", "json", "-f", str(written(tmp_path, EXAMPLE))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 141
    process.stderr.close()
