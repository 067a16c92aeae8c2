"""Request sizes and rates: a size bucket, a weighted histogram, the load per bucket.
It knows no GPU and no model; where sizes come from (declared, traced) is the caller's affair."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, order=True)
class Bucket:
    """A class of request sizes, named by its upper edges: planning with the edge is never too optimistic."""

    input_tokens: int
    output_tokens: int

    def __str__(self) -> str:
        return f"{self.input_tokens}+{self.output_tokens}"


@dataclass(frozen=True)
class BucketLoad:
    bucket: Bucket
    rate: float  # requests per second


def loads_of(histogram: Iterable[tuple[Bucket, float]], rate: float) -> tuple[BucketLoad, ...]:
    """The total `rate` (requests per second) shared out by weight; equal buckets are merged, empty ones dropped."""
    if not isfinite(rate) or rate < 0:
        raise ValueError(f"rate: must be a number of requests per second ≥ 0, not {rate}")
    weights: dict[Bucket, float] = {}
    for bucket, weight in histogram:
        if not isfinite(weight) or weight < 0:
            raise ValueError(f"histogram: the weight of {bucket} must be a number ≥ 0, not {weight}")
        weights[bucket] = weights.get(bucket, 0.0) + weight
    total = sum(weights.values())
    if total <= 0:
        raise ValueError("histogram: at least one size must have a weight above 0")
    return tuple(BucketLoad(bucket, rate * weight / total) for bucket, weight in sorted(weights.items()) if weight > 0)


def bucket_for(buckets: Iterable[Bucket], input_tokens: int, output_tokens: int) -> Bucket | None:
    """The smallest bucket that holds such a request; None when it is larger than all of them."""
    fitting = [b for b in buckets if b.input_tokens >= input_tokens and b.output_tokens >= output_tokens]
    return min(fitting, key=lambda b: (b.input_tokens + b.output_tokens, b), default=None)
