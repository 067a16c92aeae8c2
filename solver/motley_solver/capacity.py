"""How many requests per second one replica serves of one bucket within the SLO, and with which engine settings.
Analytic steady state of chunked prefill; it knows step times and memory, not prices or stock, and simulates nothing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, log, sqrt
from statistics import NormalDist

from motley_solver.hardware import GIB, DType, Gpu, ModelShape
from motley_solver.problem import Capacity, Configuration, EngineSettings, Shortfall, Slo
from motley_solver.steptime import Source, StepTime
from motley_solver.workload import Bucket, BucketLoad

MEMORY_UTILISATION = 0.90  # vLLM's gpu_memory_utilization
ACTIVATION_GIB = 1.5  # per GPU: activations, CUDA graphs, communication buffers
TOKEN_BUDGETS = (2048, 8192, 4096, 1024, 512)  # in order of preference among nearly equal ones
MAX_SEQUENCES = 512
ROUTER_SECONDS = 0.01  # TTFT is measured at the router
MINIMUM_LOAD = 0.02  # an SLO that holds only on an all but idle replica is not met: counts would be absurd
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


@dataclass(frozen=True)
class _State:
    """A replica under a steady load of one bucket. Quantiles are those of the attainment."""

    utilisation: float
    sequences: float  # mean of concurrent decodes
    sequences_quantile: float
    kv_tokens: float
    tpot: float
    ttft: float


_OVERLOADED = _State(inf, inf, inf, inf, inf, inf)


@lru_cache(maxsize=64)
def _normal_quantile(attainment: float) -> float:
    return NormalDist().inv_cdf(attainment)


def _state(engine: Engine, bucket: Bucket, rate: float, budget: int, attainment: float) -> _State:
    """Little's law for decodes; Poisson variation of decodes and of the prefills between them for TPOT; a queue with
    fixed service time (M/D/1, exponential tail) for TTFT.

    Every iteration carries rate·T·input prefill tokens, so T = base + rate·T·work, hence T = base / (1 − rate·work)."""
    t, size, decodes = engine.step_time, bucket.input_tokens, bucket.output_tokens - 1
    context = size + bucket.output_tokens / 2
    prefill = size * (t.per_prefill_token + t.per_prefill_token_context * size / 2)
    decode = t.per_decode_sequence + t.per_context_token * context
    busy = rate * (prefill + decodes * decode)
    if busy >= 1:
        return _OVERLOADED
    step = t.base / (1 - busy)
    sequences = rate * decodes * step
    spread = _normal_quantile(attainment) * sqrt(sequences)
    crowd = sequences + spread
    free = budget - crowd
    if free < budget / 8 or rate * size * step > free:
        return _OVERLOADED
    idle_step = t.base + decode * (crowd + 1)
    service = size / free * (t.base + decode * sequences) + prefill
    utilisation = max(busy, rate * service)
    if utilisation >= 1:
        return _OVERLOADED
    queue = rate * service
    waits = log(queue / (1 - attainment)) if queue > 1 - attainment else 0.0
    wait = waits * service / (2 * (1 - queue))
    # prefills that come in between stretch the time in which more can come: the spread of a first passage
    stretch = 1 / (1 - min(busy, rate * prefill))
    between = max(1, decodes)
    tpot = step + decode + wait / between + spread * stretch * sqrt(decode**2 + (prefill / between) ** 2)
    longest = idle_step + min(size, free) * prefill / size if decodes else 0.0
    chunks = ceil(size / free)
    behind = queue * prefill * min(1.0, free / size)  # the last chunk shares its iteration with the next prompt
    ttft = ROUTER_SECONDS + wait + idle_step * (1 + chunks) + prefill + behind
    total = size + bucket.output_tokens  # counted whole, so that hardly any sequence is preempted
    kv_tokens = max(total, crowd * total + size * (1 + queue))
    return _State(utilisation, sequences, crowd, kv_tokens, max(step, min(tpot, longest)), ttft)


def _highest(upper: float, holds: Callable[[float], bool], lower: float = 0.0) -> float:
    """The highest rate that holds, by bisection; `holds` must hold at `lower` and below any rate where it does."""
    for _ in range(30):
        middle = (lower + upper) / 2
        lower, upper = (middle, upper) if holds(middle) else (lower, middle)
    return lower


@lru_cache(maxsize=200_000)
def capacity(engine: Engine, bucket: Bucket, slo: Slo, token_budget: int) -> tuple[Capacity, int]:
    """The capacity with this token budget, and how many sequences run together then."""
    total = bucket.input_tokens + bucket.output_tokens
    if total > engine.kv_tokens:
        return Capacity(bucket, 0.0, 0.0, Shortfall("kv", total, engine.kv_tokens)), 0
    if total > engine.max_model_len:
        return Capacity(bucket, 0.0, 0.0, Shortfall("context", total, engine.max_model_len)), 0
    attainment = min(max(slo.attainment, 0.5), HIGHEST_QUANTILE)

    def state(rate: float) -> _State:
        return _state(engine, bucket, rate, token_budget, attainment)

    def stable(rate: float) -> bool:
        s = state(rate)
        return s.utilisation <= 0.9 and s.kv_tokens <= engine.kv_tokens and s.sequences_quantile <= MAX_SEQUENCES

    def attains(rate: float) -> bool:
        s = state(rate)
        return stable(rate) and s.tpot <= slo.tpot_seconds and s.ttft <= slo.ttft_seconds(bucket.input_tokens)

    t = engine.step_time
    best_effort = _highest(1 / (bucket.input_tokens * t.per_prefill_token), stable)
    light = state(MINIMUM_LOAD * best_effort)
    if light.tpot > slo.tpot_seconds:
        return Capacity(bucket, 0.0, best_effort, Shortfall("tpot", light.tpot, slo.tpot_seconds)), 0
    target = slo.ttft_seconds(bucket.input_tokens)
    if light.ttft > target:
        return Capacity(bucket, 0.0, best_effort, Shortfall("ttft", light.ttft, target)), 0
    rate = _highest(best_effort, attains, MINIMUM_LOAD * best_effort)
    return Capacity(bucket, rate, best_effort), ceil(state(rate).sequences_quantile)


def _replicas_needed(capacities: Iterable[Capacity], loads: Iterable[BucketLoad]) -> tuple[float, float]:
    """(rate that cannot be served within the SLO, replicas for the rest): the smaller the better."""
    lost = needed = 0.0
    for found, load in zip(capacities, loads, strict=True):
        if found.rate > 0:
            needed += load.rate / found.rate
        else:
            lost += load.rate
    return lost, needed


@lru_cache(maxsize=50_000)
def _of_engine(engine: Engine, slo: Slo, loads: tuple[BucketLoad, ...]) -> Evaluation:
    """One token budget for all buckets: the one that serves most within the SLO, then with fewest replicas."""
    tried = {}
    for budget in TOKEN_BUDGETS:
        found = [capacity(engine, load.bucket, slo, budget) for load in loads]
        tried[budget] = (found, *_replicas_needed((c for c, _ in found), loads))
    least_lost = min(lost for _, lost, _ in tried.values())
    serving = {b: needed for b, (_, lost, needed) in tried.items() if lost <= least_lost * (1 + 1e-9)}
    # a preference for the first ones keeps small changes of traffic from changing a setting that needs a restart
    chosen = next(b for b, needed in serving.items() if needed <= 1.03 * min(serving.values()))
    found = tried[chosen][0]
    sequences = max((count for _, count in found), default=0)
    seats = min(MAX_SEQUENCES, max(16, 8 * ceil(1.25 * sequences / 8))) if sequences else 256
    return Evaluation(EngineSettings(chosen, seats, engine.max_model_len), tuple(c for c, _ in found))


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
    return _of_engine(source, slo, loads)


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
