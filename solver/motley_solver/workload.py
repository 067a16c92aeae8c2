"""Request sizes and rates: size buckets on a grid, histograms, the load per bucket.
It knows no GPU and no model; where sizes come from is the affair of `offered` and of the caller."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from math import ceil, inf, isfinite, log2

SMALLEST_INPUT, SMALLEST_OUTPUT = 64, 16  # tokens; the first edges of the grid, which goes on without end
STEPS = 4
"""Edges per doubling. Tokens as planned over true tokens of five traces (Azure code and conversation, Mooncake, AIBrix,
arXiv) in at most MOST_BUCKETS: 1.38, 1.40, 1.48, 1.45 and 1.34 with one edge per doubling; 1.22, 1.18, 1.23, 1.23 and
1.19 with two; 1.22, 1.10, 1.19, 1.22 and 1.11 with four; 1.20, 1.09, 1.19, 1.22 and 1.09 with eight. Only sizes that
occur become buckets, so the one grid serves chat and prompts of 190,000 tokens (Mooncake)."""
TINY = 1e-3  # of all input plus of all output tokens
MOST_BUCKETS = 60
_INPUTS = (4, 6, 8, 12, 16, 24, 32, 48)  # how many inputs are tried


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
    """With at most MOST_BUCKETS buckets, and without those whose requests may as well count as larger ones (TINY).

    Sizes of one input are added to larger ones of the same input, or all together to the next input: so the input of a
    request still tells that of its bucket, and a router, which knows no outputs, sends it where it is planned. Of
    several numbers of inputs the one that plans the fewest tokens more, as fractions of all input and of all output. No
    bucket is larger than the largest there was, unless inputs alone are more than MOST_BUCKETS."""
    kept = {bucket: weight for bucket, weight in histogram.items() if weight > 0}
    inputs = sum(weight * bucket.input_tokens for bucket, weight in kept.items())
    outputs = sum(weight * bucket.output_tokens for bucket, weight in kept.items())
    tries = [_with_outputs_merged(_with_inputs_merged(kept, most, inputs), outputs) for most in _INPUTS]
    return min(
        tries,
        key=lambda found: sum(
            weight * (bucket.input_tokens / inputs + bucket.output_tokens / outputs) for bucket, weight in found.items()
        ),
    )


def _with_inputs_merged(histogram: Histogram, most: int, inputs: float) -> dict[Bucket, float]:
    """Always the input that costs least is given up, until at most so many are left and the next is above TINY."""
    rows: dict[int, dict[int, float]] = defaultdict(dict)  # by input, then by output
    for bucket, weight in histogram.items():
        rows[bucket.input_tokens][bucket.output_tokens] = weight
    longest = max((i + o for i, row in rows.items() for o in row), default=0)
    while len(rows) > 1:
        costs = [
            ((above - i) * sum(rows[i].values()) / inputs, i, above)
            for i, above in pairwise(sorted(rows))
            if above + max(rows[i]) <= longest or len(rows) > MOST_BUCKETS
        ]
        cost, i, above = min(costs, default=(inf, 0, 0))
        if cost == inf or (len(rows) <= most and cost >= TINY):
            break
        for o, weight in rows.pop(i).items():
            rows[above][o] = rows[above].get(o, 0.0) + weight
    return {Bucket(i, o): weight for i, row in rows.items() for o, weight in row.items()}


def _with_outputs_merged(histogram: dict[Bucket, float], outputs: float) -> dict[Bucket, float]:
    """The same for outputs, each added to the next larger one of its input."""
    larger = {one: other for one, other in pairwise(sorted(histogram)) if one.input_tokens == other.input_tokens}
    smaller = {other: one for one, other in larger.items()}

    def cost(bucket: Bucket) -> tuple[float, Bucket]:
        return (larger[bucket].output_tokens - bucket.output_tokens) * histogram[bucket] / outputs, bucket

    steps = [cost(bucket) for bucket in larger]
    heapify(steps)
    while steps:
        step = heappop(steps)
        bucket = step[1]
        if bucket not in histogram:
            continue
        if cost(bucket) != step:  # dearer by now
            heappush(steps, cost(bucket))
        elif step[0] >= TINY and len(histogram) <= MOST_BUCKETS:
            break
        else:
            histogram[larger[bucket]] += histogram.pop(bucket)
            if bucket in smaller:
                larger[smaller[bucket]] = larger[bucket]
                smaller[larger[bucket]] = smaller[bucket]
    return histogram
