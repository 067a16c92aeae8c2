"""Buckets, histograms, loads, and shares that a router can use."""

import time
from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_solver.workload import (
    MOST_BUCKETS,
    SMALLEST_INPUT,
    SMALLEST_OUTPUT,
    STEPS,
    TINY,
    Bucket,
    BucketLoad,
    Workload,
    edge,
    loads_of,
    merged,
    routable,
)

SMALL, LARGE = Bucket(100, 50), Bucket(1000, 50)
some = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def test_the_rate_is_shared_by_weight_and_equal_buckets_are_merged() -> None:
    assert loads_of([(LARGE, 1), (SMALL, 2), (SMALL, 1), (Bucket(5, 5), 0)], 8.0) == (
        BucketLoad(SMALL, 6.0),
        BucketLoad(LARGE, 2.0),
    )


def test_no_traffic_keeps_its_buckets() -> None:
    assert loads_of([(SMALL, 1)], 0.0) == (BucketLoad(SMALL, 0.0),)


def test_a_workloads_rate_is_that_of_its_buckets() -> None:
    assert Workload(loads_of([(SMALL, 1), (LARGE, 2)], 3.0)).rate == pytest.approx(3.0)


@pytest.mark.parametrize("histogram", [[], [(SMALL, 0.0)], [(SMALL, -1.0)], [(SMALL, float("nan"))]])
def test_a_histogram_without_sense_is_refused(histogram: list[tuple[Bucket, float]]) -> None:
    with pytest.raises(ValueError, match="histogram"):
        loads_of(histogram, 1.0)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_a_rate_without_sense_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        loads_of([(SMALL, 1)], rate)


@pytest.mark.parametrize(
    ("tokens", "found"),
    [(0, 64), (64, 64), (64.5, 77), (77, 77), (78, 91), (92, 108), (109, 128), (129, 153), (100_000, 110_218)],
)
def test_four_edges_make_a_doubling(tokens: float, found: int) -> None:
    assert edge(tokens, SMALLEST_INPUT) == found


@some
@given(st.integers(0, 10**7))
def test_an_edge_holds_its_tokens_and_is_no_larger_than_it_must_be(tokens: int) -> None:
    found = edge(tokens, SMALLEST_OUTPUT)
    assert tokens <= found
    assert found == SMALLEST_OUTPUT or found < tokens * 2 ** (1 / STEPS) + 1
    assert edge(found, SMALLEST_OUTPUT) == found


sizes = st.builds(Bucket, st.sampled_from([64 << n for n in range(12)]), st.sampled_from([16 << n for n in range(10)]))
weights = st.sampled_from([0.0, 1e-6, 1e-4, 0.01, 1.0, 30.0])
histograms = st.dictionaries(sizes, weights, min_size=1, max_size=80)


def beyond(histogram: dict[Bucket, float], inputs: int, outputs: int) -> float:
    """The weight of the buckets that hold such a request."""
    return sum(n for b, n in histogram.items() if b.input_tokens >= inputs and b.output_tokens >= outputs)


@some
@given(histograms)
def test_merging_loses_no_request_and_makes_none_smaller(histogram: dict[Bucket, float]) -> None:
    found = merged(histogram)
    assert sum(found.values()) == pytest.approx(sum(histogram.values()))
    for bucket in histogram:
        before = beyond(histogram, bucket.input_tokens, bucket.output_tokens)
        assert beyond(found, bucket.input_tokens, bucket.output_tokens) >= before * (1 - 1e-9)
    assert set(found) <= set(histogram)


def test_a_tiny_bucket_is_added_to_the_one_that_makes_the_fewest_tokens_more() -> None:
    """64 input tokens more are more of all input than 48 output tokens of all output."""
    histogram = {Bucket(64, 160): 0.5, Bucket(128, 160): 1000.0, Bucket(64, 208): 1000.0, Bucket(64, 16): 1000.0}
    assert merged(histogram) == {Bucket(128, 160): 1000.0, Bucket(64, 208): 1000.5, Bucket(64, 16): 1000.0}


def test_a_bucket_of_few_requests_is_kept_where_a_larger_one_would_make_them_heavy() -> None:
    histogram = {Bucket(64, 16): 0.5, Bucket(131_072, 64): 1.0, Bucket(1024, 8): 1000.0}
    assert merged(histogram) == histogram


def test_the_largest_bucket_stays_however_rare() -> None:
    histogram = {Bucket(64, 16): 1e9, Bucket(65_536, 16): 1e-6}
    assert merged(histogram) == histogram


def test_many_buckets_become_at_most_the_most() -> None:
    even = {Bucket(64 << i, 16 << j): 1.0 for i in range(12) for j in range(10)}
    found = merged(even)
    assert MOST_BUCKETS - 5 < len(found) <= MOST_BUCKETS
    assert sum(found.values()) == 120


@some
@given(histograms)
def test_merging_takes_the_cheapest_step_each_time(histogram: dict[Bucket, float]) -> None:
    kept = {bucket: weight for bucket, weight in histogram.items() if weight > 0}
    inputs = sum(weight * bucket.input_tokens for bucket, weight in kept.items())
    outputs = sum(weight * bucket.output_tokens for bucket, weight in kept.items())
    while True:
        steps = [
            (kept[small] * grown, small, grown, large)
            for small in kept
            for large in kept
            if large != small
            and large.input_tokens >= small.input_tokens
            and large.output_tokens >= small.output_tokens
            for grown in [
                (large.input_tokens - small.input_tokens) / inputs
                + (large.output_tokens - small.output_tokens) / outputs
            ]
        ]
        cost, small, _, large = min(steps, default=(inf, None, inf, None))
        if small is None or large is None or (len(kept) <= MOST_BUCKETS and cost >= TINY):
            break
        kept[large] += kept.pop(small)
    assert merged(histogram) == kept


GRID = [
    Bucket(edge(2**i, 64), edge(2**j, 16))
    for i in (n / STEPS for n in range(24, 94))
    for j in (n / STEPS for n in range(16, 80))
]


@pytest.mark.parametrize(
    "weight_of",
    [
        lambda bucket: 1.0,
        lambda bucket: 1.0 / (bucket.input_tokens + 10 * bucket.output_tokens) ** 2,
        lambda bucket: bucket.output_tokens / bucket.input_tokens,
        lambda bucket: 1e9 if hash(bucket) % 2 else 1e-9,
    ],
    ids=["even", "few large", "long outputs", "at random"],
)
def test_every_size_that_a_model_takes_is_merged_within_a_second(weight_of: Callable[[Bucket], float]) -> None:
    histogram = {bucket: weight_of(bucket) for bucket in GRID}
    started = time.process_time()
    found = merged(histogram)
    assert time.process_time() - started < 1
    assert len(histogram) > 4000 and len(found) <= MOST_BUCKETS
    assert sum(found.values()) == pytest.approx(sum(histogram.values()))


def test_sizes_of_which_none_holds_another_are_joined_with_their_neighbours() -> None:
    """The two rarest and closest become one that holds both."""
    histogram = {Bucket(100 + n, 1000 - n): 1.0 for n in range(MOST_BUCKETS + 1)}
    histogram[Bucket(107, 993)] = histogram[Bucket(108, 992)] = 0.1
    found = merged(histogram)
    assert len(found) == MOST_BUCKETS
    assert set(found) - set(histogram) == {Bucket(108, 993)}
    assert found[Bucket(108, 993)] == pytest.approx(0.2)


def test_inputs_whose_output_is_unknown_get_the_mean_of_the_shares() -> None:
    """Mean output between 100·¼ and 100·¼ + 400·¾: only requests known to have at most 16 tokens are told apart."""
    loads = [BucketLoad(Bucket(1000, 16), 1.0), BucketLoad(Bucket(1000, 100), 1.0), BucketLoad(Bucket(1000, 400), 2.0)]
    shares = {
        Bucket(1000, 16): {"L4": 1.0},
        Bucket(1000, 100): {"L4": 0.6, "H100": 0.4},
        Bucket(1000, 400): {"H100": 1.0},
    }
    assert routable(loads, shares) == {
        Bucket(1000, 16): {"L4": 1.0},
        Bucket(1000, 100): pytest.approx({"L4": 0.4, "H100": 0.6}),
        Bucket(1000, 400): pytest.approx({"L4": 0.4, "H100": 0.6}),
    }


def test_other_inputs_keep_their_own_shares() -> None:
    shares = {SMALL: {"L4": 1.0}, LARGE: {"H100": 1.0}}
    assert routable([BucketLoad(SMALL, 1.0), BucketLoad(LARGE, 1.0)], shares) == shares


def test_sizes_without_traffic_share_evenly_and_sizes_without_a_route_stay_without() -> None:
    loads = [BucketLoad(SMALL, 0.0), BucketLoad(Bucket(100, 90), 0.0), BucketLoad(LARGE, 1.0)]
    shares = {SMALL: {"L4": 1.0}, Bucket(100, 90): {"H100": 1.0}}
    assert routable(loads, shares) == {bucket: {"L4": 0.5, "H100": 0.5} for bucket in shares}


@some
@given(st.dictionaries(sizes, st.tuples(st.floats(0, 10), st.floats(0, 1), st.floats(0, 1)), max_size=30))
def test_each_target_gets_as_many_requests_of_an_input_as_planned(
    planned: dict[Bucket, tuple[float, float, float]],
) -> None:
    """All requests of an input are asked for with an output at which the shares are the mean ones."""
    loads = [BucketLoad(bucket, rate) for bucket, (rate, _, _) in planned.items()]
    found = routable(loads, {bucket: {"a": a, "b": b} for bucket, (_, a, b) in planned.items()})
    assert set(found) == set(planned)
    for inputs in {bucket.input_tokens for bucket in planned}:
        row = {bucket: given for bucket, given in planned.items() if bucket.input_tokens == inputs}
        longest = found[max(row)]
        total = sum(rate for rate, _, _ in row.values())
        for target, index in (("a", 1), ("b", 2)):
            wanted = sum(given[0] * given[index] for given in row.values())
            assert longest[target] * total == pytest.approx(wanted)
