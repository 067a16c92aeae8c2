"""From traces, quantiles and counters to the offered load."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import sqrt
from random import Random
from statistics import mean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_solver.offered import (
    Counters,
    Request,
    busiest_rate,
    histogram_of,
    histogram_of_quantiles,
    variability_of,
    within,
    workload_counted,
    workload_of,
)
from motley_solver.workload import SMALLEST_INPUT, SMALLEST_OUTPUT, Bucket, BucketLoad, Workload, edge

some = settings(max_examples=60, deadline=None, derandomize=True, database=None)


requests = st.builds(
    lambda inputs, outputs, part: Request(inputs, outputs, int(inputs * part)),
    st.integers(0, 200_000),
    st.integers(0, 9000),
    st.sampled_from([0.0, 0.3, 1.0]),
)
traces = st.lists(requests, min_size=1, max_size=60)


# --- traces ---


@some
@given(traces)
def test_every_request_of_a_trace_is_in_a_bucket_that_holds_it(trace: list[Request]) -> None:
    histogram = histogram_of(trace)
    assert sum(histogram.values()) == len(trace)
    for one in trace:
        larger = sum(request.input_tokens >= one.input_tokens for request in trace)
        assert sum(n for bucket, n in histogram.items() if bucket.input_tokens >= one.input_tokens) >= larger
        longer = sum((request.output_tokens or 0) >= (one.output_tokens or 0) for request in trace)
        assert sum(n for bucket, n in histogram.items() if bucket.output_tokens >= (one.output_tokens or 0)) >= longer


def test_no_bucket_is_larger_than_the_largest_request() -> None:
    found = histogram_of([Request(14_050, 100), Request(300, 1000), Request(300, 20)])
    assert set(found) == {Bucket(14_050, 108), Bucket(305, 1000), Bucket(305, 20)}
    assert set(histogram_of([Request(0, 0)])) == {Bucket(1, 1)}


@some
@given(traces, st.randoms(use_true_random=False))
def test_the_order_of_a_trace_does_not_matter(trace: list[Request], random: Random) -> None:
    shuffled = random.sample(trace, len(trace))
    assert histogram_of(shuffled) == histogram_of(trace)
    assert workload_of(shuffled, 3.0) == workload_of(trace, 3.0)


def test_a_workload_says_rate_reuse_and_variability() -> None:
    trace = [Request(1000, 100, 250, float(second)) for second in range(101)]
    found = workload_of(trace)
    assert found.loads == (BucketLoad(Bucket(1000, 100), 1.0),)
    assert found.prefix_reuse == 0.25
    assert found.variability == 0.0


def test_without_times_the_rate_is_given_and_arrivals_are_poisson() -> None:
    trace = [Request(1000, 100)] * 20
    assert workload_of(trace, 5.0).loads == (BucketLoad(Bucket(1000, 100), 5.0),)
    assert workload_of(trace, 5.0).variability == 1.0
    with pytest.raises(ValueError, match="its rate must be given"):
        workload_of(trace)


@pytest.mark.parametrize(
    "trace", [[Request(-1, 5)], [Request(10, 5, 11)], [Request(10, -5)], [Request(10, 5, -1)]], ids=str
)
def test_a_request_that_cannot_be_is_refused(trace: list[Request]) -> None:
    with pytest.raises(ValueError, match="is no request"):
        histogram_of(trace)


def test_rejected_requests_count_as_the_served_ones_of_their_input() -> None:
    served = [Request(60, 10), Request(60, 10), Request(60, 100), Request(5000, 10)]
    found = histogram_of([*served, *[Request(50, None)] * 3])
    assert found == {Bucket(64, 16): 4.0, Bucket(64, 100): 2.0, Bucket(5000, 16): 1.0}


def test_rejected_requests_of_an_input_that_is_never_served_count_as_all_others() -> None:
    found = histogram_of([Request(60, 10), Request(60, 100), *[Request(5000, None)] * 2])
    assert found == {Bucket(64, 16): 1, Bucket(64, 100): 1, Bucket(5000, 16): 1.0, Bucket(5000, 100): 1.0}


def test_rejected_requests_alone_tell_no_outputs() -> None:
    with pytest.raises(ValueError, match="every request was rejected"):
        histogram_of([Request(60, None)])


# --- variability ---


def test_gaps_near_the_smallest_number_have_a_variability_like_others() -> None:
    for scale in (1e-3, 1e-200, 1e-310):
        assert variability_of(accumulate([scale, 3 * scale] * 20)) == pytest.approx(0.5, 0.01)
    assert variability_of([0.0] * 20 + [5e-324]) == pytest.approx(sqrt(20), 0.01)


def arrivals(rate: float, count: int, shape: float, seed: int = 1) -> list[float]:
    """Gamma-distributed gaps: their coefficient of variation is 1/√shape."""
    random, now, found = Random(seed), 0.0, []
    for _ in range(count):
        now += random.gammavariate(shape, 1 / (shape * rate))
        found.append(now)
    return found


@pytest.mark.parametrize("rate", [0.01, 3.0, 500.0])
@pytest.mark.parametrize("shape", [0.25, 1.0, 4.0])
def test_the_variability_of_a_renewal_process_is_found(rate: float, shape: float) -> None:
    assert variability_of(arrivals(rate, 20_000, shape)) == pytest.approx(1 / sqrt(shape), rel=0.08)


def test_a_rate_that_drifts_is_no_variability() -> None:
    day = arrivals(2.0, 2000, 1.0)
    rush = [day[-1] + at for at in arrivals(40.0, 20_000, 1.0)]
    times = [*day, *rush]
    gaps = [after - before for before, after in pairwise(times)]
    assert pstdev(gaps) / mean(gaps) > 2.0
    assert variability_of(times) == pytest.approx(1.0, rel=0.15)  # one window has both rates


def test_the_order_of_times_does_not_matter() -> None:
    times = arrivals(3.0, 500, 0.5)
    assert variability_of(times[::-1]) == variability_of(times)


def test_the_busiest_minute_is_found_wherever_it_begins() -> None:
    times = [float(second) for second in range(0, 600, 10)] + [330.0 + n for n in range(60)]
    assert busiest_rate(times[::-1]) == pytest.approx(66 / 60)


def test_of_less_than_a_minute_all_counts() -> None:
    assert busiest_rate([0.0, 1.0, 2.0, 3.0, 4.0]) == pytest.approx(1.0)


@pytest.mark.parametrize("times", [[], [1.0], [0.0, 1.0, 9.0], [5.0] * 50])
def test_too_few_arrivals_are_taken_as_poisson(times: list[float]) -> None:
    assert variability_of(times) == 1.0


# --- quantiles ---


@some
@given(
    st.lists(st.integers(1, 200_000), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 9000), min_size=1, max_size=4, unique=True),
)
def test_quantiles_become_a_histogram_that_has_them(inputs: list[int], outputs: list[int]) -> None:
    """The probability of at most an edge of the grid lies between those of the quantiles around it."""
    probabilities = [1.0, 0.95, 0.5, 0.3]
    columns = dict(zip(probabilities, sorted(inputs, reverse=True), strict=False))
    rows = dict(zip(probabilities, sorted(outputs, reverse=True), strict=False))
    found = histogram_of_quantiles(columns, rows)
    assert sum(found.values()) == pytest.approx(1.0)
    for upper in {bucket.input_tokens for bucket in found}:
        below = sum(weight for bucket, weight in found.items() if bucket.input_tokens <= upper)
        assert below >= max((p for p, size in columns.items() if size <= upper), default=0.0) - 1e-9
        assert below <= min((p for p, size in columns.items() if size > upper), default=1.0) + 1e-9
    assert max(bucket.input_tokens for bucket in found) == max(columns.values())
    assert max(bucket.output_tokens for bucket in found) == max(rows.values())


def test_between_quantiles_each_doubling_is_as_likely() -> None:
    """512 at ½ and 2048 at 1; below ½ down to 512²/2048 = 128."""
    found = histogram_of_quantiles({0.5: 512, 1.0: 2048}, {1.0: 20})
    below = {
        size: sum(n for bucket, n in found.items() if bucket.input_tokens <= size) for size in (256, 512, 1024, 2048)
    }
    assert below == pytest.approx({256: 0.25, 512: 0.5, 1024: 0.75, 2048: 1.0})
    assert {bucket.output_tokens for bucket in found} == {20}


@pytest.mark.parametrize(
    "quantiles", [{}, {0.5: 10}, {0.5: 10, 1.0: 5}, {1.0: 0}, {-0.1: 5, 1.0: 9}, {1.0: float("nan")}], ids=str
)
def test_quantiles_without_sense_are_refused(quantiles: dict[float, float]) -> None:
    with pytest.raises(ValueError, match="input quantiles"):
        histogram_of_quantiles(quantiles, {1.0: 20})


# --- counters ---


def counters(trace: Sequence[Request], seconds: float = 60.0) -> Counters:
    """As a router counts."""
    requests: dict[tuple[int, int | None], float] = defaultdict(float)
    for inputs, outputs, *_ in trace:
        requests[edge(inputs, SMALLEST_INPUT), None if outputs is None else edge(outputs, SMALLEST_OUTPUT)] += 1
    told = [request for request in trace if request.output_tokens is not None]
    prompt, cached = (sum(getattr(one, name) for one in told) for name in ("input_tokens", "cached_tokens"))
    return Counters(seconds, requests, prompt, cached)


LARGEST = Request(64 << 12, 16 << 10)
"""On the grid, so that counters and trace know the same largest size."""


@some
@given(st.lists(requests | st.integers(0, 200_000).map(lambda inputs: Request(inputs, None)), max_size=60))
def test_counters_tell_the_same_loads_as_the_trace(some_requests: list[Request]) -> None:
    trace = [LARGEST, *some_requests]
    of_trace, of_counters = workload_of(trace, len(trace) / 60), workload_counted([counters(trace)])
    assert [load.bucket for load in of_counters.loads] == [load.bucket for load in of_trace.loads]
    assert [load.rate for load in of_counters.loads] == pytest.approx([load.rate for load in of_trace.loads])
    served = [request for request in trace if request.output_tokens is not None]
    assert of_counters.prefix_reuse == pytest.approx(workload_of(served, 1.0).prefix_reuse)
    assert of_counters.variability == 1.0


def test_what_was_counted_before_does_not_count() -> None:
    before = Counters(100.0, {(1024, 128): 100.0, (64, 16): 7.0}, 5000.0, 100.0)
    after = Counters(160.0, {(1024, 128): 160.0, (64, 16): 7.0, (2048, None): 30.0}, 9000.0, 1100.0)
    since = after.since(before)
    assert since == Counters(60.0, {(1024, 128): 60.0, (64, 16): 0.0, (2048, None): 30.0}, 4000.0, 1000.0)
    found = workload_counted([since])
    assert found.loads == (BucketLoad(Bucket(1024, 128), 1.0), BucketLoad(Bucket(2048, 128), 0.5))
    assert found.prefix_reuse == 0.25


@pytest.mark.parametrize(
    "before",
    [
        Counters(100.0, {(64, 16): 5.0}),
        Counters(10.0, {(64, 16): 7.0}),
        Counters(10.0, {(64, 16): 1.0, (64, None): 1.0}),
    ],
    ids=["time", "requests", "gone"],
)
def test_where_anything_fell_the_router_has_started_again_and_all_counts(before: Counters) -> None:
    after = Counters(60.0, {(64, 16): 6.0}, 300.0, 30.0)
    assert after.since(before) == after


def test_each_router_counts_over_its_own_time() -> None:
    routers = [
        Counters(60.0, {(64, 16): 60.0}, 100.0, 50.0),
        Counters(10.0, {(64, 16): 5.0, (64, None): 5.0}, 300.0, 50.0),
        Counters(3.0, {}),
    ]
    found = workload_counted(routers)
    assert found.loads == (BucketLoad(Bucket(64, 16), 2.0),)
    assert found.prefix_reuse == 0.25
    assert workload_counted(routers, 7.0).rate == 7.0


@pytest.mark.parametrize(
    ("counted", "said"),
    [
        (Counters(0.0, {(64, 16): 1.0}), "no time passed"),
        (Counters(60.0, {}), "no request came"),
        (Counters(60.0, {(64, 16): 0.0}), "no request came"),
        (Counters(60.0, {(64, None): 3.0}), "every request was rejected"),
    ],
)
def test_counters_need_time_and_served_requests(counted: Counters, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        workload_counted([counted])


# --- within a context ---


def test_sizes_beyond_the_context_give_way_in_their_larger_half() -> None:
    loads = ((4096, 108), (305, 4096), (8192, 4096), (9000, 9000), (3000, 1000), (3988, 108))
    workload = Workload(tuple(BucketLoad(Bucket(*size), 1.0) for size in loads), 0.5, 2.0)
    assert within(workload, 4096) == Workload(
        (
            BucketLoad(Bucket(1, 4095), 2.0),
            BucketLoad(Bucket(305, 3791), 1.0),
            BucketLoad(Bucket(3000, 1000), 1.0),
            BucketLoad(Bucket(3988, 108), 2.0),
        ),
        0.5,
        2.0,
    )


@some
@given(traces, st.integers(16, 250_000))
def test_every_size_fits_in_the_context_and_no_request_is_lost(trace: list[Request], context: int) -> None:
    found = within(workload_of(trace, 3.0), context)
    assert all(load.bucket.input_tokens + load.bucket.output_tokens <= context for load in found.loads)
    assert all(min(load.bucket.input_tokens, load.bucket.output_tokens) >= 1 for load in found.loads)
    assert found.rate == pytest.approx(3.0)
