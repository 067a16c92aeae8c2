"""What each size costs on each way to serve it, and what limits it there."""

from dataclasses import replace

import pytest

from motley_solver.choices import LARGEST, Choice, Looser, choices
from motley_solver.ilp import solve
from motley_solver.plan import Plan
from motley_solver.problem import Problem
from motley_solver.workload import Bucket
from tests.solver.fleets import LONG, SHORT, UNKNOWN, configuration, model, pool, problem

L4 = configuration("L4", {SHORT: 2.0, LONG: 0.0}, best_effort={SHORT: 4.0, LONG: 1.0})
A100 = configuration("A100", {SHORT: 10.0, LONG: 1.0}, best_effort={SHORT: 10.0, LONG: 2.0})
CHAT = model("chat", {SHORT: 12.0, LONG: 0.5}, L4, A100)
ASKED = problem([CHAT], [pool("L4", 1.0, 20), pool("A100", 8.0, 4, gpus=2)])


def found(asked: Problem, looser: dict[str, Looser] | None = None) -> tuple[Choice, ...]:
    plan = solve(asked)
    assert isinstance(plan, Plan)
    return choices(asked, plan, looser or {})


def test_the_price_is_that_of_a_busy_replicas_part_of_a_node() -> None:
    short, long = found(ASKED)
    prices = {(c.bucket, one.gpu): one.cost_per_million_tokens for c in (short, long) for one in c.options}
    assert prices[SHORT, "L4"] == pytest.approx(1.0 / (2.0 * 3600 * 750) * 1e6)
    assert prices[SHORT, "A100"] == pytest.approx(4.0 / (10.0 * 3600 * 750) * 1e6)
    assert prices[LONG, "A100"] == pytest.approx(4.0 / (1.0 * 3600 * 8500) * 1e6)


def test_what_cannot_serve_a_size_says_what_it_lacks_and_comes_last() -> None:
    _, long = found(ASKED)
    first, last = long.options
    assert (first.gpu, first.share, last.gpu, last.share) == ("A100", pytest.approx(1.0), "L4", 0.0)
    assert (last.rate, last.cost_per_million_tokens, last.shortfall) == (0.0, None, UNKNOWN)


def test_the_target_whose_loosening_raises_a_rate_is_what_limits_it() -> None:
    def faster(gpu: str, short: float, long: float) -> Problem:
        rates = {SHORT: short, LONG: long}
        changed = configuration(gpu, rates, best_effort={SHORT: 10.0, LONG: 2.0})
        ways = tuple(changed if c.gpu == gpu else c for c in CHAT.configurations)
        return replace(ASKED, models=(replace(CHAT, configurations=ways),))

    ttft, tpot = faster("A100", 10.0, 1.2).models[0], faster("L4", 2.5, 0.0).models[0]
    short, long = found(ASKED, {CHAT.name: Looser(ttft, tpot)})
    limits = {(c.bucket, one.gpu): one.limited_by for c in (short, long) for one in c.options}
    assert limits == {
        (SHORT, "L4"): "tpot",
        (SHORT, "A100"): "engine",
        (LONG, "A100"): "ttft",
        (LONG, "L4"): "",
    }
    assert {one.limited_by for choice in found(ASKED) for one in choice.options} == {"", "engine"}


def test_a_configuration_in_two_pools_shares_its_load_by_replicas() -> None:
    both = configuration("L4", {SHORT: 1.0}, pools=("L4", "more"))
    pools = [pool("L4", 1.0, 1), replace(pool("L4", 1.5, 3), name="more")]
    (choice,) = found(problem([model("chat", {SHORT: 4.0}, both)], pools))
    assert {one.pool: one.share for one in choice.options} == {"L4": pytest.approx(0.25), "more": pytest.approx(0.75)}


def test_the_sizes_with_the_most_requests_are_looked_at_and_those_without_any_are_not() -> None:
    sizes = {Bucket(100 * i, 100): float(i) for i in range(LARGEST + 3)}
    few = found(problem([model("chat", sizes, configuration("L4", dict.fromkeys(sizes, 100.0)))], [pool("L4", 1.0)]))
    assert [choice.rate for choice in few] == [float(i) for i in range(LARGEST + 2, 2, -1)]
