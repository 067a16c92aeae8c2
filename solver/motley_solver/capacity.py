"""How many requests per second one replica serves of one bucket within the SLO, in which role and with which engine
settings. It knows step times, memory and SLOs, not prices or stock; how requests fare is found by `attainment`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, inf

from motley_solver.attainment import Case, alone, best_effort_rate, highest_rates
from motley_solver.hardware import GIB, DType, Gpu, ModelShape
from motley_solver.policy.batching import Limits
from motley_solver.problem import Capacity, Configuration, EngineSettings, Role, Shortfall, Slo
from motley_solver.steptime import Source, StepTime
from motley_solver.workload import Bucket, BucketLoad

MEMORY_UTILISATION = 0.90  # vLLM's gpu_memory_utilization
ACTIVATION_GIB = 1.5  # per GPU: activations, CUDA graphs, communication buffers
TOKEN_BUDGETS = (8192, 4096, 2048, 1024, 512)
DEFAULT_BUDGET, DEFAULT_SEQUENCES = 2048, 256  # where nothing is known of the engine
MAX_SEQUENCES = 512  # not above the smallest token budget
SHORT_SEQUENCE = 64  # tokens
HOP_SECONDS = 0.01  # through the router
REQUEST_SECONDS = 0.058  # of TTFT that belong to no iteration: server, client (fitted in bench/steptime.py)
DECODE_WAIT = 0.1  # of the TTFT target, to wait for a seat on a decode replica
KNOWN = 20_000  # answers that are remembered


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
    max_num_batched_tokens: int = DEFAULT_BUDGET
    max_num_seqs: int = DEFAULT_SEQUENCES


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
    """The replica, or what memory the weights lack. Its longest context is what is asked for, within what the model was
    made for (beyond that vLLM does not start) and what KV memory holds."""
    usable = gpu.usable_memory_gib * MEMORY_UTILISATION
    weights = shape.weight_bytes(weight_dtype) / tensor_parallel / GIB + ACTIVATION_GIB
    kv_gib = shape.kv_bytes_per_token_and_gpu(kv_dtype, tensor_parallel) / GIB
    kv_tokens = int((usable - weights) / kv_gib) if usable > weights else 0
    if kv_tokens < 16:
        return Shortfall("memory", needed=weights + 16 * kv_gib, available=usable)
    limits = [limit for limit in (context_limit, shape.max_model_len) if limit > 0]
    return Engine(step_time, kv_tokens, min([kv_tokens, *limits]))


def seats(engine: Engine, slo: Slo, role: Role = "aggregated") -> int:
    """How many sequences an engine takes at once: what memory holds of short ones and what leaves TPOT within its
    target. Traffic has no say, so that another load does not restart engines."""
    t, most = engine.step_time, min(MAX_SEQUENCES, engine.kv_tokens / SHORT_SEQUENCE)
    if role != "prefill":
        for rest, each in (
            (slo.tpot_seconds - t.base - t.weights, t.per_decode_sequence),
            (slo.tpot_seconds - t.base, t.per_decode_sequence + t.per_token),
        ):
            most = min(most, rest / each if each else inf)
    return max(8, 8 * floor(most / 8))


def token_budget(engine: Engine, slo: Slo, role: Role = "aggregated") -> int:
    """The most prompt tokens of one iteration that leave it within the TPOT target (Sarathi-Serve's rule), so that a
    prompt stretches the tokens of others no further. Where nothing decodes, the fewest with which an iteration's own
    time is a tenth of it at most, so that prompts wait for one another as little as they can."""
    seconds, base = engine.step_time.seconds, engine.step_time.base
    if role == "prefill":
        return next((b for b in reversed(TOKEN_BUDGETS) if seconds(b, 0, 0, 0) >= 10 * base), TOKEN_BUDGETS[0])
    return next((b for b in TOKEN_BUDGETS if seconds(b, 0, 0, 0) <= slo.tpot_seconds), TOKEN_BUDGETS[-1])


@dataclass(frozen=True)
class Question:
    """What capacities follow from: one engine in one role under requests of each size alone.

    A part `prefix_reuse` of every prompt is in the KV cache already. Prefill replicas hand the KV cache over in
    `transfer_seconds_per_token`."""

    engine: Engine
    slo: Slo
    buckets: tuple[Bucket, ...]
    role: Role = "aggregated"
    arrival_cv: float = 1.0  # coefficient of variation of the times between arrivals; 1 is Poisson
    prefix_reuse: float = 0.0
    transfer_seconds_per_token: float = 0.0

    @property
    def settings(self) -> EngineSettings:
        budget = token_budget(self.engine, self.slo, self.role)
        return EngineSettings(budget, min(seats(self.engine, self.slo), budget), self.engine.max_model_len)

    def case(self, bucket: Bucket) -> Case:
        """The replay of one bucket.

        TTFT is measured at the router, a hop and a server away. Of a disaggregated request it is spent on both
        replicas: the decode replica has DECODE_WAIT of the target to find a seat and one step (as long as TPOT allows)
        for the first token; the prefill replica has what they, the transfer and the second hop leave. TPOT is the
        decode replica's alone. Each of both attains for (1 + attainment) / 2 of the requests, so that both together do
        for `attainment`."""
        slo, role, settings = self.slo, self.role, self.settings
        target = slo.ttft_seconds(bucket.input_tokens)
        beside, handed_over = HOP_SECONDS + REQUEST_SECONDS, DECODE_WAIT * target + slo.tpot_seconds
        transfer = bucket.input_tokens * self.transfer_seconds_per_token
        cached = min(int(self.prefix_reuse * bucket.input_tokens), bucket.input_tokens - 1)
        return Case(
            self.engine.step_time,
            Limits(settings.max_num_batched_tokens, settings.max_num_seqs, self.engine.kv_tokens),
            input_tokens=bucket.input_tokens,
            cached_tokens=bucket.input_tokens - 1 if role == "decode" else cached,
            output_tokens=1 if role == "prefill" else bucket.output_tokens,
            ttft={
                "aggregated": target - beside,
                "prefill": target - handed_over - transfer - 2 * beside,
                "decode": handed_over,
            }[role],
            tpot=inf if role == "prefill" else slo.tpot_seconds,
            attainment=slo.attainment if role == "aggregated" else (1 + slo.attainment) / 2,
            arrival_cv=self.arrival_cv,
        )


def _unfit(question: Question, bucket: Bucket) -> Shortfall | None:
    """Why no request of this size ever gets an answer."""
    total = bucket.input_tokens + (1 if question.role == "prefill" else bucket.output_tokens)
    for kind, limit in (("kv", question.engine.kv_tokens), ("context", question.engine.max_model_len)):
        if total > limit:
            return Shortfall(kind, total, limit)  # type: ignore[arg-type]
    return None


def _unattained(case: Case, target: float, others: int) -> Shortfall | None:
    """The target that a request misses most when so many prompts come before its own and again while it decodes. TTFT
    is told as a client sees it: `target` is the whole one, of which the replica has `case.ttft`."""
    lone = alone(case)
    tpot = lone.tpot + others * lone.ttft / max(1, case.output_tokens - 1) if lone.tpot else 0.0
    ttft = lone.ttft * (1 + others)
    if case.ttft <= 0 or ttft / case.ttft > tpot / case.tpot:
        late = Shortfall("ttft", ttft + target - case.ttft, target)
    else:
        late = Shortfall("tpot", tpot, case.tpot)
    return late if late.needed > late.available or others else None


def evaluations(questions: Sequence[Question]) -> tuple[Evaluation, ...]:
    """The answers in the same order. What was not asked before is replayed together: many at once cost far less than
    one after the other, and asking again costs nothing."""
    answers = {question: _known[question] for question in questions if question in _known}
    new = [question for question in dict.fromkeys(questions) if question not in answers]
    refused = {(question, bucket): _refusal(question, bucket) for question in new for bucket in question.buckets}
    cases = list(dict.fromkeys(question.case(bucket) for (question, bucket), no in refused.items() if no is None))
    rates = dict(zip(cases, highest_rates(cases), strict=True))
    for question in new:
        capacities = (refused[question, bucket] or _capacity(question, bucket, rates) for bucket in question.buckets)
        answers[question] = _known[question] = Evaluation(question.settings, tuple(capacities))
        if len(_known) > KNOWN:
            del _known[next(iter(_known))]
    return tuple(answers[question] for question in questions)


_known: dict[Question, Evaluation] = {}


def _refusal(question: Question, bucket: Bucket) -> Capacity | None:
    """Where nothing has to be replayed."""
    unfit = _unfit(question, bucket)
    if unfit:
        return Capacity(bucket, 0.0, 0.0, unfit)
    case = question.case(bucket)
    late = _unattained(case, question.slo.ttft_seconds(bucket.input_tokens), others=0)
    return Capacity(bucket, 0.0, best_effort_rate(case), late) if late else None


def _capacity(question: Question, bucket: Bucket, rates: Mapping[Case, float]) -> Capacity:
    case = question.case(bucket)
    late = None if rates[case] else _unattained(case, question.slo.ttft_seconds(bucket.input_tokens), others=1)
    return Capacity(bucket, rates[case], best_effort_rate(case), late)


def _of_table(table: ThroughputTable, buckets: tuple[Bucket, ...]) -> Evaluation:
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
    return Evaluation(settings, tuple(looked_up(bucket) for bucket in buckets))


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
    role: Role = "aggregated",
    kv_class: str = "",
    arrival_cv: float = 1.0,
    prefix_reuse: float = 0.0,
    transfer_seconds_per_token: float = 0.0,
) -> Configuration:
    """A configuration of the problem with its capacities and settings. A Shortfall gives 0 everywhere, for that reason;
    an engine's capacities cost nothing where `evaluations` was asked for them before."""
    buckets = tuple(load.bucket for load in loads)
    if isinstance(source, Engine):
        [evaluation] = evaluations(
            [Question(source, slo, buckets, role, arrival_cv, prefix_reuse, transfer_seconds_per_token)]
        )
    elif isinstance(source, Shortfall) or role != "aggregated":
        why = source if isinstance(source, Shortfall) else Shortfall("profile")  # tables tell of whole requests only
        nothing = tuple(Capacity(bucket, 0.0, 0.0, why) for bucket in buckets)
        evaluation = Evaluation(EngineSettings(DEFAULT_BUDGET, DEFAULT_SEQUENCES, 0), nothing)
    else:
        evaluation = _of_table(source, buckets)
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
        role=role,
        kv_class=kv_class,
        estimated=known is not None and known.source == "Estimated",
        error=known.error if known else 0.0,
    )
