"""Request sizes and rates: size buckets on a grid, histograms, the load per bucket, shares that a router can use.
It knows no GPU and no model; where sizes come from is the affair of `offered` and of the caller."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from typing import TypeVar

SMALLEST_INPUT, SMALLEST_OUTPUT = 64, 16  # tokens; the grid's edges are these and their doubles, without end
TINY = 1e-3  # of all requests, of all input and of all output tokens
MOST_BUCKETS = 60


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


Histogram = Mapping[Bucket, float]
"""Weights; only their proportions count."""


@dataclass(frozen=True)
class Workload:
    """What is offered: rates by bucket of *uncached* input and of output; the fraction of all prompt tokens that is
    found in a prefix cache; the coefficient of variation of the times between arrivals (1: Poisson)."""

    loads: tuple[BucketLoad, ...]
    prefix_reuse: float = 0.0
    variability: float = 1.0

    @property
    def rate(self) -> float:
        return sum(load.rate for load in self.loads)


# --- buckets ---


def edge(tokens: float, smallest: int) -> int:
    """The smallest of `smallest`, 2·`smallest`, 4·`smallest`, … that is at least `tokens`."""
    return smallest << max(0, ceil(tokens / smallest) - 1).bit_length()


def loads_of(histogram: Iterable[tuple[Bucket, float]], rate: float) -> tuple[BucketLoad, ...]:
    """The total `rate` (requests per second) shared out by weight; equal buckets are merged, empty ones dropped."""
    if not isfinite(rate) or rate < 0:
        raise ValueError(f"rate: must be a number of requests per second ≥ 0, not {rate}")
    weights: dict[Bucket, float] = defaultdict(float)
    for bucket, weight in histogram:
        if not isfinite(weight) or weight < 0:
            raise ValueError(f"histogram: the weight of {bucket} must be a number ≥ 0, not {weight}")
        weights[bucket] += weight
    total = sum(weights.values())
    if total <= 0:
        raise ValueError("histogram: at least one size must have a weight above 0")
    return tuple(BucketLoad(bucket, rate * weight / total) for bucket, weight in sorted(weights.items()) if weight > 0)


def merged(histogram: Histogram) -> dict[Bucket, float]:
    """Without tiny buckets: each is added to the next larger one, if it is tiny even there. What counts as tiny doubles
    from TINY until at most MOST_BUCKETS are left, or none can go."""
    tiny = TINY
    found = _merged(histogram, tiny)
    while len(found) > MOST_BUCKETS and tiny < 1:
        tiny *= 2
        found = _merged(histogram, tiny)
    return found


def _merged(histogram: Histogram, tiny: float) -> dict[Bucket, float]:
    kept = {bucket: weight for bucket, weight in histogram.items() if weight > 0}
    requests = tiny * sum(kept.values())
    inputs = tiny * sum(weight * bucket.input_tokens for bucket, weight in kept.items())
    outputs = tiny * sum(weight * bucket.output_tokens for bucket, weight in kept.items())
    for bucket in sorted(kept, key=_size):  # so that what is merged may be merged on
        weight = kept[bucket]
        larger = [b for b in kept if b != bucket and _holds(b, bucket)]
        target = min(larger, key=_size, default=bucket)
        tiny_there = weight * target.input_tokens < inputs and weight * target.output_tokens < outputs
        if target != bucket and weight < requests and tiny_there:
            kept[target] += kept.pop(bucket)
    return kept


def _size(bucket: Bucket) -> tuple[int, Bucket]:
    return bucket.input_tokens + bucket.output_tokens, bucket


def _holds(large: Bucket, small: Bucket) -> bool:
    return large.input_tokens >= small.input_tokens and large.output_tokens >= small.output_tokens


def without_cached(histogram: Histogram, prefix_reuse: float) -> dict[Bucket, float]:
    """A histogram of whole prompts as one of uncached input, if this fraction of every prompt is found in the cache."""
    if not 0 <= prefix_reuse < 1:
        raise ValueError(f"prefix reuse: must be a fraction from 0 to below 1, not {prefix_reuse}")
    found: dict[Bucket, float] = defaultdict(float)
    for bucket, weight in histogram.items():
        uncached = max(1, ceil(bucket.input_tokens * (1 - prefix_reuse)))
        found[Bucket(uncached, bucket.output_tokens)] += weight
    return dict(found)


# --- to routes ---

_Target = TypeVar("_Target", bound=Hashable)


def routable(
    loads: Iterable[BucketLoad], shares: Mapping[Bucket, Mapping[_Target, float]]
) -> dict[Bucket, dict[_Target, float]]:
    """Shares by (input, expected output) from shares by (input, output), for a router that knows of a new request its
    input and the mean output of such inputs, or a lower limit that the client set.

    The mean lies between the output edges' mean and that of the edges below them. Every bucket of this input above the
    lower of both may be asked for a request of any length, so it gets the mean of all shares by rate: each target has
    as many requests as planned. Buckets below it are met only by requests known to be that short: as planned."""
    rates: dict[int, dict[Bucket, float]] = defaultdict(dict)
    for load in loads:
        if load.bucket in shares:
            rates[load.bucket.input_tokens][load.bucket] = load.rate
    found: dict[Bucket, dict[_Target, float]] = {}
    for buckets in rates.values():
        mean = _mean_shares(buckets, shares)
        expected = _least_expected(buckets)
        for bucket in buckets:
            found[bucket] = mean if bucket.output_tokens >= expected else dict(shares[bucket])
    return found


def _mean_shares(
    rates: Mapping[Bucket, float], shares: Mapping[Bucket, Mapping[_Target, float]]
) -> dict[_Target, float]:
    total = sum(rates.values())
    mean: dict[_Target, float] = defaultdict(float)
    for bucket, rate in rates.items():
        for target, share in shares[bucket].items():
            mean[target] += share * (rate / total if total else 1 / len(rates))
    return dict(mean)


def _least_expected(rates: Mapping[Bucket, float]) -> float:
    """The mean output if every request is as short as its bucket allows."""
    edges = [0, *sorted(bucket.output_tokens for bucket in rates)]
    total = sum(rates.values())
    below = dict(zip(edges[1:], edges, strict=False))
    return sum(rate * below[b.output_tokens] for b, rate in rates.items()) / total if total else 0.0
