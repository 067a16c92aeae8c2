"""Histograms to loads."""

import pytest

from motley_solver.workload import Bucket, BucketLoad, bucket_for, loads_of

SMALL, LARGE = Bucket(100, 50), Bucket(1000, 50)


def test_the_rate_is_shared_by_weight_and_equal_buckets_are_merged() -> None:
    assert loads_of([(LARGE, 1), (SMALL, 2), (SMALL, 1), (Bucket(5, 5), 0)], 8.0) == (
        BucketLoad(SMALL, 6.0),
        BucketLoad(LARGE, 2.0),
    )


def test_no_traffic_keeps_its_buckets() -> None:
    assert loads_of([(SMALL, 1)], 0.0) == (BucketLoad(SMALL, 0.0),)


@pytest.mark.parametrize("histogram", [[], [(SMALL, 0.0)], [(SMALL, -1.0)], [(SMALL, float("nan"))]])
def test_a_histogram_without_sense_is_refused(histogram: list[tuple[Bucket, float]]) -> None:
    with pytest.raises(ValueError, match="histogram"):
        loads_of(histogram, 1.0)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_a_rate_without_sense_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        loads_of([(SMALL, 1)], rate)


def test_a_request_belongs_to_the_smallest_bucket_that_holds_it() -> None:
    buckets = [LARGE, SMALL, Bucket(1000, 500)]
    assert bucket_for(buckets, 100, 50) == SMALL
    assert bucket_for(buckets, 101, 10) == LARGE
    assert bucket_for(buckets, 10, 60) == Bucket(1000, 500)
    assert bucket_for(buckets, 2000, 1) is None
