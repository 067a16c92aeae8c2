"""Many replicas at once against the readable replay, request by request."""

from collections.abc import Sequence
from dataclasses import astuple
from random import Random

import numpy as np
import pytest

from motley_solver.lanes import Lanes
from motley_solver.policy.batching import Limits
from motley_solver.replay import Request, replayed
from motley_solver.steptime import StepTime
from motley_solver.sweep import NEVER, Sweep

WARM, BEYOND, REQUESTS = 10, 60, 70


RandomLane = tuple[StepTime, Limits, Request, float, float, float, int]


def random_lane(choice: Random) -> RandomLane:
    """Step time, limits, size, gap between arrivals, targets and the first request: all regimes, from idle to overload,
    from one chunk to hundreds, from plenty of KV memory to preemption all the time."""
    step = StepTime(
        choice.uniform(0.005, 0.03),
        choice.uniform(1e-5, 2e-4),
        choice.choice([0, 1e-8, 1e-9]),
        choice.uniform(0, 2e-4),
        choice.choice([0, 1e-7, 1e-6]),
        weights=choice.choice([0, 0.02]),
        per_token=choice.uniform(0, 1e-4),
    )
    size, output = choice.choice([1, 3, 25, 100, 500, 3000, 9000]), choice.choice([1, 2, 3, 20, 100, 400])
    kv_tokens = int((size + output) * choice.choice([1, 1.2, 2.3, 4, 10, 100]))
    limits = Limits(choice.choice([64, 512, 2048]), choice.choice([1, 2, 8, 32, 64]), kv_tokens)
    request = Request(0.0, size, output, choice.choice([0, 0, size // 2, size - 1]))
    gap, ttft, tpot = 10 ** choice.uniform(-2, 1), choice.choice([0.1, 1, 10]), choice.choice([0.02, 0.05, NEVER])
    return step, limits, request, gap, ttft, tpot, choice.choice([0, 0, 5])


def rows_of(lanes: Sequence[RandomLane], allowed: float = NEVER) -> Lanes:
    rows = [
        (*astuple(step)[:7], *astuple(limits), *astuple(size)[1:], gap, ttft, tpot, start, allowed)
        for step, limits, size, gap, ttft, tpot, start in lanes
    ]
    return Lanes(*np.array(rows, float).T)


def ended(sweep: Sweep, count: int) -> dict[int, float]:
    """Misses by slot, of so many lanes."""
    found: dict[int, float] = {}
    while len(found) < count:
        slots, misses = sweep.run()
        found |= zip(slots.tolist(), misses.tolist(), strict=True)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_every_request_of_every_lane_fares_as_in_the_readable_replay(seed: int) -> None:
    choice = Random(seed)
    lanes = [random_lane(choice) for _ in range(40)]
    units = np.cumsum(np.random.RandomState(seed).gamma(0.5, 2.0, REQUESTS))
    sweep = Sweep(units, WARM, BEYOND, slots=len(lanes))
    sweep.add(rows_of(lanes))
    missed, preempted = ended(sweep, len(lanes)), 0
    first, finish = (_filled(times.reshape(len(lanes), -1)) for times in (sweep.first, sweep.finish))
    for row, (step, limits, size, gap, ttft, tpot, start) in enumerate(lanes):
        requests = [
            Request(unit * gap, size.input_tokens, size.output_tokens, size.cached_tokens) for unit in units[start:]
        ]
        served = replayed(step, limits, requests)
        counted = served[WARM - start : BEYOND - start]
        assert first[row, WARM:BEYOND] == pytest.approx([one.first for one in counted], rel=1e-9)
        assert finish[row, WARM:BEYOND] == pytest.approx([one.finish for one in counted], rel=1e-9)
        assert missed[row] == sum(one.ttft > ttft or one.tpot > tpot for one in counted)
        preempted += sum(one.preemptions for one in counted)
    assert preempted > 50


def _filled(
    times: np.ndarray[tuple[int, int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The time of each request: that of the first of its group."""
    at = np.where(np.isnan(times), 0, np.arange(times.shape[1]))
    return np.take_along_axis(times, np.maximum.accumulate(at, axis=1), axis=1)


Fleet = tuple[list[RandomLane], np.ndarray[tuple[int], np.dtype[np.float64]], dict[int, float]]


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    """Lanes, when their requests arrive, and how many of these miss a target where all are replayed at once."""
    choice = Random(99)
    lanes = [random_lane(choice) for _ in range(60)]
    units = np.cumsum(np.random.RandomState(99).exponential(size=REQUESTS))
    sweep = Sweep(units, WARM, BEYOND, slots=len(lanes))
    sweep.add(rows_of(lanes))
    return lanes, units, ended(sweep, len(lanes))


def test_a_lane_in_the_place_of_one_that_ended_fares_as_among_the_first(fleet: Fleet) -> None:
    lanes, units, alone = fleet
    sweep, waiting, running = Sweep(units, WARM, BEYOND, slots=7), list(range(len(lanes))), dict[int, int]()
    found: dict[int, float] = {}
    while waiting or running:
        count = min(len(sweep.free), len(waiting))
        new, waiting = waiting[:count], waiting[count:]
        if new:
            running |= zip(sweep.add(rows_of([lanes[lane] for lane in new])).tolist(), new, strict=True)
        for slot, misses in zip(*(one.tolist() for one in sweep.run()), strict=True):
            found[running.pop(slot)] = misses
    assert found == alone


@pytest.mark.parametrize("allowed", [0, 3, 20])
def test_giving_a_lane_up_early_never_changes_whether_it_attains(fleet: Fleet, allowed: int) -> None:
    lanes, units, all_of_them = fleet
    sweep = Sweep(units, WARM, BEYOND, slots=len(lanes))
    sweep.add(rows_of(lanes, allowed))
    attains = {slot: misses <= allowed for slot, misses in ended(sweep, len(lanes)).items()}
    assert attains == {slot: misses <= allowed for slot, misses in all_of_them.items()}
    assert 5 < sum(attains.values()) < len(lanes) - 5


def test_a_lane_that_is_dropped_ends_and_leaves_the_others_alone(fleet: Fleet) -> None:
    lanes, units, alone = fleet
    sweep = Sweep(units, WARM, BEYOND, slots=len(lanes))
    sweep.add(rows_of(lanes, allowed=1000))
    dropped = list(range(0, len(lanes), 3))
    sweep.drop(dropped)
    slots, misses = sweep.run()
    assert set(dropped) <= set(slots.tolist()) and (misses[np.isin(slots, dropped)] == NEVER).all()
    rest = ended(sweep, len(lanes) - len(slots)) | dict(zip(slots.tolist(), misses.tolist(), strict=True))
    assert {slot: rest[slot] for slot in rest if slot not in dropped} == {
        slot: count for slot, count in alone.items() if slot not in dropped
    }


def test_a_lane_with_too_many_misses_is_given_up() -> None:
    step = StepTime(0.02, 1e-4)
    row = (*astuple(step)[:7], 2048, 8, 10_000, 100, 100, 0, 0.01, 0.1, 0.1, 0, 3)
    units = np.linspace(1.0, 3000.0, 3000)
    sweep = Sweep(units, 0, 2900, slots=1)
    sweep.add(Lanes(*np.array([row], float).T))
    assert 3 < ended(sweep, 1)[0] < 2900
    assert np.isnan(sweep.first[2000:]).all()
