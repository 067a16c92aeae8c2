"""Greedy and Mélange's slices: each the cost that it says, and none below the optimum."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from melange_slices import Solver, sliced

from motley_solver.baselines import Greedy, greedy
from motley_solver.comparisons import on_one_type
from motley_solver.ilp import solve
from motley_solver.plan import Plan
from motley_solver.problem import Problem
from tests.solver.fleets import LONG, SHORT, configuration, model, pool, problem

# Per request/s of short ones: L4 1.00 / 2 = 0.50, A100 4.00 / 10 = 0.40. Long ones fit on the A100 only.
L4 = configuration("L4", {SHORT: 2.0, LONG: 0.0})
A100 = configuration("A100", {SHORT: 10.0, LONG: 1.0})


def question(short: float, long: float = 0.0, a100_nodes: int = 10) -> Problem:
    chat = model("chat", {SHORT: short, LONG: long}, L4, A100)
    return problem([chat], [pool("L4", 1.0, 20), pool("A100", 4.0, a100_nodes)])


def counts(found: Greedy) -> dict[str, int]:
    return {configuration: count for _, configuration, _, count in found.replicas}


def shares(found: Greedy) -> dict[tuple[str, str], float]:
    return {(str(a.bucket), a.configuration): round(a.share, 9) for a in found.assignment}


def test_greedy_takes_the_least_price_per_request_and_rounds_up_at_the_end() -> None:
    found = greedy(question(12.0, 0.5))
    assert counts(found) == {"A100-tp1": 2}  # 1.2 + 0.5 replicas
    assert found.cost_per_hour == 8.0
    assert shares(found) == {("8000+500", "A100-tp1"): 1, ("500+250", "A100-tp1"): 1}
    assert found.unserved == ()


def test_greedy_does_not_see_what_rounding_costs() -> None:
    assert greedy(question(2.0)).cost_per_hour == 4.0
    best = solve(question(2.0))
    assert isinstance(best, Plan) and best.cost_per_hour == pytest.approx(1.0)


def test_greedy_goes_on_to_the_next_place_where_stock_ends() -> None:
    found = greedy(question(12.0, a100_nodes=1))
    assert counts(found) == {"A100-tp1": 1, "L4-tp1": 1}
    assert shares(found) == {("500+250", "A100-tp1"): round(10 / 12, 9), ("500+250", "L4-tp1"): round(2 / 12, 9)}
    assert found.cost_per_hour == 5.0


def test_greedy_says_what_found_no_place() -> None:
    found = greedy(question(0.0, 3.0, a100_nodes=1))
    assert found.unserved == (("test/chat", LONG, 2.0),)
    assert greedy(question(0.0, 3.0, a100_nodes=0)).cost_per_hour == 0.0


def test_greedy_plans_for_headroom() -> None:
    assert counts(greedy(replace(question(10.0), headroom=0.1))) == {"A100-tp1": 2}


def test_greedy_pays_whole_nodes() -> None:
    quarter = replace(A100, gpus=2)
    chat = model("chat", {SHORT: 50.0}, quarter)
    found = greedy(problem([chat], [pool("A100", 4.0, 5, gpus=8)]))
    assert counts(found) == {"A100-tp1": 5}
    assert found.cost_per_hour == 8.0  # five replicas of two GPUs on two nodes of eight


@pytest.mark.parametrize("solver", ["HiGHS", "CBC"])
def test_slices_go_whole_to_one_type_each(solver: Solver) -> None:
    asked = question(12.0, 0.5)
    found = sliced(asked.models[0], asked.pools, 8, solver)
    assert (found.status, found.cost) == ("optimal", pytest.approx(8.0))
    assert sum(n for (bucket, _), n in found.slices.items() if bucket == 0) == 8
    assert (1, "L4-tp1") not in found.slices


def test_coarse_slices_cost_more_than_splitting_finely() -> None:
    asked = question(11.0)  # an L4 takes 2 of 11 requests, no whole slice of four
    best = solve(asked)
    assert isinstance(best, Plan) and best.cost_per_hour == pytest.approx(5.0)
    assert [sliced(asked.models[0], asked.pools, n).cost for n in (1, 4, 11)] == pytest.approx([6.0, 6.0, 5.0])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.floats(0.01, 30),
    st.floats(0.01, 5),
    st.floats(0.2, 5),
    st.floats(0.1, 20),
    st.floats(0.1, 3),
)
def test_no_baseline_is_cheaper_than_the_optimum(
    short: float, long: float, price: float, fast: float, slow: float
) -> None:
    chat = model("chat", {SHORT: short, LONG: long}, L4, configuration("A100", {SHORT: fast, LONG: slow}))
    asked = problem([chat], [pool("L4", 1.0, 400), pool("A100", price, 400)])
    best = solve(asked)
    assert isinstance(best, Plan) and best.complete
    floor = best.cost_per_hour * (1 - 1e-6)
    assert greedy(asked).cost_per_hour >= floor
    assert sliced(chat, asked.pools, 4).cost >= floor
    alone = solve(on_one_type(asked, "A100"))
    assert isinstance(alone, Plan) and alone.cost_per_hour >= floor
