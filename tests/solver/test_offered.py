"""From traces, quantiles and counters to the offered load."""

from itertools import pairwise
from math import sqrt
from random import Random
from statistics import mean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_solver.offered import (
    Counts,
    Request,
    busiest_rate,
    histogram_of,
    histogram_of_quantiles,
    loads_counted,
    variability_of,
    workload_of,
)
from motley_solver.workload import Bucket, BucketLoad

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
    for edge in {bucket.input_tokens for bucket in found}:
        below = sum(weight for bucket, weight in found.items() if bucket.input_tokens <= edge)
        assert below >= max((p for p, size in columns.items() if size <= edge), default=0.0) - 1e-9
        assert below <= min((p for p, size in columns.items() if size > edge), default=1.0) + 1e-9
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


def test_counters_become_rates() -> None:
    before: Counts = {(1024, 128): 100.0, (64, 16): 7.0}
    after: Counts = {(1024, 128): 160.0, (64, 16): 7.0, (2048, 128): 30.0}
    assert loads_counted(before, after, 60.0) == (
        BucketLoad(Bucket(1024, 128), 1.0),
        BucketLoad(Bucket(2048, 128), 0.5),
    )


def test_a_counter_that_fell_counts_from_zero_and_one_that_is_gone_counts_nothing() -> None:
    before: Counts = {(1024, 128): 100.0, (64, 16): 7.0}
    assert loads_counted(before, {(1024, 128): 60.0}, 60.0) == (BucketLoad(Bucket(1024, 128), 1.0),)


def test_rejected_requests_are_offered_too() -> None:
    after: Counts = {(1024, 128): 30.0, (1024, None): 30.0}
    assert loads_counted({}, after, 60.0) == (BucketLoad(Bucket(1024, 128), 1.0),)


def test_no_requests_are_no_loads() -> None:
    assert loads_counted({(64, 16): 7.0}, {(64, 16): 7.0}, 60.0) == ()


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_counters_need_some_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        loads_counted({}, {(64, 16): 1.0}, seconds)


counts = st.dictionaries(
    st.tuples(st.sampled_from([64, 1024]), st.sampled_from([16, 512, 1024])),
    st.integers(0, 1000).map(float),
    max_size=6,
)


@some
@given(counts, counts, st.floats(0.1, 100.0))
def test_counters_lose_no_request(
    before: dict[tuple[int, int | None], float], grown: dict[tuple[int, int | None], float], seconds: float
) -> None:
    after = {key: before.get(key, 0.0) + grown.get(key, 0.0) for key in before | grown}
    total = sum(load.rate for load in loads_counted(before, after, seconds))
    assert total * seconds == pytest.approx(sum(grown.values()))
