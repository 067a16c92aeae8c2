"""The rates that are found: attained, at the edge of what is, and never beyond what an engine bears."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_solver import attainment
from motley_solver.attainment import (
    COUNTED,
    MOST_WARM,
    SATURATION,
    SCALE,
    SPAN,
    Case,
    _Search,
    alone,
    arrivals,
    best_effort_rate,
    highest_rates,
    saturated,
)
from motley_solver.policy.batching import Limits
from motley_solver.replay import Request, Served, replayed
from motley_solver.steptime import StepTime

STEP = StepTime(0.012, 4e-5, 5e-10, 3e-5, 6e-8, weights=0.008, per_token=2e-6)
CHAT = Case(STEP, Limits(2048, 256, 60_000), 500, 0, 200, ttft=0.5, tpot=0.05, attainment=0.99, arrival_cv=1.0)
bounded = settings(max_examples=8, deadline=None, derandomize=True, database=None)


def run(case: Case, rate: float) -> list[Served]:
    """The counted requests of the whole sequence at this rate."""
    size = case.input_tokens, case.output_tokens, case.cached_tokens
    requests = [Request(unit / rate, *size) for unit in arrivals(case.arrival_cv).tolist()]
    return replayed(case.step_time, case.limits, requests)[MOST_WARM : MOST_WARM + COUNTED]


def attained(case: Case, rate: float) -> float:
    return sum(one.ttft <= case.ttft and one.tpot <= case.tpot for one in run(case, rate)) / COUNTED


CASES = (
    CHAT,
    replace(CHAT, input_tokens=6000, output_tokens=50, ttft=1.5),
    replace(CHAT, output_tokens=1, tpot=1e9),
    replace(CHAT, cached_tokens=499, ttft=0.06),
    replace(CHAT, limits=Limits(512, 64, 8000), attainment=0.95),
    replace(CHAT, arrival_cv=3.0),
    replace(CHAT, tpot=0.03, attainment=0.9),
)


def test_a_rate_attains_in_the_readable_replay_and_the_next_ones_do_not() -> None:
    for case, rate in zip(CASES, highest_rates(CASES), strict=True):
        assert rate > 0
        assert attained(case, rate) >= case.attainment - 0.005
        if rate < best_effort_rate(case):
            assert attained(case, rate * SCALE) < case.attainment + 0.005


def test_many_cases_at_once_are_answered_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    together = highest_rates(CASES)
    monkeypatch.setattr(attainment, "BLOCK", 7)
    assert [rate for case in CASES for rate in highest_rates([case])] == together
    assert highest_rates([]) == []


@pytest.mark.parametrize("room", [0.1, 10**6])
def test_what_is_tried_early_changes_no_rate(monkeypatch: pytest.MonkeyPatch, room: float) -> None:
    """Nothing is, and nearly all is; each time the guess is a wrong one."""
    usual = highest_rates(CASES)
    monkeypatch.setattr(attainment, "ROOM", room)
    monkeypatch.setattr(attainment, "_guess", lambda case: case.input_tokens % 47)
    assert highest_rates(CASES) == usual


@pytest.mark.parametrize("seed", range(5))
def test_a_search_ends_at_the_same_rate_in_whatever_order_verdicts_come(seed: int) -> None:
    """Even where a higher rate attains and a lower one does not."""
    choice = Random(seed)
    verdicts = [choice.random() < step / 40 for step in range(SPAN + 1)]
    patient, hasty = _Search(guess=0), _Search(guess=choice.randrange(60))
    while patient.open:
        [step] = patient.ahead(1.0)
        patient.learn(step, verdicts[step])
    hasty.ahead(0.02)
    while hasty.open:
        step = choice.choice([step for step, verdict in hasty.known.items() if verdict is None and hasty.needs(step)])
        hasty.learn(step, verdicts[step])
        hasty.ahead(choice.random())
    assert (hasty.attains, hasty.fails) == (patient.attains, patient.fails)


def test_the_best_effort_rate_does_not_grow_a_queue_without_end() -> None:
    for case in CASES[:5]:
        rate = best_effort_rate(case)
        assert SATURATION / SCALE * saturated(case).rate <= rate <= SATURATION * saturated(case).rate
        served = run(case, rate)
        assert served[-1].ttft < 30 / rate + alone(case).ttft


@pytest.mark.parametrize("kv_tokens", [1050, 2800, 11_200, 70_000, 10**6])
def test_saturated_throughput_is_that_of_a_replica_with_a_long_queue(kv_tokens: int) -> None:
    for output in (1, 50, 200):
        case = replace(CHAT, output_tokens=output, limits=replace(CHAT.limits, kv_tokens=kv_tokens))
        rate = 2 * saturated(case).rate
        served = replayed(case.step_time, case.limits, [Request(i / rate, 500, output) for i in range(1500)])
        measured = 1000 / (served[1299].finish - served[299].finish)
        assert 0.92 * saturated(case).rate <= measured <= 1.25 * saturated(case).rate


def test_alone_is_what_one_request_gets() -> None:
    for case in CASES:
        [served] = replayed(
            case.step_time, case.limits, [Request(0.0, case.input_tokens, case.output_tokens, case.cached_tokens)]
        )
        assert (served.ttft, served.tpot) == pytest.approx((alone(case).ttft, alone(case).tpot), rel=1e-6)


@bounded
@given(
    size=st.integers(1, 9000),
    output=st.integers(1, 800),
    ttft=st.floats(0.02, 4),
    tpot=st.floats(0.01, 0.2),
    attainment=st.sampled_from([0.5, 0.9, 0.99, 0.999]),
    scarcity=st.sampled_from([1.1, 8, 200]),
)
def test_looser_targets_never_give_a_lower_rate(
    size: int, output: int, ttft: float, tpot: float, attainment: float, scarcity: float
) -> None:
    limits = Limits(2048, 256, int((size + output) * scarcity))
    case = Case(STEP, limits, size, 0, output, ttft, tpot, attainment, 1.0)
    here, *looser = highest_rates(
        [case, replace(case, ttft=2 * ttft), replace(case, tpot=1.5 * tpot), replace(case, attainment=0.5)]
    )
    assert all(rate >= here for rate in looser)
    assert here <= best_effort_rate(case) < 1e6


def test_burstier_arrivals_leave_a_lower_rate() -> None:
    steady, poisson, bursty = highest_rates([replace(CHAT, arrival_cv=cv) for cv in (0.0, 1.0, 4.0)])
    assert steady >= poisson > bursty > 0
