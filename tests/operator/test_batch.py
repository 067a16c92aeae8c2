"""Many pokes → one pass, and none is lost. The clock is the test's own."""

import threading

import pytest
from clocks import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_operator.batch import Batcher


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_due_before_somebody_pokes(clock: Clock) -> None:
    batcher = Batcher(clock=clock)
    assert batcher.due_in() is None
    assert batcher.wait(0) is False


def test_a_pass_is_due_when_it_has_been_quiet_for_a_moment(clock: Clock) -> None:
    batcher = Batcher(quiet=0.1, longest=1.0, clock=clock)
    batcher.poke()
    assert batcher.due_in() == pytest.approx(0.1)
    clock.now += 0.06
    batcher.poke()
    assert batcher.due_in() == pytest.approx(0.1)
    clock.now += 0.11
    assert batcher.due_in() == 0 and batcher.wait(0) is True


def test_unrest_without_end_does_not_put_the_pass_off_for_ever(clock: Clock) -> None:
    batcher = Batcher(quiet=0.1, longest=1.0, clock=clock)
    for _ in range(40):
        batcher.poke()
        clock.now += 0.03
        if batcher.due_in() == 0:
            break
    assert clock.now == pytest.approx(101.0, abs=0.04)


def test_one_pass_answers_all_pokes_before_it(clock: Clock) -> None:
    batcher = Batcher(clock=clock)
    for _ in range(100):
        batcher.poke()
    clock.now += 1
    assert batcher.wait(0) is True
    assert batcher.due_in() is None and batcher.wait(0) is False


def test_a_poke_during_a_pass_starts_another(clock: Clock) -> None:
    batcher = Batcher(clock=clock)
    batcher.poke()
    clock.now += 1
    assert batcher.wait(0) is True
    batcher.poke()  # while the pass runs
    clock.now += 1
    assert batcher.wait(0) is True


def test_a_poke_shortly_before_the_deadline_is_still_waited_for(clock: Clock) -> None:
    """It returns True for it, rather than False and the poke for the next time."""
    batcher = Batcher(quiet=0.1, clock=clock)
    batcher.poke()
    answer: list[bool] = []
    thread = threading.Thread(target=lambda: answer.append(batcher.wait(0.0)))
    thread.start()
    clock.now += 0.2
    batcher.poke()
    clock.now += 0.2
    thread.join(5)
    assert answer == [True]


def test_a_sleeping_waiter_is_woken_by_a_poke() -> None:
    batcher = Batcher(quiet=0.01, longest=0.05)
    answer: list[bool] = []
    thread = threading.Thread(target=lambda: answer.append(batcher.wait(30)))
    thread.start()
    batcher.poke()
    thread.join(10)
    assert answer == [True]


def test_pokes_from_many_threads_all_lead_to_a_pass() -> None:
    batcher = Batcher(quiet=0.0, longest=0.0)
    wanted = [0] * 8
    seen = [0] * 8

    def work(number: int) -> None:
        for turn in range(1, 51):
            wanted[number] = turn
            batcher.poke()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    while seen != [50] * 8:
        assert batcher.wait(10), f"a poke was lost: seen {seen} of {wanted}"
        seen = list(wanted)
    for thread in threads:
        thread.join()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=30))
def test_no_poke_waits_longer_than_the_limit(gaps: list[float]) -> None:
    clock = Clock()
    batcher = Batcher(quiet=0.1, longest=1.0, clock=clock)
    oldest: float | None = None
    for gap in gaps:
        batcher.poke()
        oldest = clock.now if oldest is None else oldest
        due = batcher.due_in()
        assert due is not None and clock.now + due <= oldest + 1.0 + 1e-9
        clock.now += gap
        if batcher.due_in() == 0:
            assert batcher.wait(0)
            oldest = None
