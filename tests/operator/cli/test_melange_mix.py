"""The mix that is found at once, what no mix can cost less than, and what is made of a solver's tolerances."""

from math import inf
from random import Random

import numpy as np
import pytest
from melange_answers import cheapest_of_two
from melange_command import of_work

from motley_operator.cli.melange.config import Config, parsed
from motley_operator.cli.melange.mix import at_once, least_bill, loads, settled
from motley_operator.cli.melange.simpler import groups_of, parted, united


def config(work: list[list[float]], costs: list[float], caps: list[float] | None = None) -> Config:
    return parsed(of_work(work, costs, caps or [inf] * len(costs)))


def test_the_bound_counts_parts_of_instances_at_the_cheapest_type() -> None:
    assert least_bill(config([[0.5, 3.0], [2.0, 1.5]], [1.0, 1.5])) == pytest.approx(0.5 + 1.5 * 1.5)


def test_the_bound_knows_that_a_capped_type_serves_no_more_than_its_cap() -> None:
    """2 of the cheap type's 5 instances are there: the other 3 cost 4 each, of what it is best at."""
    assert least_bill(config([[5.0], [5.0]], [1.0, 4.0], [2, inf])) == pytest.approx(2 * 1.0 + 3 * 4.0)
    assert least_bill(config([[5.0], [5.0]], [1.0, 4.0], [0, inf])) == pytest.approx(20.0)


@pytest.mark.parametrize("seed", range(30))
def test_nothing_costs_less_than_the_bound_nor_more_than_the_mix_at_once(seed: int) -> None:
    random = Random(seed)
    work = [[10 ** random.uniform(-1, 1) for _ in range(6)] for _ in range(2)]
    given = of_work(work, [1.0, random.uniform(0.2, 5)], [random.randint(1, 20), inf])
    cost, mix = cheapest_of_two(given), at_once(parsed(given))
    assert mix is not None
    assert least_bill(parsed(given)) <= cost * (1 + 1e-9)
    assert float(cost) <= mix.cost * (1 + 1e-9)
    assert (loads(parsed(given), mix.shares) <= mix.counts * (1 + 1e-9)).all()
    assert mix.shares.sum(axis=0) == pytest.approx(np.ones(6), abs=1e-9)


def test_a_mix_at_once_shares_instances_where_each_bucket_at_its_best_type_would_fill_none() -> None:
    mix = at_once(config([[0.1, 0.3, 0.3], [0.3, 0.1, 0.3], [0.3, 0.3, 0.1]], [1.0, 1.0, 1.0]))
    assert mix is not None and mix.cost == 1.0


def test_too_much_by_a_tolerance_goes_where_there_is_room() -> None:
    mix = settled(
        config([[1.0, 1.0], [2.0, 1.0]], [1.0, 1.0]), np.array([[1.0, 1e-7], [0.0, 1.0]]), np.array([1.0, 2.0])
    )
    assert mix.counts.tolist() == [1, 2]
    assert mix.shares.sum(axis=0) == pytest.approx([1, 1])
    assert mix.shares[0].sum() <= 1 + 1e-9


@pytest.mark.parametrize(("cap", "counts"), [(inf, [2, 1]), (1, [1, 2])])
def test_where_there_is_no_room_another_instance_is_bought(cap: float, counts: list[int]) -> None:
    one = config([[1.0 + 1e-7, inf], [1.0, 1.0]], [1.0, 1.0], [cap, inf])
    mix = settled(one, np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 1.0]))
    assert mix.counts.tolist() == counts
    assert (loads(one, mix.shares) <= mix.counts * (1 + 1e-9)).all()


def test_equal_types_are_one_and_what_another_does_for_no_more_is_left_out() -> None:
    same, slower, faster = [1.0, 2.0], [1.5, 2.0], [0.5, 9.0]
    one = config([same, slower, same, faster, same], [1, 1, 1, 3, 1], [2, inf, 3, inf, 0])
    assert groups_of(one) == [(0, 2), (1,), (3,)]
    endless = config([slower, same, same, faster], [1, 1, 1, 3], [inf, inf, 2, inf])
    assert groups_of(endless) == [(1,), (3,)]


def test_what_equal_types_serve_together_is_parted_by_their_caps() -> None:
    one = config([[2.0, 3.0]] * 2, [1, 1], [3, 4])
    groups = groups_of(one)
    together = united(one, groups)
    assert together.caps.tolist() == [7]
    mix = at_once(together)
    assert mix is not None
    apart = parted(one, groups, mix)
    assert apart.counts.tolist() == [3, 2]
    assert apart.shares == pytest.approx(np.array([[0.6, 0.6], [0.4, 0.4]]))
