"""The replay against a scheduler that goes one iteration at a time, and against what can be worked out by hand."""

from dataclasses import dataclass
from math import nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_solver.policy.batching import HALF_BLOCK, Limits
from motley_solver.replay import Replica, Request, replayed
from motley_solver.steptime import StepTime

STEP = StepTime(0.010, 1e-4, 2e-8, 1e-4, 1e-7, weights=0.015, per_token=2e-5)
ROOMY = Limits(2048, 64, 100_000)
bounded = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@dataclass(eq=False)
class Naive:
    """One request as the slow scheduler sees it."""

    request: Request
    computed: int = 0
    tokens: int = 0  # of prompt and output that must be computed before the next token comes
    generated: int = 0
    preemptions: int = 0
    first: float = nan
    finish: float = nan
    held: int = 0  # KV tokens


def preempt(running: list[Naive], waiting: list[Naive], kv_tokens: int) -> bool:
    before = len(running)
    for one in running:
        one.held = one.request.input_tokens + one.generated + HALF_BLOCK
    while len(running) > 1 and sum(one.held for one in running) > kv_tokens:
        last = running.pop()
        last.computed, last.tokens = 0, last.request.input_tokens + last.generated
        last.preemptions += 1
        waiting.insert(0, last)
    return len(running) < before


def iterated(step_time: StepTime, limits: Limits, requests: list[Request]) -> list[Naive]:
    """The same rule with no leap and no sums that are carried on: everything is counted anew in each iteration."""
    todo = [Naive(r, r.cached_tokens, r.input_tokens) for r in requests]
    coming, waiting, running, clock = list(todo), list[Naive](), list[Naive](), 0.0
    while coming or waiting or running:
        if not waiting and not running:
            clock = max(clock, coming[0].request.arrival)
        while coming and coming[0].request.arrival <= clock:
            waiting.append(coming.pop(0))
        preempted = preempt(running, waiting, limits.kv_tokens)
        left, batch = limits.batched_tokens, list[tuple[Naive, int]]()
        for one in running:
            batch.append((one, min(max(1, one.tokens - one.computed), left)))
            left -= batch[-1][1]
        while not preempted and waiting and left > 0 and len(running) < limits.sequences:
            head = waiting[0]
            head.held = head.tokens + HALF_BLOCK
            if running and sum(one.held for one in running) + head.held > limits.kv_tokens:
                break
            running.append(waiting.pop(0))
            batch.append((head, min(head.tokens - head.computed, left)))
            left -= batch[-1][1]
        prompts = [(one, n) for one, n in batch if one.computed < one.tokens]
        decodes = [one for one, _ in batch if one.computed >= one.tokens]
        prefill = sum(n for _, n in prompts)
        reach = sum(n * (one.computed + n / 2) for one, n in prompts)
        read = sum(one.request.input_tokens + one.generated for one in decodes)
        clock += step_time.seconds(prefill, reach / prefill if prefill else 0.0, len(decodes), read)
        for one, n in batch:
            one.computed += n
            if one.computed >= one.tokens:
                one.generated += 1
                one.first = one.first if one.generated > 1 else clock
                one.finish = clock
        running = [one for one in running if one.generated < one.request.output_tokens]
    return todo


@bounded
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 900), st.integers(1, 60), st.floats(0, 1), st.floats(0, 0.3)), min_size=1, max_size=25
    ),
    budget=st.sampled_from([32, 256, 2048]),
    sequences=st.sampled_from([1, 3, 32]),
    scarcity=st.sampled_from([1.0, 1.5, 4.0, 100.0]),
)
def test_a_leap_gives_what_single_iterations_give(
    sizes: list[tuple[int, int, float, float]], budget: int, sequences: int, scarcity: float
) -> None:
    clock, requests = 0.0, []
    for size, output, cached, gap in sizes:
        clock += gap
        requests.append(Request(clock, size, output, int(cached * (size - 1))))
    limits = Limits(budget, sequences, int(scarcity * max(r.input_tokens + r.output_tokens for r in requests)))
    for slow, fast in zip(iterated(STEP, limits, requests), replayed(STEP, limits, requests), strict=True):
        assert fast.request == slow.request
        assert (fast.first, fast.finish) == pytest.approx((slow.first, slow.finish), rel=1e-9)
        assert fast.preemptions == slow.preemptions


def test_the_first_token_comes_with_the_iteration_that_completes_the_prompt() -> None:
    [served] = replayed(STEP, Limits(400, 8, 100_000), [Request(1.0, 1000, 3)])
    prompt = STEP.seconds(400, 200, 0, 0) + STEP.seconds(400, 600, 0, 0) + STEP.seconds(200, 900, 0, 0)
    decode = STEP.seconds(0, 0, 1, 1001) + STEP.seconds(0, 0, 1, 1002)
    assert served.ttft == pytest.approx(prompt)
    assert served.tpot == pytest.approx(decode / 2)
    assert served.finish == pytest.approx(1 + prompt + decode)


def test_a_cached_prefix_is_read_but_not_computed() -> None:
    [served] = replayed(STEP, ROOMY, [Request(0.0, 1000, 1, cached_tokens=900)])
    assert served.finish == pytest.approx(STEP.seconds(100, 950, 0, 0))


def test_decodes_go_first_and_a_prompt_takes_what_is_left_of_the_budget() -> None:
    early, late = Request(0.0, 10, 50), Request(0.001, 100, 1)
    first, second = replayed(STEP, Limits(64, 8, 100_000), [early, late])
    one = STEP.seconds(10, 5, 0, 0)
    assert first.ttft == pytest.approx(one)
    assert second.first == pytest.approx(one + STEP.seconds(63, 31.5, 1, 11) + STEP.seconds(37, 81.5, 1, 12))


def test_the_latest_admitted_is_preempted_and_computed_again() -> None:
    requests = [Request(0.0, 100, 40), Request(0.0, 100, 40)]
    first, second = replayed(STEP, Limits(2048, 8, 250), requests)
    assert (first.preemptions, second.preemptions) == (0, 1)
    assert first.tpot < 0.1 and second.finish > first.finish
    again = replayed(STEP, Limits(2048, 8, 280 + 2 * HALF_BLOCK), requests)
    assert [one.preemptions for one in again] == [0, 0]


def test_nothing_overtakes_the_head_of_the_queue() -> None:
    requests = [Request(0.0, 300, 30), Request(0.0, 300, 5), Request(0.0, 10, 5)]
    _, large, small = replayed(STEP, Limits(2048, 8, 400), requests)
    assert small.first >= large.first


def test_a_replica_advances_no_further_than_the_iteration_that_is_asked_for() -> None:
    replica = Replica(STEP, ROOMY)
    replica.admit(Request(0.0, 100, 1000))
    replica.advance(0.5)
    longest = STEP.seconds(0, 0, 1, 1100)
    assert 0.5 <= replica.clock < 0.5 + longest
    assert replica.outstanding == 1
    [served] = replica.advance()
    [whole] = replayed(STEP, ROOMY, [Request(0.0, 100, 1000)])
    assert served.finish == pytest.approx(whole.finish, rel=1e-9)
    assert replica.outstanding == 0


def test_a_decode_replica_computes_one_token_of_the_prompt() -> None:
    [served] = replayed(STEP, ROOMY, [Request(0.0, 1000, 2, cached_tokens=999)])
    assert served.ttft == pytest.approx(STEP.seconds(1, 999.5, 0, 0))
