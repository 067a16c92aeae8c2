"""The highest request rates at which replays attain their targets, of many engines and request sizes in a few sweeps.
It knows numbers of one replica only: no roles, buckets, prices or stock."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from math import floor, log

import numpy as np

from motley_solver.lanes import NEVER, Floats, Lanes, Sweep
from motley_solver.policy.batching import HALF_BLOCK, Limits
from motley_solver.steptime import StepTime

COUNTED = 400
"""Requests of a replay whose latencies count."""
LEAST_WARM, MOST_WARM, AFTER = 60, 300, 160
"""Requests before them, which fill the engine, and after them, which keep it loaded."""
SEED = 963
"""Of 1500 seeds the one whose COUNTED requests queue and crowd most like those of a long sequence, see bench."""
SATURATION = 0.9
"""Of the saturated throughput: a replay of some hundred requests does not show that a queue grows without end."""
SCALE = 1.06
"""Between the rates that can be found. All rates tried lie on one geometric scale, so that a looser target does not
find a lower one by rounding."""
SPAN = 48
"""Rates below the highest one: an SLO that holds only under a sixteenth of that is not met."""
BLOCK = 2048
"""Lanes of one sweep: what they remember fits in some tens of MB, and a sweep of fewer hardly takes less time."""
DEPTH = 7
"""Steps of the bisections that one sweep does at most: where there is room, with all rates that may be asked for."""


@dataclass(frozen=True)
class Case:
    """One replica under requests of one size, and its targets in seconds."""

    step_time: StepTime
    limits: Limits
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    ttft: float
    tpot: float
    attainment: float  # the fraction of requests that must meet both
    arrival_cv: float  # coefficient of variation of the times between arrivals

    @property
    def mean_context(self) -> float:
        """Tokens that a decoding sequence reads in the mean."""
        return self.input_tokens + self.output_tokens / 2


@dataclass(frozen=True)
class Saturation:
    """What a replica does when there is always a request waiting."""

    rate: float  # requests per second
    sequences: float  # decoding at once, in the mean


@lru_cache(maxsize=100_000)
def saturated(case: Case) -> Saturation:
    """Every iteration carries d decodes, which end d / (output − 1) requests, and the prompts of as many; d is the most
    that seats, KV cache (whole sequences of mean length, a tenth lost to preemption) and token budget allow."""
    between, tokens = case.output_tokens - 1, case.input_tokens - case.cached_tokens
    room = (case.limits.kv_tokens + HALF_BLOCK) / (case.mean_context + HALF_BLOCK)
    most = min(case.limits.sequences, max(1.0, min(floor(room), 0.9 * room)))
    if between:
        decodes = min(most, case.limits.batched_tokens / (1 + tokens / between))
        ended = decodes / between
    else:
        decodes, ended = 0.0, min(most, case.limits.batched_tokens / tokens)
    context = case.cached_tokens + tokens / 2
    seconds = case.step_time.seconds(ended * tokens, context, decodes, decodes * case.mean_context)
    return Saturation(ended / seconds, decodes)


@dataclass(frozen=True)
class Latency:
    """Seconds."""

    ttft: float
    tpot: float


def alone(case: Case) -> Latency:
    """Of a request on an idle engine: nothing is faster."""
    seconds, tokens, budget = case.step_time.seconds, case.input_tokens - case.cached_tokens, case.limits.batched_tokens
    full = (tokens - 1) // budget
    last = tokens - full * budget
    ttft = full * seconds(budget, case.cached_tokens + full * budget / 2, 0, 0)
    ttft += seconds(last, case.input_tokens - last / 2, 0, 0)
    return Latency(ttft, seconds(0, 0, 1, case.mean_context) if case.output_tokens > 1 else 0.0)


def best_effort_rate(case: Case) -> float:
    """What the replica bears when latency does not matter, on the scale of `highest_rates` and never below those."""
    return SCALE ** _top(case)


def _top(case: Case) -> int:
    return floor(log(SATURATION * saturated(case).rate) / log(SCALE))


@dataclass
class _Search:
    """Bisection for the highest exponent of SCALE whose rate attains; looser targets never lead to a lower one."""

    top: int
    low: int  # attains, or is below all that are tried
    high: int  # does not, or is above

    def middle(self) -> int:
        """The next to try; the highest of all is the first."""
        return self.top if self.high > self.top else (self.low + self.high) // 2

    @property
    def open(self) -> bool:
        return self.high - self.low > 1

    def after(self, attains: bool) -> "_Search":
        middle = self.middle()
        return _Search(self.top, middle, self.high) if attains else _Search(self.top, self.low, middle)

    def ahead(self, depth: int) -> list[int]:
        """All exponents that the next `depth` steps may try."""
        if not self.open or depth == 0:
            return []
        return [self.middle(), *self.after(True).ahead(depth - 1), *self.after(False).ahead(depth - 1)]


def highest_rates(cases: Sequence[Case]) -> list[float]:
    """Requests per second of each; 0 where even the lowest rate tried does not attain."""
    searches = [_Search(top, top - SPAN - 1, top + 1) for top in map(_top, cases)]
    while running := [index for index, search in enumerate(searches) if search.open]:
        probes = _probes(searches, running)
        attains = dict(zip(probes, _attaining(cases, probes), strict=True))
        for index in running:
            search = searches[index]
            while search.open and (index, search.middle()) in attains:
                search = search.after(attains[index, search.middle()])
            searches[index] = search
    return [SCALE**search.low if search.low >= search.top - SPAN else 0.0 for search in searches]


def _probes(searches: Sequence[_Search], running: Sequence[int]) -> list[tuple[int, int]]:
    """(case, exponent) of as many steps as one sweep has room for."""
    for depth in range(DEPTH, 0, -1):
        probes = [(index, mark) for index in running for mark in searches[index].ahead(depth)]
        if len(probes) <= BLOCK:
            break
    return probes


def _attaining(cases: Sequence[Case], probes: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each (case, mark) attains its targets."""
    attains = [False] * len(probes)
    for cv in sorted({case.arrival_cv for case in cases}):
        of_cv = [place for place, (index, _) in enumerate(probes) if cases[index].arrival_cv == cv]
        for start in range(0, len(of_cv), BLOCK):
            block = of_cv[start : start + BLOCK]
            lanes = _lanes([(cases[i], SCALE**mark) for i, mark in (probes[place] for place in block)])
            within = Sweep(lanes, arrivals(cv), MOST_WARM, MOST_WARM + COUNTED).run() <= lanes.allowed
            for place, good in zip(block, within.tolist(), strict=True):
                attains[place] = good
    return attains


def _lanes(probes: Sequence[tuple[Case, float]]) -> Lanes:
    rows = []
    for case, rate in probes:
        step, limit = case.step_time, saturated(case)
        warm = LEAST_WARM + 1.5 * limit.sequences * rate / limit.rate
        rows.append(
            (
                step.base, step.per_prefill_token, step.per_prefill_token_context, step.per_decode_sequence,
                step.per_context_token, step.weights, step.per_token, *astuple(case.limits), case.input_tokens,
                case.output_tokens, case.cached_tokens, 1 / rate, case.ttft, min(case.tpot, NEVER),
                MOST_WARM - min(MOST_WARM, int(warm)), floor((1 - case.attainment) * COUNTED + 1e-9),
            )
        )  # fmt: skip
    return Lanes(*np.array(rows, float).T.copy())


@lru_cache(maxsize=64)
def arrivals(cv: float) -> Floats:
    """Times of all requests of a replay at 1 per second in the mean, gamma distributed between; equal for all cases, so
    that they are compared under the same luck."""
    count = MOST_WARM + COUNTED + AFTER
    gaps = np.ones(count) if cv == 0 else np.random.RandomState(SEED).gamma(1 / cv**2, cv**2, count)
    return np.asarray(np.cumsum(gaps / gaps.mean()))
