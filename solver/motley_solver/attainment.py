"""The highest request rates at which replays attain their targets, of many engines and request sizes in a few sweeps.
It knows numbers of one replica only: no roles, buckets, prices or stock."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from math import exp, floor, log

import numpy as np

from motley_solver.lanes import Floats, Lanes
from motley_solver.policy.batching import HALF_BLOCK, Limits
from motley_solver.steptime import StepTime
from motley_solver.sweep import NEVER, Sweep

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
"""Lanes side by side: what they remember fits in some tens of MB."""
ROOM = 500
"""Cases from which on no rate is tried before it is known to be needed."""
CHANCES = (0.0, *accumulate([0.6, *(0.1 / below for below in range(2, SPAN + 2)), 0.05]))
"""How often the answer is less far below the highest rate than this, roughly; the last step is for none."""


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


def _guess(case: Case) -> int:
    """How many steps of SCALE below the highest rate the answer is, by latencies at saturation against their targets;
    the numbers fit the models of bench/control_plane.py. It decides what is tried early, never what is found."""
    limit = saturated(case)
    iteration = limit.sequences / limit.rate / max(1, case.output_tokens - 1)
    ttft = alone(case).ttft + iteration + 10 / limit.rate
    return round(10 * log(max(ttft / max(case.ttft, 1e-3), iteration / case.tpot) / 1.4))


@dataclass
class _Search:
    """For the highest rate that attains, by bisection. Rates are told by how many steps of SCALE they lie below the
    highest one."""

    guess: int
    attains: int = SPAN + 1  # the least step that is known to, or one more than all
    fails: int = -1  # the last that is known not to
    known: dict[int, bool | None] = field(default_factory=dict)  # None while it is being tried

    @property
    def open(self) -> bool:
        return self.attains - self.fails > 1

    def needs(self, step: int) -> bool:
        return self.fails < step < self.attains

    def learn(self, step: int, attains: bool) -> None:
        self.known[step] = attains
        while self.open and (verdict := self.known.get(middle := _middle(self.attains, self.fails))) is not None:
            self.attains, self.fails = (middle, self.fails) if verdict else (self.attains, middle)

    def ahead(self, least: float) -> list[int]:
        """What is not being tried yet of all that is needed with a chance of at least so much."""
        new = [step for step in _ahead(self.attains, self.fails, self.guess, least) if step not in self.known]
        self.known.update(dict.fromkeys(new))
        return new


@lru_cache(maxsize=10_000)
def _middle(attains: int, fails: int) -> int:
    """The next to try: it halves the chances. Looser targets never lead to a lower rate, for it depends on no case."""
    return min(range(fails + 1, attains), key=lambda one: abs(_chance(attains, fails, one) - 0.5))


def _chance(attains: int, fails: int, step: int) -> float:
    return (CHANCES[step + 1] - CHANCES[fails + 1]) / (CHANCES[attains + 1] - CHANCES[fails + 1])


@lru_cache(maxsize=10_000)
def _ahead(attains: int, fails: int, guess: int, least: float, chance: float = 1.0) -> tuple[int, ...]:
    if attains - fails == 1 or chance < least:
        return ()
    step = _middle(attains, fails)
    good = chance * (_chance(attains, fails, step) + 1 / (1 + exp((guess - step) / 2))) / 2
    return step, *_ahead(step, fails, guess, least, good), *_ahead(attains, step, guess, least, chance - good)


def highest_rates(cases: Sequence[Case]) -> list[float]:
    """Requests per second of each; 0 where even the lowest rate tried does not attain."""
    rates: dict[Case, float] = {}
    for cv in sorted({case.arrival_cv for case in cases}):
        of_cv = [case for case in dict.fromkeys(cases) if case.arrival_cv == cv]
        steps = (search.attains for search in _searched(of_cv, cv))
        rates |= {c: SCALE ** (_top(c) - step) if step <= SPAN else 0.0 for c, step in zip(of_cv, steps, strict=True)}
    return [rates[case] for case in cases]


def _searched(cases: Sequence[Case], cv: float) -> list[_Search]:
    """In one sweep. A lane that ends makes room for the next, and where there is much room, rates are tried of which it
    is not known yet whether they are needed: few lanes take nearly as long as many."""
    sweep = Sweep(arrivals(cv), MOST_WARM, MOST_WARM + COUNTED, min(BLOCK, 4 * len(cases)))
    lanes_of, allowed = _lanes_of(cases), [_allowed(case) for case in cases]
    searches = [_Search(_guess(case)) for case in cases]
    running: dict[int, tuple[int, int]] = {}  # case and step, by slot
    queue: deque[tuple[int, int]] = deque()
    changed = set(range(len(cases)))
    unsettled = changed.copy()
    while True:
        unsettled -= {index for index in changed if not searches[index].open}
        least = min(1.0, len(unsettled) / ROOM)
        for index in sorted(changed, reverse=True):
            queue.extendleft((index, step) for step in reversed(searches[index].ahead(least)))
        probes: list[tuple[int, int]] = []
        while queue and len(probes) < len(sweep.free):
            index, step = queue.popleft()
            if searches[index].needs(step):
                probes.append((index, step))
        if probes:
            running |= zip(sweep.add(lanes_of(probes)).tolist(), probes, strict=True)
        if not running:
            return searches
        changed = set()
        for slot, misses in zip(*(ended.tolist() for ended in sweep.run()), strict=True):
            index, step = running.pop(slot)
            searches[index].learn(step, misses <= allowed[index])
            changed.add(index)
        sweep.drop([slot for slot, (index, step) in running.items()
                    if index in changed and not searches[index].needs(step)])  # fmt: skip


def _allowed(case: Case) -> int:
    """Requests that may miss a target."""
    return floor((1 - case.attainment) * COUNTED + 1e-9)


def _lanes_of(cases: Sequence[Case]) -> Callable[[Sequence[tuple[int, int]]], Lanes]:
    """Of (case, steps below its highest rate) each."""
    rows = [
        (
            one.step_time.base, one.step_time.per_prefill_token, one.step_time.per_prefill_token_context,
            one.step_time.per_decode_sequence, one.step_time.per_context_token, one.step_time.weights,
            one.step_time.per_token, one.limits.batched_tokens, one.limits.sequences, one.limits.kv_tokens,
            one.input_tokens, one.output_tokens, one.cached_tokens, one.ttft, min(one.tpot, NEVER),
            _allowed(one), 1.5 * saturated(one).sequences / saturated(one).rate,
        )
        for one in cases
    ]  # fmt: skip
    table, tops = np.array(rows, float).T, np.array([_top(case) for case in cases], float)

    def lanes(probes: Sequence[tuple[int, int]]) -> Lanes:
        indices, steps = np.array(probes).T
        *engine, ttft, tpot, allowed, fills = table[:, indices]
        rate = SCALE ** (tops[indices] - steps)
        start = MOST_WARM - np.minimum(MOST_WARM, np.floor(LEAST_WARM + fills * rate))
        return Lanes(*(*engine, 1 / rate, ttft, tpot, start, allowed))

    return lanes


@lru_cache(maxsize=64)
def arrivals(cv: float) -> Floats:
    """Times of all requests of a replay at 1 per second in the mean, gamma distributed between; equal for all cases, so
    that they are compared under the same luck."""
    count = MOST_WARM + COUNTED + AFTER
    gaps = np.ones(count) if cv == 0 else np.random.RandomState(SEED).gamma(1 / cv**2, cv**2, count)
    return np.asarray(np.cumsum(gaps / gaps.mean()))
