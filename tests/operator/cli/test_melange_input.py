"""What `motley solve --melange` says to input that is wrong, and to what it understands all the same."""

import json
import math
from pathlib import Path

import pytest
from melange_command import CONFIG, Config, Solve, changed, gpu

from motley_operator.cli import main


def _without(*path: str) -> Config:
    config = changed()
    inner = config
    for part in path[:-1]:
        inner = inner[part]
    del inner[path[-1]]
    return config


BAD: dict[str, tuple[Config, str]] = {
    "no gpu_info": (_without("gpu_info"), "gpu_info: is missing"),
    "no distribution": (_without("workload_distribution"), "workload_distribution: is missing"),
    "no rate": (_without("total_request_rate"), "total_request_rate: is missing"),
    "no cost": (_without("gpu_info", "L4", "cost"), "gpu_info.L4.cost: is missing"),
    "no tputs": (_without("gpu_info", "L4", "tputs"), "gpu_info.L4.tputs: is missing"),
    "no types": (changed(gpu_info={}), "gpu_info: must hold at least one GPU type"),
    "types as a list": (changed(gpu_info=[]), "gpu_info: must be an object, not a list"),
    "a type as a number": (changed(gpu_info={"L4": 3}), "gpu_info.L4: must be an object, not a number"),
    "a cost in words": (gpu("L4", cost="0.7"), "gpu_info.L4.cost: must be a number, not text"),
    "a true cost": (gpu("L4", cost=True), "gpu_info.L4.cost: must be a number, not true"),
    "no cost at all": (gpu("L4", cost=None), "gpu_info.L4.cost: must be a number, not null"),
    "a negative cost": (gpu("L4", cost=-0.7), "gpu_info.L4.cost: must not be negative"),
    "a cost without end": (gpu("L4", cost=math.inf), "gpu_info.L4.cost: must be a finite number, not inf"),
    "a huge cost": (gpu("L4", cost=10**400), "gpu_info.L4.cost: must not be above 1e+12"),
    "a cost that is none": (gpu("L4", cost=math.nan), "gpu_info.L4.cost: must be a finite number, not nan"),
    "half an instance": (gpu("L4", max=1.5), "gpu_info.L4.max: must be a whole number, not 1.5"),
    "instances in words": (gpu("L4", max="3"), "gpu_info.L4.max: must be a number, not text"),
    "fewer than no instance": (gpu("L4", max=-1), "gpu_info.L4.max: must not be negative"),
    "too few rows": (gpu("L4", tputs=[[1, 1]]), "gpu_info.L4.tputs: is 1 by 2, workload_distribution is 2 by 2"),
    "ragged rows": (gpu("L4", tputs=[[1, 1], [1]]), "gpu_info.L4.tputs[1]: has 1 numbers, the first row has 2"),
    "a flat table": (gpu("L4", tputs=[1, 2]), "gpu_info.L4.tputs[0]: must be a list of numbers, not a number"),
    "an empty table": (gpu("L4", tputs=[]), "gpu_info.L4.tputs: must be a list of lists of numbers, not an empty one"),
    "a cell in words": (gpu("L4", tputs=[[1, "x"], [1, 1]]), "gpu_info.L4.tputs[0][1]: must be a number, not text"),
    "a cell below zero": (gpu("A100", tputs=[[1, 1], [-1, 1]]), "gpu_info.A100.tputs[1][0]: must not be negative"),
    "a cell that is none": (gpu("L4", tputs=[[1, 1], [1, math.nan]]), "gpu_info.L4.tputs[1][1]: must be a finite"),
    "shares below zero": (
        changed(workload_distribution=[[1.5, -0.5], [0, 0]]),
        "workload_distribution[0][1]: must not be negative",
    ),
    "no shares": (
        changed(workload_distribution=[[0, 0], [0, 0]]),
        "workload_distribution: at least one share must be above 0",
    ),
    "empty rows": (changed(workload_distribution=[[], []]), "workload_distribution[0]: must be a list"),
    "a rate in words": (changed(total_request_rate="12"), "total_request_rate: must be a number, not text"),
    "a negative rate": (changed(total_request_rate=-1), "total_request_rate: must not be negative"),
    "a huge rate": (changed(total_request_rate=1e300), "total_request_rate: must not be above 1e+12"),
    "a list of rates": (changed(total_request_rate=[1]), "total_request_rate: must be a number, not a list"),
    "headroom below zero": (changed(headroom=-0.1), "headroom: must not be negative"),
    "headroom in words": (changed(headroom="10%"), "headroom: must be a number, not text"),
    "half a slice": (changed(slice_factor=0.5), "slice_factor: must be a whole number, not 0.5"),
    "a name on two lines": (changed(gpu_info={"a\nb": {}}), 'gpu_info."a\\nb".tputs: is missing'),
}


def assert_refused(solve: Solve, given: Config | bytes, message: str) -> None:
    ran = solve(given)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"FILE: {message}")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_the_key(case: str, solve: Solve) -> None:
    assert_refused(solve, *BAD[case])


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "blank": (b"\n  \n", "empty"),
    "not UTF-8": (b'{"gpu_info": "\xff"}', "not UTF-8: byte 14 is 0xff"),
    "UTF-16": ("{}".encode("utf-16"), "not UTF-8: byte 0 is 0xff"),
    "cut off": (b'{"gpu_info": {', "not JSON: line 1, column 15: Expecting property name"),
    "a list": (b"[]", "must be a JSON object, not a list"),
    "null": (b"null", "must be a JSON object, not null"),
    "two objects": (b"{} {}", "not JSON: line 1, column 4: Extra data"),
    "a key twice": (b'{"gpu_info": {"L4": {"cost": 1, "cost": 2}}}', "cost: given twice"),
    "deep": (b"[" * 100_000, "nested too deeply"),
    "a number that is none": (b'{"gpu_info": NaN}', "gpu_info: must be an object, not a number"),
    "beyond all numbers": (
        json.dumps(changed()).replace("12", "1e400").encode(),
        "total_request_rate: must be a finite number, not inf",
    ),
    "32 MiB and more": (b" " * (32 * 2**20 + 1), "larger than 32 MiB"),
    "long digits": (b'{"total_request_rate": ' + b"1" * 5000 + b"}", "holds a number of more digits"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_hold_no_json_object_are_bad_input(case: str, solve: Solve) -> None:
    assert_refused(solve, *FILES[case])


@pytest.mark.parametrize(("name", "message"), [(".", "is a directory"), ("none.json", "no such file or directory")])
def test_what_is_no_file_is_bad_input(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", "--melange", str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"{tmp_path / name}: {message}\n")


# --- understood all the same ---


def test_a_distribution_that_does_not_sum_to_one_is_divided_by_its_sum_with_a_warning(
    solve: Solve,
) -> None:
    ran = solve(changed(workload_distribution=[[4, 3], [2, 1]]))
    assert ran.code == 0
    assert ran.err == "warning: workload_distribution: adds up to 10; divided by that\n"
    assert ran.answer["cost"] == pytest.approx(solve(CONFIG).answer["cost"])


def test_rounding_in_the_distribution_is_no_cause_for_a_warning(solve: Solve) -> None:
    config = changed(workload_distribution=[[1 / 3, 1 / 3], [1 / 3 + 1e-9, 0]])
    ran = solve(config)
    assert (ran.code, ran.err) == (0, "")
    assert ran.broken == []


def test_an_unknown_key_is_told_and_ignored(solve: Solve) -> None:
    config = changed(headrom=0.2)
    config["gpu_info"]["L4"]["vram"] = 24
    ran = solve(config)
    assert ran.code == 0
    assert ran.err.splitlines() == [
        "warning: headrom: unknown key, ignored; did you mean headroom?",
        "warning: gpu_info.L4.vram: unknown key, ignored",
    ]


@pytest.mark.parametrize("optional", ["slice_factor", "headroom"])
def test_optional_keys_may_be_null_or_absent(optional: str, solve: Solve) -> None:
    config = changed(**{optional: None})
    config["gpu_info"]["L4"]["max"] = None
    assert solve(config).code == 0
    del config[optional]
    assert solve(config).code == 0


def test_a_byte_order_mark_is_no_trouble(solve: Solve) -> None:
    assert solve(b"\xef\xbb\xbf" + json.dumps(CONFIG).encode()).code == 0
