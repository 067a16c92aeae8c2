"""How many requests per second one replica serves of one bucket within the SLO, and with which engine settings.
Analytic steady state of chunked prefill; it knows step times and memory, not prices or stock, and simulates nothing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, inf, log, sqrt
from statistics import NormalDist
from typing import NamedTuple

from motley_solver.hardware import GIB, DType, Gpu, ModelShape
from motley_solver.problem import Capacity, Configuration, EngineSettings, Shortfall, Slo
from motley_solver.steptime import Source, StepTime
from motley_solver.workload import Bucket, BucketLoad

MEMORY_UTILISATION = 0.90  # vLLM's gpu_memory_utilization
ACTIVATION_GIB = 1.5  # per GPU: activations, CUDA graphs, communication buffers
TOKEN_BUDGETS = (2048, 8192, 512)  # in order of preference among nearly equal ones; those between gain hardly 1 %
MAX_SEQUENCES = 512  # not above the smallest token budget
SHORT_SEQUENCE = 64  # tokens
ROUTER_SECONDS = 0.01  # TTFT is measured at the router
MINIMUM_LOAD = 0.02  # an SLO that holds only on an all but idle replica is not met: counts would be absurd
SCALE = 1.004  # step between the rates that are tried
LEAST_MARKS = ceil(-log(MINIMUM_LOAD) / log(SCALE))
HIGHEST_QUANTILE = 0.999


@dataclass(frozen=True)
class Engine:
    """One replica as far as capacity goes."""

    step_time: StepTime
    kv_tokens: int  # tokens that fit in its KV cache
    max_model_len: int


@dataclass(frozen=True)
class ThroughputEntry:
    bucket: Bucket
    rate: float  # requests per second of one replica within the SLO that it was measured for


@dataclass(frozen=True)
class ThroughputTable:
    """Measured rates instead of step times. A bucket takes the best entry among those at least as large."""

    entries: tuple[ThroughputEntry, ...]
    max_model_len: int
    source: Source = "Measured"
    error: float = 0.0
    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 256


@dataclass(frozen=True)
class Evaluation:
    settings: EngineSettings
    capacities: tuple[Capacity, ...]


def engine_of(
    shape: ModelShape,
    gpu: Gpu,
    tensor_parallel: int,
    weight_dtype: DType,
    kv_dtype: DType,
    step_time: StepTime,
    context_limit: int = 0,
) -> Engine | Shortfall:
    """The replica, or what memory the weights lack. Without a limit the model's own counts; KV memory caps both."""
    usable = gpu.usable_memory_gib * MEMORY_UTILISATION
    weights = shape.weight_bytes(weight_dtype) / tensor_parallel / GIB + ACTIVATION_GIB
    kv_gib = shape.kv_bytes_per_token_and_gpu(kv_dtype, tensor_parallel) / GIB
    kv_tokens = int((usable - weights) / kv_gib) if usable > weights else 0
    if kv_tokens < 16:
        return Shortfall("memory", needed=weights + 16 * kv_gib, available=usable)
    limits = [limit for limit in (context_limit, shape.max_model_len) if limit > 0]
    return Engine(step_time, kv_tokens, min([kv_tokens, *limits[:1]]))


class _State(NamedTuple):
    """A replica under a steady load of one bucket. Quantiles are those of the attainment."""

    utilisation: float
    sequences: float  # quantile of the concurrent decodes
    kv_tokens: float
    tpot: float
    ttft: float


_OVERLOADED = _State(inf, inf, inf, inf, inf)


@lru_cache(maxsize=64)
def _normal_quantile(attainment: float) -> float:
    return NormalDist().inv_cdf(min(max(attainment, 0.5), HIGHEST_QUANTILE))


class Replica:
    """One engine under requests of one size: what does not depend on their rate is worked out once."""

    __slots__ = (
        "base",
        "between",
        "budget",
        "decode",
        "decodes",
        "miss",
        "prefill",
        "quantile",
        "size",
        "total",
        "work",
    )

    def __init__(self, engine: Engine, bucket: Bucket, attainment: float, budget: int) -> None:
        t, self.size, self.decodes = engine.step_time, bucket.input_tokens, bucket.output_tokens - 1
        context = self.size + bucket.output_tokens / 2
        self.base, self.budget = t.base, budget
        self.prefill = self.size * (t.per_prefill_token + t.per_prefill_token_context * self.size / 2)
        self.decode = t.per_decode_sequence + t.per_context_token * context
        self.total = self.size + bucket.output_tokens  # counted whole, so that hardly any sequence is preempted
        self.work = self.prefill + self.decodes * self.decode  # seconds of one request beside the iterations' base
        self.between = max(1, self.decodes)
        self.quantile = _normal_quantile(attainment)
        self.miss = 1 - min(max(attainment, 0.5), HIGHEST_QUANTILE)

    def bound(self, kv_tokens: int) -> float:
        """A rate that no steady state exceeds, and mostly not far above the highest."""
        sequences = min(MAX_SEQUENCES, self.budget * 7 / 8, (kv_tokens - self.size) / self.total)
        alone = self.prefill + self.size * self.base / self.budget
        return min(0.9 / self.work, 0.9 / alone, self.rate_of(sequences))

    def rate_of(self, sequences: float) -> float:
        """The rate at which the quantile of concurrent decodes is this: the law below, solved for it."""
        mean = ((sqrt(self.quantile**2 + 4 * sequences) - self.quantile) / 2) ** 2
        return mean / (self.decodes * self.base + mean * self.work)

    def state(self, rate: float) -> _State:
        """Little's law for decodes; Poisson variation of decodes and of the prefills between them for TPOT; a queue
        with fixed service time (M/D/1, exponential tail) for TTFT.

        Every iteration carries rate·T·input prefill tokens, so T = base + rate·T·work, hence
        T = base / (1 − rate·work)."""
        size, prefill, decode, base, between = self.size, self.prefill, self.decode, self.base, self.between
        busy = rate * self.work
        if busy >= 1:
            return _OVERLOADED
        step = base / (1 - busy)
        sequences = rate * self.decodes * step
        spread = self.quantile * sqrt(sequences)
        crowd = sequences + spread
        free = self.budget - crowd
        if free < self.budget / 8 or rate * size * step > free:
            return _OVERLOADED
        idle_step = base + decode * (crowd + 1)
        service = size / free * (base + decode * sequences) + prefill
        queue = rate * service
        if queue >= 1:
            return _OVERLOADED
        waits = log(queue / self.miss) if queue > self.miss else 0.0
        wait = waits * service / (2 * (1 - queue))
        # prefills that come in between stretch the time in which more can come: the spread of a first passage
        stretch = 1 / (1 - rate * prefill)
        part = prefill / between
        tpot = step + decode + wait / between + spread * stretch * sqrt(decode * decode + part * part)
        chunk = prefill if size < free else prefill * free / size
        longest = idle_step + chunk if self.decodes else 0.0
        behind = queue * chunk  # the last chunk shares its iteration with the next prompt
        ttft = ROUTER_SECONDS + wait + idle_step * (1 + ceil(size / free)) + prefill + behind
        kv_tokens = crowd * self.total + size * (1 + queue)
        return _State(max(busy, queue), crowd, kv_tokens, max(step, min(tpot, longest)), ttft)


def _rate(mark: int) -> float:
    """Rates are sought on a geometric scale, so that a looser target never finds a lower one by rounding."""
    return SCALE**mark


def _mark(rate: float) -> int:
    """The highest mark that is not above the rate."""
    return floor(log(rate) / log(SCALE))


def _highest(upper: int, holds: Callable[[float], bool], lower: int | None = None) -> int:
    """The highest mark up to `upper` whose rate holds. `holds` must hold at `lower` (without one: at some low rate) and
    below any rate where it does."""
    if holds(_rate(upper)):
        return upper
    stride = 8
    found = upper - stride
    while (lower is None or found > lower) and not holds(_rate(found)):
        upper, stride = found, 2 * stride
        found -= stride
    found = found if lower is None else max(found, lower)
    while upper - found > 1:
        middle = (found + upper) // 2
        if holds(_rate(middle)):
            found = middle
        else:
            upper = middle
    return found


def seats(engine: Engine, slo: Slo) -> int:
    """How many sequences an engine takes at once: what memory holds of short ones and what leaves TPOT within its
    target. Traffic has no say, so that another load does not restart engines."""
    t = engine.step_time
    within = (slo.tpot_seconds - t.base) / t.per_decode_sequence if t.per_decode_sequence else inf
    most = min(MAX_SEQUENCES, engine.kv_tokens / SHORT_SEQUENCE, within)
    return max(8, 8 * floor(most / 8))


def capacity(engine: Engine, bucket: Bucket, slo: Slo, token_budget: int) -> Capacity:
    """What one replica with this token budget serves of the bucket."""
    total = bucket.input_tokens + bucket.output_tokens
    if total > engine.kv_tokens:
        return Capacity(bucket, 0.0, 0.0, Shortfall("kv", total, engine.kv_tokens))
    if total > engine.max_model_len:
        return Capacity(bucket, 0.0, 0.0, Shortfall("context", total, engine.max_model_len))
    replica, target = Replica(engine, bucket, slo.attainment, token_budget), slo.ttft_seconds(bucket.input_tokens)
    state = replica.state

    def stable(rate: float) -> bool:
        s = state(rate)
        return s.utilisation <= 0.9 and s.kv_tokens <= engine.kv_tokens

    def attains(rate: float) -> bool:
        s = state(rate)
        return s.tpot <= slo.tpot_seconds and s.ttft <= target

    bearable = _highest(_mark(replica.bound(engine.kv_tokens)), stable)
    best_effort = min(bearable, _mark(replica.rate_of(seats(engine, slo))))
    least = min(bearable - LEAST_MARKS, best_effort)
    light = state(_rate(least))
    if light.tpot > slo.tpot_seconds:
        return Capacity(bucket, 0.0, _rate(best_effort), Shortfall("tpot", light.tpot, slo.tpot_seconds))
    if light.ttft > target:
        return Capacity(bucket, 0.0, _rate(best_effort), Shortfall("ttft", light.ttft, target))
    return Capacity(bucket, _rate(_highest(best_effort, attains, least)), _rate(best_effort))


def _lost(found: Iterable[Capacity], best: Iterable[float]) -> tuple[int, float]:
    """(sizes not served that could be, by how much the others fall short of the best): the smaller the better."""
    pairs = [(capacity.rate, most) for capacity, most in zip(found, best, strict=True) if most > 0]
    return sum(rate == 0 for rate, _ in pairs), sum(most / rate for rate, most in pairs if rate > 0)


@lru_cache(maxsize=20_000)
def _of_engine(engine: Engine, slo: Slo, buckets: tuple[Bucket, ...]) -> Evaluation:
    """One token budget for all buckets: the one that serves most of them, then nearest to each one's best. All count
    alike, whatever their rates: other traffic of the same sizes must not restart engines."""
    tried = {budget: tuple(capacity(engine, one, slo, budget) for one in buckets) for budget in TOKEN_BUDGETS}
    best = [max(c.rate for c in of_bucket) for of_bucket in zip(*tried.values(), strict=True)]
    lost = {budget: _lost(found, best) for budget, found in tried.items()}
    fewest, least = min(lost.values())
    chosen = next(b for b, (unserved, short) in lost.items() if unserved == fewest and short <= 1.03 * least)
    return Evaluation(EngineSettings(chosen, seats(engine, slo), engine.max_model_len), tried[chosen])


def _of_table(table: ThroughputTable, loads: tuple[BucketLoad, ...]) -> Evaluation:
    def looked_up(bucket: Bucket) -> Capacity:
        total = bucket.input_tokens + bucket.output_tokens
        if total > table.max_model_len:
            return Capacity(bucket, 0.0, 0.0, Shortfall("context", total, table.max_model_len))
        rates = [
            entry.rate
            for entry in table.entries
            if entry.bucket.input_tokens >= bucket.input_tokens and entry.bucket.output_tokens >= bucket.output_tokens
        ]
        rate = max(rates, default=0.0)
        return Capacity(bucket, rate, rate, None if rate > 0 else Shortfall("profile"))

    settings = EngineSettings(table.max_num_batched_tokens, table.max_num_seqs, table.max_model_len)
    return Evaluation(settings, tuple(looked_up(load.bucket) for load in loads))


def evaluated(source: Engine | ThroughputTable | Shortfall, slo: Slo, loads: tuple[BucketLoad, ...]) -> Evaluation:
    """Capacities of all buckets with one choice of settings; a Shortfall gives 0 everywhere, for that reason."""
    if isinstance(source, Shortfall):
        nothing = tuple(Capacity(load.bucket, 0.0, 0.0, source) for load in loads)
        return Evaluation(EngineSettings(TOKEN_BUDGETS[0], 256, 0), nothing)
    if isinstance(source, ThroughputTable):
        return _of_table(source, loads)
    return _of_engine(source, slo, tuple(load.bucket for load in loads))


def configuration_of(
    key: str,
    gpu: str,
    tensor_parallel: int,
    pools: tuple[str, ...],
    source: Engine | ThroughputTable | Shortfall,
    slo: Slo,
    loads: tuple[BucketLoad, ...],
    gpus: int,
    cpus: float = 0.0,
    memory_gib: float = 0.0,
) -> Configuration:
    """A configuration of the problem with its capacities and settings."""
    evaluation = evaluated(source, slo, loads)
    known = None if isinstance(source, Shortfall) else source.step_time if isinstance(source, Engine) else source
    return Configuration(
        key=key,
        gpu=gpu,
        tensor_parallel=tensor_parallel,
        pools=pools,
        capacities=evaluation.capacities,
        settings=evaluation.settings,
        gpus=gpus,
        cpus=cpus,
        memory_gib=memory_gib,
        estimated=known is not None and known.source == "Estimated",
        error=known.error if known else 0.0,
    )
