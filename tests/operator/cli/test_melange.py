"""`motley solve --melange`: the answer of Mélange's solver, exactly, and what it says to input that is wrong."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from melange_answers import contradictions

from motley_operator.cli import main, melange
from motley_solver.plan import Unsolved

Config = dict[str, Any]

# An L4 is the cheaper way to serve short requests, and cannot serve the longest at all.
CONFIG: Config = {
    "gpu_info": {
        "L4": {"cost": 0.7, "tputs": [[2.0, 1.0], [1.0, 0.0]]},
        "A100": {"cost": 3.67, "tputs": [[9.0, 5.0], [6.0, 2.5]]},
    },
    "workload_distribution": [[0.4, 0.3], [0.2, 0.1]],
    "total_request_rate": 12,
    "slice_factor": 4,
}
MOTLEY = [sys.executable, "-c", "import sys; from motley_operator.cli import main; sys.exit(main())"]


def changed(**changes: Any) -> Config:
    return {**json.loads(json.dumps(CONFIG)), **changes}


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


class Run(Protocol):
    def __call__(self, config: Config | bytes, *options: str) -> Ran: ...


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process; a file's name is shown as FILE."""
    file = tmp_path / "config.json"

    def ran(config: Config | bytes, *options: str) -> Ran:
        file.write_bytes(json.dumps(config).encode() if isinstance(config, dict) else config)
        code = main(["solve", "--melange", str(file), *(options or ("-o", "json"))])
        out, err = capsys.readouterr()
        return Ran(code, out, err.replace(str(file), "FILE"))

    return ran


def broken(config: Config, answer: dict[str, Any]) -> list[str]:
    return list(contradictions(config, answer))


def test_the_answer_holds_counts_cost_bound_and_who_serves_which_bucket(run: Run) -> None:
    ran = run(CONFIG)
    assert (ran.code, ran.err) == (0, "")
    keys = ["status", "cost", "lower_bound", "counts", "assignment", "reason", "solve_seconds"]
    assert list(ran.answer) == keys
    assert ran.answer["status"] == "optimal"
    assert ran.answer["counts"] == {"L4": 6, "A100": 1}
    assert ran.answer["cost"] == pytest.approx(6 * 0.7 + 3.67)
    assert ran.answer["lower_bound"] == pytest.approx(ran.answer["cost"])
    assert {"bucket": [1, 1], "gpu": "A100", "share": 1.0} in ran.answer["assignment"]
    assert broken(CONFIG, ran.answer) == []


def test_the_table_is_for_people(run: Run) -> None:
    ran = run(CONFIG, "-o", "table")
    assert ran.code == 0
    assert ran.out.startswith(
        "optimal: 7.87 per hour (lower bound 7.87)\n\nGPU    INSTANCES   COST/H\nL4             6      4.2\n"
    )
    assert "[1, 1]          1.2          100%" in ran.out


def test_standard_output_is_one_json_object_even_where_the_library_prints(tmp_path: Path) -> None:
    """Only a process of its own shows what really comes out; C's buffer is written when it ends."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    noisy = (
        "import ctypes, sys; from motley_operator.cli import main, melange\n"
        "solve = melange.solve\n"
        "def solved(*given):\n    ctypes.CDLL(None).puts(b'stray line'); return solve(*given)\n"
        "melange.solve = solved; sys.exit(main())"
    )
    command = [sys.executable, "-c", noisy, "solve", "--melange", str(file), "-o", "json"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["status"] == "optimal"
    assert ran.stderr == "stray line\n"


def test_max_caps_instances(run: Run) -> None:
    config = changed()
    config["gpu_info"]["L4"]["max"] = 2
    answer = run(config).answer
    assert answer["counts"] == {"L4": 1, "A100": 2}  # without a cap 6 and 1
    assert broken(config, answer) == []


def test_headroom_counts_like_more_load(run: Run) -> None:
    config = changed(headroom=0.5)
    answer = run(config).answer
    assert answer["cost"] == pytest.approx(run(changed(total_request_rate=18)).answer["cost"])
    assert broken(config, answer) == []


def test_no_traffic_costs_nothing(run: Run) -> None:
    ran = run(changed(total_request_rate=0))
    assert ran.code == 0
    assert (ran.answer["status"], ran.answer["cost"], ran.answer["counts"]) == ("optimal", 0.0, {"L4": 0, "A100": 0})
    assert ran.answer["assignment"] == []


def test_a_distribution_that_does_not_sum_to_one_is_divided_by_its_sum_with_a_warning(
    run: Run,
) -> None:
    ran = run(changed(workload_distribution=[[4, 3], [2, 1]]))
    assert ran.code == 0
    assert ran.err == "warning: workload_distribution: adds up to 10; divided by that\n"
    assert ran.answer["cost"] == pytest.approx(run(CONFIG).answer["cost"])


def test_rounding_in_the_distribution_is_no_cause_for_a_warning(run: Run) -> None:
    config = changed(workload_distribution=[[1 / 3, 1 / 3], [1 / 3 + 1e-9, 0]])
    ran = run(config)
    assert (ran.code, ran.err) == (0, "")
    assert broken(config, ran.answer) == []


def test_an_unknown_key_is_told_and_ignored(run: Run) -> None:
    config = changed(headrom=0.2)
    config["gpu_info"]["L4"]["vram"] = 24
    ran = run(config)
    assert ran.code == 0
    assert ran.err.splitlines() == [
        "warning: headrom: unknown key, ignored; did you mean headroom?",
        "warning: gpu_info.L4.vram: unknown key, ignored",
    ]


@pytest.mark.parametrize("optional", ["slice_factor", "headroom"])
def test_optional_keys_may_be_null_or_absent(optional: str, run: Run) -> None:
    config = changed(**{optional: None})
    config["gpu_info"]["L4"]["max"] = None
    assert run(config).code == 0
    del config[optional]
    assert run(config).code == 0


def test_a_byte_order_mark_is_no_trouble(run: Run) -> None:
    assert run(b"\xef\xbb\xbf" + json.dumps(CONFIG).encode()).code == 0


# --- what cannot be served ---


def test_a_bucket_that_no_type_serves_is_named(run: Run) -> None:
    config = changed()
    config["gpu_info"]["A100"]["tputs"][1][1] = 0
    ran = run(config)
    assert (ran.code, ran.err) == (3, "")
    assert (ran.answer["status"], ran.answer["cost"], ran.answer["lower_bound"]) == ("infeasible", None, None)
    assert ran.answer["reason"] == "no GPU type serves bucket [1, 1]: its tputs are 0 everywhere"


def test_a_bucket_without_traffic_needs_nobody(run: Run) -> None:
    config = changed(workload_distribution=[[0.5, 0.3], [0.2, 0]])
    config["gpu_info"]["A100"]["tputs"][1][1] = 0
    ran = run(config)
    assert ran.code == 0
    assert broken(config, ran.answer) == []


def test_a_bucket_whose_only_type_is_capped_at_none_is_named(run: Run) -> None:
    config = changed()
    config["gpu_info"]["A100"]["max"] = 0
    ran = run(config)
    assert ran.code == 3
    assert ran.answer["reason"] == "only A100 may serve bucket [1, 1], and max is 0"


def test_caps_that_are_too_small_are_named_with_what_is_left(run: Run) -> None:
    config = changed()
    config["gpu_info"]["L4"]["max"], config["gpu_info"]["A100"]["max"] = 5, 1
    config["gpu_info"]["T4"] = {"cost": 0.5, "tputs": [[0.1, 0.0], [0.0, 0.0]], "max": 1}
    ran = run(config)
    assert ran.code == 3
    assert ran.answer["status"] == "infeasible"
    assert ran.answer["reason"].startswith("the caps (max: ")
    assert "A100 1" in ran.answer["reason"] and "requests/s of bucket" in ran.answer["reason"]
    assert run(config, "-o", "table").out.startswith("infeasible: the caps (max: ")


def test_caps_that_are_far_too_small_are_seen_without_solving(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(melange, "solve")
    config = changed(total_request_rate=1e9)
    config["gpu_info"]["A100"]["max"] = 3
    ran = run(config)
    assert ran.code == 3
    assert ran.answer["reason"] == "the caps (max: A100 3) are too small for bucket [1, 1]"


def test_what_costs_nothing_is_used_first(run: Run) -> None:
    config = changed()
    config["gpu_info"]["A100"]["cost"] = 0
    ran = run(config)
    assert (ran.answer["cost"], ran.answer["counts"]["L4"]) == (0.0, 0)
    assert broken(config, ran.answer) == []


def test_a_type_too_dear_to_be_used_does_not_blur_the_others(run: Run) -> None:
    config = changed()
    config["gpu_info"]["gold"] = {"cost": 1e9, "tputs": [[9, 5], [6, 2.5]]}
    answer = run(config).answer
    assert answer["counts"] == {"L4": 6, "A100": 1, "gold": 0}
    assert answer["lower_bound"] == pytest.approx(answer["cost"], rel=1e-9)


def test_a_throughput_next_to_nothing_serves_nothing_and_gives_no_absurd_count(
    run: Run,
) -> None:
    config = changed()
    config["gpu_info"]["A100"]["tputs"][1][1] = 5e-324
    ran = run(config)
    assert ran.code == 3
    assert ran.answer["reason"] == "no GPU type serves bucket [1, 1] with 1e+12 instances or fewer"


def test_nothing_found_in_time_exits_with_4(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(melange, "solve", lambda *_: Unsolved("no plan was found within 3 s"))
    ran = run(CONFIG, "-o", "json", "--time-limit", "3")
    assert ran.code == 4
    assert (ran.answer["status"], ran.answer["reason"]) == ("unsolved", "no plan was found within 3 s")


def test_the_time_limit_is_passed_on_and_absent_there_is_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def solve(problem: object, limit: float, gap: float) -> Unsolved:
        limits.append(limit)
        assert gap == 1e-6
        return Unsolved("nothing")

    monkeypatch.setattr(melange, "solve", solve)
    run(CONFIG, "--time-limit", "3")
    run(CONFIG)
    assert limits == [3.0, melange.NO_LIMIT]


# --- bad input ---


def _gpu(name: str, **changes: Any) -> Callable[[], Config]:
    def made() -> Config:
        config = changed()
        config["gpu_info"][name].update(changes)
        return config

    return made


def _without(*path: str) -> Callable[[], Config]:
    def made() -> Config:
        config = changed()
        inner = config
        for part in path[:-1]:
            inner = inner[part]
        del inner[path[-1]]
        return config

    return made


BAD: dict[str, tuple[Callable[[], Config], str]] = {
    "no gpu_info": (_without("gpu_info"), "gpu_info: is missing"),
    "no distribution": (_without("workload_distribution"), "workload_distribution: is missing"),
    "no rate": (_without("total_request_rate"), "total_request_rate: is missing"),
    "no cost": (_without("gpu_info", "L4", "cost"), "gpu_info.L4.cost: is missing"),
    "no tputs": (_without("gpu_info", "L4", "tputs"), "gpu_info.L4.tputs: is missing"),
    "no types": (lambda: changed(gpu_info={}), "gpu_info: must hold at least one GPU type"),
    "types as a list": (lambda: changed(gpu_info=[]), "gpu_info: must be an object, not a list"),
    "a type as a number": (lambda: changed(gpu_info={"L4": 3}), "gpu_info.L4: must be an object, not a number"),
    "a cost in words": (_gpu("L4", cost="0.7"), "gpu_info.L4.cost: must be a number, not text"),
    "a true cost": (_gpu("L4", cost=True), "gpu_info.L4.cost: must be a number, not true"),
    "no cost at all": (_gpu("L4", cost=None), "gpu_info.L4.cost: must be a number, not null"),
    "a negative cost": (_gpu("L4", cost=-0.7), "gpu_info.L4.cost: must not be negative"),
    "a cost without end": (_gpu("L4", cost=math.inf), "gpu_info.L4.cost: must be a finite number, not inf"),
    "a huge cost": (_gpu("L4", cost=10**400), "gpu_info.L4.cost: must not be above 1e+12"),
    "a cost that is none": (_gpu("L4", cost=math.nan), "gpu_info.L4.cost: must be a finite number, not nan"),
    "half an instance": (_gpu("L4", max=1.5), "gpu_info.L4.max: must be a whole number, not 1.5"),
    "instances in words": (_gpu("L4", max="3"), "gpu_info.L4.max: must be a number, not text"),
    "fewer than no instance": (_gpu("L4", max=-1), "gpu_info.L4.max: must not be negative"),
    "too few rows": (_gpu("L4", tputs=[[1, 1]]), "gpu_info.L4.tputs: is 1 by 2, workload_distribution is 2 by 2"),
    "ragged rows": (_gpu("L4", tputs=[[1, 1], [1]]), "gpu_info.L4.tputs[1]: has 1 numbers, the first row has 2"),
    "a flat table": (_gpu("L4", tputs=[1, 2]), "gpu_info.L4.tputs[0]: must be a list of numbers, not a number"),
    "an empty table": (_gpu("L4", tputs=[]), "gpu_info.L4.tputs: must be a list of lists of numbers, not an empty one"),
    "a cell in words": (_gpu("L4", tputs=[[1, "x"], [1, 1]]), "gpu_info.L4.tputs[0][1]: must be a number, not text"),
    "a cell below zero": (_gpu("A100", tputs=[[1, 1], [-1, 1]]), "gpu_info.A100.tputs[1][0]: must not be negative"),
    "a cell that is none": (_gpu("L4", tputs=[[1, 1], [1, math.nan]]), "gpu_info.L4.tputs[1][1]: must be a finite"),
    "shares below zero": (
        lambda: changed(workload_distribution=[[1.5, -0.5], [0, 0]]),
        "workload_distribution[0][1]: must not be negative",
    ),
    "no shares": (
        lambda: changed(workload_distribution=[[0, 0], [0, 0]]),
        "workload_distribution: at least one share must be above 0",
    ),
    "empty rows": (lambda: changed(workload_distribution=[[], []]), "workload_distribution[0]: must be a list"),
    "a rate in words": (lambda: changed(total_request_rate="12"), "total_request_rate: must be a number, not text"),
    "a negative rate": (lambda: changed(total_request_rate=-1), "total_request_rate: must not be negative"),
    "a huge rate": (lambda: changed(total_request_rate=1e300), "total_request_rate: must not be above 1e+12"),
    "a list of rates": (lambda: changed(total_request_rate=[1]), "total_request_rate: must be a number, not a list"),
    "headroom below zero": (lambda: changed(headroom=-0.1), "headroom: must not be negative"),
    "headroom in words": (lambda: changed(headroom="10%"), "headroom: must be a number, not text"),
    "half a slice": (lambda: changed(slice_factor=0.5), "slice_factor: must be a whole number, not 0.5"),
    "a name on two lines": (lambda: changed(gpu_info={"a\nb": {}}), 'gpu_info."a\\nb".tputs: is missing'),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_the_key(case: str, run: Run) -> None:
    config, message = BAD[case]
    ran = run(config())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"FILE: {message}")
    assert len(ran.err.splitlines()) == 1


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
    "long digits": (b'{"total_request_rate": ' + b"1" * 5000 + b"}", "holds a number of more digits"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_hold_no_json_object_are_bad_input(case: str, run: Run) -> None:
    data, message = FILES[case]
    ran = run(data)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"FILE: {message}")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(("name", "message"), [(".", "is a directory"), ("none.json", "no such file or directory")])
def test_what_is_no_file_is_bad_input(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", "--melange", str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"{tmp_path / name}: {message}\n")


def test_standard_input_is_read_and_a_foreign_terminal_gets_no_traceback() -> None:
    config = changed()
    config["gpu_info"]["\ud800"] = {"cost": 0.01, "tputs": [[50, 50], [50, 50]]}  # no UTF-8 can hold this name
    for output in ("json", "table"):
        ran = subprocess.run(
            [*MOTLEY, "solve", "--melange", "-", "-o", output],
            input=json.dumps(config).encode(),
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        assert (ran.returncode, ran.stderr) == (0, b"")


# --- no cliffs ---


def _instance(**changes: Any) -> Config:
    tputs = [[8.0, 4.0, 2.0], [5.0, 2.5, 1.2], [2.0, 1.0, 0.5]]
    gpus = {name: {"cost": cost, "tputs": tputs} for name, cost in (("a", 1.0), ("b", 1.0), ("c", 1.0))}
    return {
        "gpu_info": gpus,
        "workload_distribution": [[1 / 9] * 3] * 3,
        "total_request_rate": 10.0,
        **changes,
    }


def _scaled(factor: float) -> Config:
    config = _instance()
    first = config["gpu_info"]["a"]["tputs"]
    config["gpu_info"]["b"]["tputs"] = [[cell * factor for cell in row] for row in first]
    config["gpu_info"]["b"]["cost"] = factor * 0.9
    return config


CLIFFS: dict[str, tuple[Config, float | None]] = {
    "equal types at equal prices": (_instance(), 7.0),
    "a rate next to nothing": (_instance(total_request_rate=1e-6), 1.0),
    "a huge rate": (_instance(total_request_rate=1e6), 645_371.0),
    "throughputs over six orders of magnitude": (_scaled(1e-6), None),
    "throughputs over six orders of magnitude upwards": (_scaled(1e6), None),
    "instances without number": (_scaled(1e-6) | {"total_request_rate": 1e6}, None),
    "a rate beyond all sense": (_instance(total_request_rate=1e12), 645_370_370_371.0),
}


@pytest.mark.parametrize("case", CLIFFS)
def test_there_are_no_cliffs(case: str, run: Run) -> None:
    config, cost = CLIFFS[case]
    ran = run(config)
    assert (ran.code, ran.err) == (0, "")
    assert ran.answer["status"] == "optimal"
    assert broken(config, ran.answer) == []
    assert ran.answer["lower_bound"] >= ran.answer["cost"] * (1 - 1e-6)
    if cost is not None:
        assert ran.answer["cost"] == pytest.approx(cost)


def test_a_question_is_asked_in_time_that_grows_with_the_table_and_not_with_its_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    real = melange._instances

    def counted(*given: Any) -> float:
        nonlocal calls
        calls += 1
        return real(*given)

    monkeypatch.setattr(melange, "_instances", counted)
    gpus = {f"g{k}": {"cost": 1.0 + k, "max": 50, "tputs": [[1.0 + k] * 12] * 12} for k in range(6)}
    config = {"gpu_info": gpus, "workload_distribution": [[1 / 144] * 12] * 12, "total_request_rate": 9.0}
    melange.problem_of(melange.parsed(config))
    assert calls <= 10 * 144 * 6
