"""Buckets, histograms and loads."""

from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_solver.workload import (
    MOST_BUCKETS,
    SMALLEST_INPUT,
    SMALLEST_OUTPUT,
    STEPS,
    Bucket,
    BucketLoad,
    Workload,
    edge,
    loads_of,
    merged,
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
    longest = max((b.input_tokens + b.output_tokens for b, weight in histogram.items() if weight), default=0)
    assert all(bucket.input_tokens + bucket.output_tokens <= longest for bucket in found)


def test_a_tiny_bucket_is_added_to_the_next_larger_output_of_its_input() -> None:
    histogram = {Bucket(64, 160): 0.5, Bucket(128, 160): 1000.0, Bucket(64, 208): 1000.0, Bucket(64, 16): 1000.0}
    assert merged(histogram) == {Bucket(128, 160): 1000.0, Bucket(64, 208): 1000.5, Bucket(64, 16): 1000.0}


def test_sizes_go_to_another_input_all_together_for_a_router_knows_no_more() -> None:
    """(64, 16) alone would cost less: the requests of 64 would then come to replicas planned for others."""
    rare = {Bucket(64, 16): 0.2, Bucket(64, 208): 0.2}
    histogram = rare | {Bucket(128, 16): 1000.0, Bucket(128, 256): 1000.0}
    assert merged(histogram) == {Bucket(128, 16): 1000.2, Bucket(128, 256): 1000.2}


@some
@given(histograms)
def test_the_input_of_a_request_tells_that_of_its_bucket(histogram: dict[Bucket, float]) -> None:
    """All requests of an input have gone to the smallest input that is left and holds them."""
    found = merged(histogram)
    left = sorted({bucket.input_tokens for bucket in found})
    expected: dict[int, float] = dict.fromkeys(left, 0.0)
    for bucket, weight in histogram.items():
        if weight > 0:
            expected[next(i for i in left if i >= bucket.input_tokens)] += weight
    for i in left:
        assert sum(weight for bucket, weight in found.items() if bucket.input_tokens == i) == pytest.approx(expected[i])


def test_inputs_of_which_none_holds_another_become_fewer_all_the_same() -> None:
    histogram = {Bucket(100 + n, 1000 - n): 1.0 for n in range(MOST_BUCKETS + 1)}
    histogram[Bucket(107, 993)] = 0.1
    found = merged(histogram)
    assert len(found) == MOST_BUCKETS
    assert found[Bucket(108, 993)] == pytest.approx(1.1)


def test_the_largest_grids_that_are_taken_are_merged_at_once() -> None:
    many = {Bucket(64 + i, 16 + j): 1.0 for i in range(75) for j in range(65)}
    started = process_time()
    assert len(merged(many)) == MOST_BUCKETS
    assert process_time() - started < 1.5


def test_a_bucket_of_few_requests_is_kept_where_a_larger_one_would_make_them_heavy() -> None:
    histogram = {Bucket(64, 16): 1000.0, Bucket(131_072, 64): 1.0, Bucket(1024, 8): 1000.0, Bucket(64, 4096): 1.0}
    assert merged(histogram) == histogram


def test_the_largest_bucket_stays_however_rare() -> None:
    histogram = {Bucket(64, 16): 1e9, Bucket(65_536, 16): 1e-6}
    assert merged(histogram) == histogram


def test_many_buckets_become_at_most_the_most() -> None:
    even = {Bucket(64 << i, 16 << j): 1.0 for i in range(12) for j in range(10)}
    found = merged(even)
    assert MOST_BUCKETS - 10 < len(found) <= MOST_BUCKETS
    assert sum(found.values()) == 120
