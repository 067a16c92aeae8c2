"""The offered load, rejected requests included: from a trace, from quantiles, or from routers' counters.
It makes buckets of sizes and measures arrivals; it reads no files and asks no router."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, isfinite, log, sqrt
from typing import NamedTuple

from motley_solver.workload import (
    SMALLEST_INPUT,
    SMALLEST_OUTPUT,
    Bucket,
    Workload,
    edge,
    loads_of,
    merged,
)

WINDOW_SECONDS = 60.0  # within it the rate of arrivals is taken as constant
WINDOW_ARRIVALS = 30  # on average per window, else windows are longer
LEAST_SECONDS = 1e-3  # in which counters tell a rate
FEWEST_GAPS = 10  # fewer tell nothing of their variability

Counts = Mapping[tuple[int, int | None], float]
"""Requests by edge of input and of output; None: rejected, so that its output is unknown."""


class Request(NamedTuple):
    """One offered request of a trace. Without an output it was rejected."""

    input_tokens: int
    output_tokens: int | None
    cached_tokens: int = 0  # of the input: found in a prefix cache
    time: float | None = None  # seconds


def workload_of(trace: Sequence[Request], rate: float | None = None) -> Workload:
    """The load, reuse and variability of a trace, in any order. Without times its `rate` must be given, and its
    arrivals are taken as Poisson."""
    times = sorted(request.time for request in trace if request.time is not None)
    if rate is None:
        if len(times) < len(trace) or len(times) < 2 or times[0] == times[-1]:
            raise ValueError("trace: without the times of its requests its rate must be given")
        rate = (len(times) - 1) / (times[-1] - times[0])
    prompt = sum(request.input_tokens for request in trace)
    cached = sum(request.cached_tokens for request in trace)
    return Workload(
        loads_of(merged(histogram_of(trace)).items(), rate),
        prefix_reuse=cached / prompt if prompt else 0.0,
        variability=variability_of(times),
    )


def histogram_of(trace: Sequence[Request]) -> dict[Bucket, float]:
    """Requests by input and output, on the grid; its last edges are the longest input and output themselves."""
    most_input = max((request.input_tokens for request in trace), default=0)
    most_output = max((request.output_tokens or 0 for request in trace), default=0)
    counts: dict[tuple[int, int | None], float] = defaultdict(float)
    for request in trace:
        inputs, outputs, cached = request.input_tokens, request.output_tokens, request.cached_tokens
        if not 0 <= cached <= inputs or (outputs is not None and outputs < 0):
            raise ValueError(f"trace: {request} is no request")
        to = None if outputs is None else _edge(outputs, SMALLEST_OUTPUT, most_output)
        counts[_edge(inputs, SMALLEST_INPUT, most_input), to] += 1
    return _with_rejected(counts)


def _edge(tokens: float, smallest: int, most: float) -> int:
    return min(edge(tokens, smallest), max(1, ceil(most)))


def _with_rejected(counts: Counts) -> dict[Bucket, float]:
    """The rejected ones would have been as long as the served ones of the same input, or else as all of them are."""
    served = {Bucket(inputs, outputs): n for (inputs, outputs), n in counts.items() if outputs is not None and n > 0}
    found: dict[Bucket, float] = defaultdict(float, served)
    for inputs in [inputs for (inputs, outputs), n in counts.items() if outputs is None and n > 0]:
        alike = {bucket: n for bucket, n in served.items() if bucket.input_tokens == inputs} or served
        total = sum(alike.values())
        if not total:
            raise ValueError("every request was rejected: nothing is known of their outputs")
        for bucket, n in alike.items():
            found[Bucket(inputs, bucket.output_tokens)] += counts[inputs, None] * n / total
    return dict(found)


def variability_of(times: Iterable[float]) -> float:
    """Coefficient of variation of the times between arrivals, √(mean of the squares over short windows, by their
    gaps): a rate that drifts is no burst. A gap belongs to the window in which it begins. 1 where too few tell."""
    ordered = sorted(times)
    if len(ordered) <= FEWEST_GAPS or ordered[0] == ordered[-1]:
        return 1.0
    span = ordered[-1] - ordered[0]
    window = max(WINDOW_SECONDS, WINDOW_ARRIVALS * span / len(ordered))
    gaps: dict[int, list[float]] = defaultdict(list)
    for before, after in pairwise(ordered):
        gaps[int((before - ordered[0]) / window)].append(after - before)
    told = [found for found in gaps.values() if len(found) >= FEWEST_GAPS and sum(found) > 0]
    if not told:
        return 1.0
    return sqrt(sum(len(found) * _squared_variation(found) for found in told) / sum(len(found) for found in told))


def busiest_rate(times: Iterable[float]) -> float:
    """Requests per second in the busiest WINDOW_SECONDS, or in all of the time if that is shorter."""
    ordered = sorted(times)
    window = min(WINDOW_SECONDS, ordered[-1] - ordered[0])
    most = start = 0
    for end, time in enumerate(ordered):
        while time - ordered[start] >= window:
            start += 1
        most = max(most, end - start + 1)
    return most / window


def _squared_variation(gaps: list[float]) -> float:
    total = sum(gaps)
    return sum((gap / total * len(gaps) - 1) ** 2 for gap in gaps) / (len(gaps) - 1)


# --- from quantiles ---


def histogram_of_quantiles(inputs: Mapping[float, float], outputs: Mapping[float, float]) -> dict[Bucket, float]:
    """From tokens by probability, such as {0.5: 1000, 0.95: 4000, 1.0: 14000}; 1.0 is the largest and must be there.
    Assumed: input and output are independent, and between quantiles the logarithm of the size is spread evenly; below
    the lowest one down to lowest² / next, as far below it (in logarithms) as the next is above."""
    columns = _spread(inputs, SMALLEST_INPUT, "input")
    rows = _spread(outputs, SMALLEST_OUTPUT, "output")
    return {Bucket(i, o): a * b for i, a in columns.items() for o, b in rows.items()}


def _spread(quantiles: Mapping[float, float], smallest: int, name: str) -> dict[int, float]:
    """Probability by edge of the grid."""
    points = sorted(quantiles.items())
    sizes = [size for _, size in points]
    sound = all(0 <= p <= 1 for p, _ in points) and all(isfinite(size) and size >= 1 for size in sizes)
    if not sound or not points or points[-1][0] != 1 or sizes != sorted(sizes):
        raise ValueError(f"{name} quantiles: must rise with their probabilities up to 1.0, from 1 token on: {points}")
    if points[0][0] > 0:
        lowest = max(1.0, sizes[0] ** 2 / sizes[1]) if len(sizes) > 1 else sizes[0]
        points = [(0.0, lowest), *points]
    edges = [_edge(points[0][1], smallest, sizes[-1])]
    while edges[-1] < sizes[-1]:
        edges.append(_edge(edges[-1] + 1, smallest, sizes[-1]))
    below = [0.0, *(_probability(points, upper) for upper in edges)]
    return {upper: b - a for upper, (a, b) in zip(edges, pairwise(below), strict=True) if b > a}


def _probability(points: Sequence[tuple[float, float]], size: float) -> float:
    """Of a request of at most this size."""
    for (p, lower), (q, upper) in pairwise(points):
        if size < upper:
            return p + (q - p) * log(size / lower) / log(upper / lower) if size > lower else p
    return 1.0


# --- from counters ---


@dataclass(frozen=True)
class Counters:
    """What one router has counted of one Model since it started, or between two times."""

    seconds: float
    requests: Counts
    prompt_tokens: float = 0.0  # of the answers that told them
    cached_tokens: float = 0.0  # of these

    def since(self, earlier: "Counters") -> "Counters":
        """A router in which anything fell has started again in between: all of it came since then."""
        fell = self.seconds < earlier.seconds or any(
            self.requests.get(key, 0) < n for key, n in earlier.requests.items()
        )
        if fell:
            return self
        return Counters(
            self.seconds - earlier.seconds,
            {key: n - earlier.requests.get(key, 0) for key, n in self.requests.items()},
            self.prompt_tokens - earlier.prompt_tokens,
            self.cached_tokens - earlier.cached_tokens,
        )


def workload_counted(routers: Sequence[Counters], rate: float | None = None) -> Workload:
    """The load of all routers, each over its own time, and the reuse. Arrivals are taken as Poisson. ValueError where
    no time passed, nothing was offered, or all of it was rejected."""
    if any(router.seconds < LEAST_SECONDS for router in routers):
        raise ValueError("no time passed in between; count for longer")
    rates: dict[tuple[int, int | None], float] = defaultdict(float)
    sizes = {size for router in routers for size in router.requests}
    most_input = max((inputs for inputs, _ in sizes), default=0)
    most_output = max((outputs or 0 for _, outputs in sizes), default=0)
    for router in routers:
        for (inputs, outputs), n in router.requests.items():
            to = None if outputs is None else _edge(outputs, SMALLEST_OUTPUT, most_output)
            rates[_edge(inputs, SMALLEST_INPUT, most_input), to] += n / router.seconds
    histogram = _with_rejected(rates)
    if not histogram:
        raise ValueError("no request came in between; count for longer")
    prompt = sum(router.prompt_tokens for router in routers)
    cached = sum(router.cached_tokens for router in routers)
    return Workload(
        loads_of(merged(histogram).items(), sum(histogram.values()) if rate is None else rate),
        prefix_reuse=cached / prompt if prompt > 0 else 0.0,
    )


# --- within a context ---


def within(workload: Workload, context_length: int) -> Workload:
    """No request is longer than the context of its model, but the edges of its size may be: of such a size the larger
    one, input or output, gives way."""
    loads = ((_fitted(load.bucket, context_length), load.rate) for load in workload.loads)
    return replace(workload, loads=loads_of(loads, workload.rate))


def _fitted(bucket: Bucket, context_length: int) -> Bucket:
    inputs, outputs = (min(tokens, context_length - 1) for tokens in (bucket.input_tokens, bucket.output_tokens))
    if inputs >= outputs:
        return Bucket(min(inputs, context_length - outputs), outputs)
    return Bucket(inputs, min(outputs, context_length - inputs))
