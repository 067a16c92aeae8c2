"""`motley solve --melange`: the cheapest mix, exactly; where time is short, a good one; or why there is none."""

import json
import os
import subprocess
import sys
from math import inf
from random import Random
from typing import Any

import pytest
from melange_answers import cheapest_of_two
from melange_command import CONFIG, Config, Solve, changed, gpu, of_work

from motley_operator.cli.melange import answer as answers
from motley_solver.plan import Unsolved

MOTLEY = [sys.executable, "-c", "import sys; from motley_operator.cli import main; sys.exit(main())"]


def test_the_answer_holds_counts_cost_bound_and_who_serves_which_bucket(solve: Solve) -> None:
    ran = solve(CONFIG)
    assert (ran.code, ran.err) == (0, "")
    keys = ["status", "cost", "lower_bound", "counts", "assignment", "reason", "solve_seconds"]
    assert list(ran.answer) == keys
    assert ran.answer["status"] == "optimal"
    assert ran.answer["counts"] == {"L4": 6, "A100": 1}
    assert ran.answer["cost"] == pytest.approx(6 * 0.7 + 3.67)
    assert ran.answer["lower_bound"] == pytest.approx(ran.answer["cost"])
    assert {"bucket": [1, 1], "gpu": "A100", "share": 1.0} in ran.answer["assignment"]
    assert ran.broken == []


def test_the_table_is_for_people(solve: Solve) -> None:
    ran = solve(CONFIG, "-o", "table")
    assert ran.code == 0
    assert ran.out.startswith(
        "optimal: 7.87 per hour (lower bound 7.87)\n\nGPU    INSTANCES   COST/H\nL4             6      4.2\n"
    )
    assert "[1, 1]          1.2          100%" in ran.out


def test_max_caps_instances(solve: Solve) -> None:
    ran = solve(gpu("L4", max=2))
    assert ran.answer["counts"] == {"L4": 1, "A100": 2}  # without a cap 6 and 1
    assert ran.broken == []


def test_a_max_beyond_all_use_is_none(solve: Solve) -> None:
    assert solve(gpu("L4", max=2**63 - 1)).answer["counts"] == solve(CONFIG).answer["counts"]


def test_headroom_counts_like_more_load(solve: Solve) -> None:
    ran = solve(changed(headroom=0.5))
    assert ran.answer["cost"] == pytest.approx(solve(changed(total_request_rate=18)).answer["cost"])
    assert ran.broken == []


def test_no_traffic_costs_nothing(solve: Solve) -> None:
    ran = solve(changed(total_request_rate=0))
    assert ran.code == 0
    assert (ran.answer["status"], ran.answer["cost"], ran.answer["counts"]) == ("optimal", 0.0, {"L4": 0, "A100": 0})
    assert ran.answer["assignment"] == []


def test_what_costs_nothing_is_used_first(solve: Solve) -> None:
    ran = solve(gpu("A100", cost=0))
    assert (ran.answer["cost"], ran.answer["counts"]["L4"]) == (0.0, 0)
    assert ran.broken == []


def test_a_type_may_have_any_name(solve: Solve) -> None:
    config = changed()
    config["gpu_info"] = dict(zip(("", "\n"), config["gpu_info"].values(), strict=True))
    ran = solve(config)
    assert ran.answer["counts"] == {"": 6, "\n": 1}
    assert ran.broken == []


# --- exactness ---


@pytest.mark.parametrize("seed", range(40))
def test_two_types_cost_what_exact_arithmetic_says(seed: int, solve: Solve) -> None:
    random = Random(seed)
    orders = (0.3, 1, 3)[seed % 3]
    tputs = [[0 if random.random() < 0.1 else 10 ** random.uniform(-orders, orders) for _ in range(5)] for _ in "ab"]
    gpus = {k: {"cost": random.choice([1, 2, random.random() * 9]), "tputs": [tputs[k == "b"]]} for k in "ab"}
    if seed % 4 == 0:
        gpus["a"]["max"] = random.randint(0, 5)
    config = {"gpu_info": gpus, "workload_distribution": [[0.2] * 5], "total_request_rate": random.choice([0.01, 1, 4])}
    ran, cost = solve(config), cheapest_of_two(config)
    if cost == inf:
        assert ran.code == 3
    else:
        assert ran.answer["cost"] == pytest.approx(float(cost), rel=1e-6)
        assert ran.broken == []


# At a tolerance of 1e-9, or with coefficients as wide as these loads, HiGHS 1.15.1 proves something dearer.
ASTRAY: dict[str, tuple[Config, float]] = {
    "next to nothing fits": (of_work([[5456.66, 138885, 0.00022, 4834.71], [0.187, 3.468, 0.829, 0.721]], [2, 1]), 6.0),
    "small loads": (
        of_work(
            [
                [63.969059020701096, 1.5886945276639284e-06, 0.05050700049908203],
                [0.19613653633619924, 0.0021331267816160184, 0.9581101853469078],
            ],
            [3.88, 0.8522728612817673],
            [inf, 5],
        ),
        2 * 0.8522728612817673,
    ),
    "nothing unusual": (
        of_work(
            [
                [13.4, 17.9, 20.5, 2.04, 31.2, 55.0, 33.4],
                [inf, 9.62, 19.0, 2.89, 32.9, 51.4, inf],
                [inf, 8.94, 33.3, 1.81, inf, 35.7, 26.3],
                [30.5, 16.5, 16.3, 2.21, 37.7, 73.7, inf],
                [inf, 19.0, 23.3, 3.18, 57.3, 34.9, 24.1],
            ],
            [9.78, 4.71, 5.0, 8.32, 5.84],
        ),
        742.68,
    ),
}


@pytest.mark.parametrize("case", ASTRAY)
def test_what_is_called_optimal_is_the_cheapest(case: str, solve: Solve) -> None:
    config, cost = ASTRAY[case]
    ran = solve(config)
    assert (ran.answer["status"], ran.answer["cost"]) == ("optimal", pytest.approx(cost))
    assert ran.broken == []


def test_no_instance_is_asked_for_more_than_it_serves_by_the_solver_s_tolerance(solve: Solve) -> None:
    ran = solve(
        of_work([[700389, 0.00128, 859.425, 446775], [15393.1, 45.8654, inf, 1796.75]], [5.027590370816603, 9.69])
    )
    assert ran.answer["status"] == "optimal"
    assert ran.broken == []


def test_equal_types_are_no_choice_to_be_tried_in_turn(solve: Solve) -> None:
    random = Random(2)
    work, costs = zip(*(([random.uniform(0.3, 3) * 5 for _ in range(6)], cost) for cost in (3.75, 5.24)), strict=True)
    united = solve(of_work(work, costs)).answer
    ran = solve(of_work(work * 3, costs * 3), "-o", "json", "--time-limit", "2")
    assert (ran.answer["status"], ran.answer["cost"]) == ("optimal", pytest.approx(united["cost"]))
    assert ran.broken == []


def test_equal_types_share_what_they_serve_by_their_caps(solve: Solve) -> None:
    ran = solve(of_work([[2.5, 1.0]] * 3, [1, 1, 1], [1, 2, 5]))
    assert ran.answer["counts"] == {"g0": 1, "g1": 2, "g2": 1}
    assert ran.broken == []


# --- when time is short ---


@pytest.mark.parametrize(("limit", "size"), [("1e-9", 3), ("1e300", 3), ("1e-9", 300), ("0.05", 300)])
def test_a_mix_is_found_within_any_time_limit_with_a_bound(limit: str, size: int, solve: Solve) -> None:
    random = Random(3)
    work = [[random.uniform(0.2, 2) * (1 + k) for _ in range(size)] for k in range(20)]
    caps = [size if k % 2 else inf for k in range(20)]
    ran = solve(of_work(work, [8 / (1 + k) ** 0.9 for k in range(20)], caps), "-o", "json", "--time-limit", limit)
    assert (ran.code, ran.broken) == (0, [])
    assert ran.answer["lower_bound"] >= (0.5 if size == 3 else 0.95) * ran.answer["cost"]


def test_the_time_limit_is_passed_on_and_absent_there_is_none(solve: Solve, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    monkeypatch.setattr(answers, "solve", lambda problem, limit, gap: limits.append(limit) or Unsolved("nothing"))
    config = gpu("L4", max=2)
    assert solve(config, "-o", "json", "--time-limit", "3").answer["status"] == "feasible"
    solve(config)
    assert limits == [pytest.approx(3.0, abs=0.5), pytest.approx(answers.NO_LIMIT, abs=1)]


def test_nothing_found_in_time_exits_with_4(solve: Solve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "solve", lambda *_: Unsolved("no plan was found within 3 s"))
    monkeypatch.setattr(answers, "at_once", lambda _: None)
    ran = solve(CONFIG, "-o", "json", "--time-limit", "3")
    assert (ran.code, ran.answer["status"]) == (4, "unsolved")
    assert ran.answer["reason"] == "no plan was found within 3 s"


# --- what cannot be served ---


def test_a_bucket_that_no_type_serves_is_named(solve: Solve) -> None:
    ran = solve(gpu("A100", tputs=[[9, 5], [6, 0]]))
    assert (ran.code, ran.err) == (3, "")
    assert (ran.answer["status"], ran.answer["cost"], ran.answer["lower_bound"]) == ("infeasible", None, None)
    assert ran.answer["reason"] == "no GPU type serves bucket [1, 1]: its tputs are 0 everywhere"


def test_a_bucket_without_traffic_needs_nobody(solve: Solve) -> None:
    config = gpu("A100", tputs=[[9, 5], [6, 0]])
    ran = solve({**config, "workload_distribution": [[0.5, 0.3], [0.2, 0]]})
    assert (ran.code, ran.broken) == (0, [])


def test_a_bucket_whose_only_types_are_capped_at_none_is_named(solve: Solve) -> None:
    config = gpu("A100", max=0)
    assert solve(config).code == 3
    assert solve(config).answer["reason"] == "only A100 may serve bucket [1, 1], and max is 0"
    config["gpu_info"]["L4"]["max"] = 0
    both = "only L4 and A100 may serve buckets [0, 0], [0, 1], [1, 0], and max is 0"
    assert solve(config).answer["reason"] == f"{both}; only A100 may serve bucket [1, 1], and max is 0"


def test_caps_that_are_too_small_are_named_with_what_is_left(solve: Solve) -> None:
    config = gpu("A100", max=1)
    config["gpu_info"]["L4"]["max"] = 5
    config["gpu_info"]["T4"] = {"cost": 0.5, "tputs": [[0.1, 0.0], [0.0, 0.0]], "max": 1}
    ran = solve(config)
    assert ran.code == 3
    assert ran.answer["status"] == "infeasible"
    assert ran.answer["reason"].startswith("the caps (max: ")
    assert "A100 1" in ran.answer["reason"] and "requests/s of bucket" in ran.answer["reason"]
    assert solve(config, "-o", "table").out.startswith("infeasible: the caps (max: ")


def test_caps_of_equal_types_are_named_each_with_its_own(solve: Solve) -> None:
    ran = solve(of_work([[3.0, 3.0], [3.0, 3.0], [9.0, 2.0]], [1, 1, 2], [1, 1, 2]))
    assert ran.code == 3
    assert ran.answer["reason"].startswith("the caps (max: g0 1, g1 1, g2 2)")


def test_caps_that_are_far_too_small_are_seen_without_solving(solve: Solve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(answers, "solve")
    ran = solve({**gpu("A100", max=3), "total_request_rate": 1e9})
    assert ran.code == 3
    assert ran.answer["reason"] == "the caps (max: A100 3) are too small for bucket [1, 1]"


def test_a_throughput_next_to_nothing_serves_nothing_and_gives_no_absurd_count(solve: Solve) -> None:
    ran = solve(gpu("A100", tputs=[[9, 5], [6, 5e-324]]))
    assert ran.code == 3
    assert ran.answer["reason"] == "no GPU type serves bucket [1, 1] with 1e+12 instances or fewer"


# --- no cliffs ---


def _instance(**changes: Any) -> Config:
    tputs = [[8.0, 4.0, 2.0], [5.0, 2.5, 1.2], [2.0, 1.0, 0.5]]
    gpus = {name: {"cost": cost, "tputs": tputs} for name, cost in (("a", 1.0), ("b", 1.0), ("c", 1.0))}
    return {"gpu_info": gpus, "workload_distribution": [[1 / 9] * 3] * 3, "total_request_rate": 10.0, **changes}


def _scaled(factor: float) -> Config:
    config = _instance()
    first = config["gpu_info"]["a"]["tputs"]
    config["gpu_info"]["b"]["tputs"] = [[cell * factor for cell in row] for row in first]
    config["gpu_info"]["b"]["cost"] = factor * 0.9
    return config


def _with_gold() -> Config:
    config = changed()
    config["gpu_info"]["gold"] = {"cost": 1e9, "tputs": [[9, 5], [6, 2.5]]}
    return config


CLIFFS: dict[str, tuple[Config, float | None]] = {
    "equal types at equal prices": (_instance(), 7.0),
    "a rate next to nothing": (_instance(total_request_rate=1e-6), 1.0),
    "a huge rate": (_instance(total_request_rate=1e6), 645_371.0),
    "throughputs over six orders of magnitude": (_scaled(1e-6), None),
    "throughputs over six orders of magnitude upwards": (_scaled(1e6), None),
    "instances without number": (_scaled(1e-6) | {"total_request_rate": 1e6}, None),
    "a rate beyond all sense": (_instance(total_request_rate=1e12), 645_370_370_371.0),
    "a type too dear to be used": (_with_gold(), 7.87),
    "a cap among instances without number": (
        of_work([[7e5, 9e5, 4e5], [5e5, 2e6, 3e5]], [1, 1.1], [1650000, 400000]),
        None,
    ),
}


@pytest.mark.parametrize("case", CLIFFS)
def test_there_are_no_cliffs(case: str, solve: Solve) -> None:
    config, cost = CLIFFS[case]
    ran = solve(config)
    assert (ran.code, ran.err) == (0, "")
    assert ran.answer["status"] == "optimal"
    assert ran.broken == []
    assert ran.answer["lower_bound"] >= ran.answer["cost"] * (1 - 1.01e-6)
    if cost is not None:
        assert ran.answer["cost"] == pytest.approx(cost)


# --- in a process of its own ---


def test_standard_output_is_one_json_object_even_where_the_library_prints() -> None:
    """Only a process of its own shows what really comes out; C's buffer is written when it ends."""
    noisy = (
        "import ctypes, sys; from motley_operator.cli import main; from motley_operator.cli.melange import answer\n"
        "solve = answer.solve\n"
        "def solved(*given):\n    ctypes.CDLL(None).puts(b'stray line'); return solve(*given)\n"
        "answer.solve = solved; sys.exit(main())"
    )
    command = [sys.executable, "-c", noisy, "solve", "--melange", "-", "-o", "json"]
    ran = subprocess.run(command, input=json.dumps(CONFIG), capture_output=True, text=True)
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["status"] == "optimal"
    assert ran.stderr == "stray line\n"


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


CLOSED: dict[str, tuple[str, int, str]] = {
    "standard output closed": (">&-", 1, "motley: standard output is closed"),
    "standard input closed": ("<&-", 2, "<stdin>: standard input is closed"),
    "a full disk": (">/dev/full", 1, "motley: [Errno 28] No space left on device"),
}


@pytest.mark.parametrize("case", CLOSED)
def test_what_can_not_be_read_or_written_is_one_line(case: str) -> None:
    redirection, code, line = CLOSED[case]
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *MOTLEY, "solve", "--melange", "-"]
    ran = subprocess.run(shell, input=json.dumps(CONFIG), capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", line + "\n")
