"""Request sizes and rates: size buckets on a grid, histograms, the load per bucket, shares that a router can use.
It knows no GPU and no model; where sizes come from is the affair of `offered` and of the caller."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from math import ceil, inf, isfinite, log2
from typing import TypeVar

SMALLEST_INPUT, SMALLEST_OUTPUT = 64, 16  # tokens; the first edges of the grid, which goes on without end
STEPS = 4
"""Edges per doubling. Tokens as planned over true tokens of five traces (Azure code and conversation, Mooncake, AIBrix,
arXiv) in at most MOST_BUCKETS: 1.34, 1.40, 1.47, 1.45 and 1.33 with one edge per doubling; 1.21, 1.19, 1.23, 1.23 and
1.19 with two; 1.18, 1.09, 1.17, 1.19 and 1.13 with four. With eight the merging takes back what is gained. Only sizes
that occur become buckets, so the one grid serves chat and prompts of 190,000 tokens (Mooncake)."""
TINY = 1e-3  # of all input plus of all output tokens
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
    """What is offered: rates by bucket of whole prompts and of outputs; the fraction of all prompt tokens that is found
    in a prefix cache; the coefficient of variation of the times between arrivals (1: Poisson)."""

    loads: tuple[BucketLoad, ...]
    prefix_reuse: float = 0.0
    variability: float = 1.0

    @property
    def rate(self) -> float:
        return sum(load.rate for load in self.loads)


# --- buckets ---


def edge(tokens: float, smallest: int) -> int:
    """The smallest of `smallest`·2^(k/STEPS), rounded up, k = 0, 1, …, that is at least `tokens`."""
    step = max(0, int(STEPS * log2(max(1.0, tokens / smallest))))
    while (found := ceil(smallest * 2 ** (step / STEPS))) < tokens:
        step += 1
    return found


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
    """With fewer buckets: one after the other is added to a larger one, always where that plans the fewest tokens more
    (as fractions of all input and of all output), until at most MOST_BUCKETS are left and the next would be more than
    TINY. A bucket that no other holds stays, however rare, unless there are more than MOST_BUCKETS of these: then two
    neighbours become one that holds both."""
    kept = {bucket: weight for bucket, weight in histogram.items() if weight > 0}
    larger = _Larger(kept)
    targets = {bucket: larger.nearest(bucket) for bucket in kept}
    heap = [(kept[bucket] * grown, bucket) for bucket, (grown, _) in targets.items()]
    heapify(heap)
    while heap:
        cost, bucket = heappop(heap)
        if targets[bucket][1] not in kept:
            targets[bucket] = larger.nearest(bucket)
        grown, target = targets[bucket]
        if kept[bucket] * grown > cost:  # what stands in the heap may be old, but a cost never falls
            heappush(heap, (kept[bucket] * grown, bucket))
            continue
        if grown == inf or (len(kept) <= MOST_BUCKETS and cost >= TINY):
            break
        kept[target] += kept.pop(bucket)
        larger.remove(bucket)
    while len(kept) > MOST_BUCKETS:
        left, right = min(pairwise(sorted(kept)), key=lambda pair: larger.grown_by_joining(kept, *pair))
        kept[Bucket(right.input_tokens, left.output_tokens)] = kept.pop(left) + kept.pop(right)
    return kept


class _Larger:
    """Buckets by input and, within, by output, so that few have to be looked at to find the nearest."""

    def __init__(self, weights: Histogram) -> None:
        self._all_inputs = sum(weight * bucket.input_tokens for bucket, weight in weights.items())
        self._all_outputs = sum(weight * bucket.output_tokens for bucket, weight in weights.items())
        self._outputs: dict[int, list[int]] = defaultdict(list)
        for bucket in sorted(weights):
            self._outputs[bucket.input_tokens].append(bucket.output_tokens)
        self._inputs = list(self._outputs)

    def remove(self, bucket: Bucket) -> None:
        self._outputs[bucket.input_tokens].remove(bucket.output_tokens)

    def nearest(self, small: Bucket) -> tuple[float, Bucket]:
        """The other bucket that holds it with the fewest tokens more, and these as a fraction; (∞, itself) if none."""
        found = (inf, small)
        for inputs in self._inputs[bisect_left(self._inputs, small.input_tokens) :]:
            more_input = (inputs - small.input_tokens) / self._all_inputs
            if more_input >= found[0]:
                break
            outputs = self._outputs[inputs]
            index = (bisect_right if inputs == small.input_tokens else bisect_left)(outputs, small.output_tokens)
            if index < len(outputs):
                more_output = (outputs[index] - small.output_tokens) / self._all_outputs
                found = min(found, (more_input + more_output, Bucket(inputs, outputs[index])))
        return found

    def grown_by_joining(self, weights: Histogram, left: Bucket, right: Bucket) -> float:
        more_input = weights[left] * (right.input_tokens - left.input_tokens) / self._all_inputs
        more_output = weights[right] * (left.output_tokens - right.output_tokens) / self._all_outputs
        return more_input + more_output


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
