"""What a Model asks for, as its whole part of the problem but the capacities: those take seconds, and whether a plan is
needed at all is known without them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from motley_operator import reasons
from motley_operator.admission import key_of
from motley_operator.api import GPUPool, Model, Profile, Slo
from motley_operator.api.quantities import cores, gib, seconds
from motley_operator.reasons import Finding
from motley_operator.speeds import Profiles, Speed, by_gpu, gpu_of, kv_dtype, speed
from motley_solver.capacity import Engine, Question, ThroughputTable, configuration_of, evaluations
from motley_solver.hardware import Gpu, ModelShape
from motley_solver.problem import Configuration, ModelDemand, Role, Shortfall, fingerprint
from motley_solver.problem import Slo as SolverSlo
from motley_solver.workload import Bucket, BucketLoad, loads_of

TENSOR_PARALLEL = (1, 2, 4, 8)
NODE_SHARE = 0.8
"""Of a node's CPU and memory, what engines may request by default; the rest is for daemons."""
CPU_ENGINE = (1.0, 4.0)
"""Cores and GiB of an engine on a pool of device cpu, unless the Model says otherwise."""


@dataclass(frozen=True)
class Candidate:
    """A configuration of which nobody asked yet what it can serve."""

    key: str
    gpu: str
    tensor_parallel: int
    pool: str
    speed: Speed
    gpus: int
    cpus: float
    memory_gib: float
    role: Role = "aggregated"
    kv_class: str = ""
    transfer_seconds_per_token: float = 0.0


@dataclass(frozen=True)
class Declaration:
    name: str  # namespace/name
    loads: tuple[BucketLoad, ...]
    slo: SolverSlo
    arrival_cv: float  # coefficient of variation of the times between requests
    prefix_reuse: float  # share of the input tokens that are cached already
    candidates: tuple[Candidate, ...]
    min_replicas: int
    max_replicas: int | None
    priority: int
    survivability: float

    @cached_property
    def fingerprint(self) -> str:
        """Equal declarations have equal ones, in other processes too."""
        return fingerprint(self)


def declarations(
    models: Iterable[Model], pools: Iterable[GPUPool], profiles: tuple[Profile, ...], disaggregated: bool
) -> tuple[tuple[Declaration, ...], dict[str, Finding]]:
    """Numbers that the schema takes one by one may make no sense together (more dense layers than layers); one such
    Model must not keep the others from being planned. Prefill and decode apart are candidates if `disaggregated`."""
    found: list[Declaration] = []
    findings: dict[str, Finding] = {}
    usable = tuple((pool, gpu_of(pool)) for pool in pools if pool.spec.max_nodes > 0)
    by_type = by_gpu(profiles)
    of_all = _said((pool for pool, _ in usable)), _said(profiles), str(disaggregated)
    for model in models:
        shape = model.status.shape.model_dump_json() if model.status.shape else ""
        question = _Question((_said([model]), shape, *of_all), model, usable, by_type, disaggregated)
        try:
            found.append(_declaration(question))
        except (ValueError, ArithmeticError, LookupError) as error:
            message = f"the numbers of spec.shape, spec.traffic or of a Profile of this shape cannot be right: {error}"
            findings[key_of(model)] = Finding(reasons.IMPOSSIBLE_NUMBERS, message)
    return tuple(found), findings


@lru_cache(maxsize=1)  # at the largest, hundreds of MB
def demands_of(declared: tuple[Declaration, ...]) -> tuple[ModelDemand, ...]:
    """The demands with what each configuration can serve. It takes long; equal declarations are not asked of twice."""
    evaluations([question for one in declared for question in _engine_questions(one)])  # all at once is far quicker
    return tuple(
        ModelDemand(
            name=one.name,
            buckets=one.loads,
            configurations=tuple(_configuration(one, candidate) for candidate in one.candidates),
            min_replicas=one.min_replicas,
            max_replicas=one.max_replicas,
            priority=one.priority,
            attainment=one.slo.attainment,
            survivability=one.survivability,
            outputs_known=False,
        )
        for one in declared
    )


def _engine_questions(declared: Declaration) -> Iterator[Question]:
    buckets = tuple(load.bucket for load in declared.loads)
    for candidate in declared.candidates:
        if isinstance(candidate.speed, Engine):
            yield Question(
                candidate.speed,
                declared.slo,
                buckets,
                candidate.role,
                declared.arrival_cv,
                declared.prefix_reuse,
                candidate.transfer_seconds_per_token,
            )


def _configuration(declared: Declaration, candidate: Candidate) -> Configuration:
    return configuration_of(
        key=candidate.key,
        gpu=candidate.gpu,
        tensor_parallel=candidate.tensor_parallel,
        pools=(candidate.pool,),
        source=candidate.speed,
        slo=declared.slo,
        loads=declared.loads,
        gpus=candidate.gpus,
        cpus=candidate.cpus,
        memory_gib=candidate.memory_gib,
        role=candidate.role,
        kv_class=candidate.kv_class,
        arrival_cv=declared.arrival_cv,
        prefix_reuse=declared.prefix_reuse,
        transfer_seconds_per_token=candidate.transfer_seconds_per_token,
    )


@dataclass(frozen=True)
class _Question:
    """What a declaration follows from. Equal ones are known by what the objects say: quicker than to work them out."""

    said: tuple[str, ...]
    model: Model = field(compare=False)
    pools: tuple[tuple[GPUPool, Gpu], ...] = field(compare=False)
    profiles: Profiles = field(compare=False)
    disaggregated: bool = field(compare=False)


def _said(resources: Iterable[GPUPool | Model | Profile]) -> str:
    return "\n".join(f"{one.key} {one.spec.model_dump_json()}" for one in resources)


@lru_cache(maxsize=1024)
def _declaration(question: _Question) -> Declaration:
    model, spec = question.model, question.model.spec
    return Declaration(
        name=model.key,
        loads=loads_of(
            ((Bucket(size.input_tokens, size.output_tokens), float(size.weight)) for size in spec.traffic.sizes),
            float(spec.traffic.rate),
        ),
        slo=solver_slo(spec.slo),
        arrival_cv=float(spec.traffic.burstiness),
        prefix_reuse=float(spec.traffic.prefix_reuse),
        candidates=tuple(_candidates(question)),
        min_replicas=spec.scaling.min_replicas,
        max_replicas=spec.scaling.max_replicas,
        priority=spec.priority,
        survivability=float(spec.scaling.survivability),
    )


def solver_slo(slo: Slo) -> SolverSlo:
    per_thousand = slo.ttft_per_thousand_input_tokens
    return SolverSlo(
        ttft_seconds_base=seconds(slo.ttft),
        ttft_seconds_per_1k_input=seconds(per_thousand) if per_thousand else 0.0,
        tpot_seconds=seconds(slo.tpot),
        attainment=float(slo.attainment),
    )


def _candidates(question: _Question) -> Iterator[Candidate]:
    """Per pool, tensor parallelism and role."""
    model, placement = question.model, question.model.spec.placement
    shape = ModelShape(**(model.spec.shape or model.status.shape).model_dump())  # type: ignore[union-attr]
    for pool, gpu in question.pools:
        if placement.pools and pool.metadata.name not in placement.pools:
            continue
        most = pool.spec.node.gpus if pool.spec.device == "gpu" else 1
        for degree in (one for one in placement.tensor_parallel or TENSOR_PARALLEL if one <= most):
            cpus, memory = replica_resources(model, pool, degree)
            aggregated = Candidate(
                key=configuration_key(pool.metadata.name, degree),
                gpu=pool.spec.gpu,
                tensor_parallel=degree,
                pool=pool.metadata.name,
                speed=speed(model, shape, pool, gpu, degree, question.profiles),
                gpus=degree if pool.spec.device == "gpu" else 0,
                cpus=cpus,
                memory_gib=memory,
            )
            if "Aggregated" in placement.modes or not placement.modes:
                yield aggregated
            if question.disaggregated and ("Disaggregated" in placement.modes or not placement.modes):
                yield from _apart(question, pool, shape, aggregated)


def _apart(question: _Question, pool: GPUPool, shape: ModelShape, aggregated: Candidate) -> Iterator[Candidate]:
    """Prefill and decode on engines of their own. How fast an engine is does not depend on its role; but a throughput
    table was measured on engines that did both, and says nothing of one alone."""
    fabric, model = pool.spec.fabric, question.model
    if fabric is None:
        return
    joined = [p.spec.fabric for p, _ in question.pools if p.spec.fabric and p.spec.fabric.name == fabric.name]
    slowest = min(float(one.bandwidth_gbs) for one in joined) * 1e9
    apart = replace(
        aggregated,
        speed=Shortfall("profile") if isinstance(aggregated.speed, ThroughputTable) else aggregated.speed,
        kv_class=kv_class(model, shape),
        transfer_seconds_per_token=shape.kv_bytes_per_token(kv_dtype(model)) / slowest,
    )
    yield replace(apart, key=f"{apart.key}/prefill", role="prefill")
    yield replace(apart, key=f"{apart.key}/decode", role="decode")


def kv_class(model: Model, shape: ModelShape) -> str:
    """What two engines of this Model must have in common to read each other's KV cache, for example
    `bfloat16 32x8x128 block 16`: the cache's dtype, what one token has in it (layers × KV heads × head dimension, or
    layers × latent), and how many tokens lie in one block, which is vLLM's default on every GPU. They run one image, so
    the engine's version is the same, and tensor parallelism may differ: blocks are split by heads on the way."""
    latent = shape.kv_lora_rank + shape.qk_rope_head_dim
    token = f"{shape.layers}x{latent}" if shape.kv_lora_rank else f"{shape.layers}x{shape.kv_heads}x{shape.head_dim}"
    return f"{kv_dtype(model)} {token} block 16"


def configuration_key(pool: str, tensor_parallel: int) -> str:
    """Of an aggregated engine."""
    return f"{pool}/tp{tensor_parallel}"


def replica_resources(model: Model, pool: GPUPool, tensor_parallel: int) -> tuple[float, float]:
    """CPU cores and GiB of memory that one replica requests on this pool."""
    node, asked = pool.spec.node, model.spec.resources
    share = NODE_SHARE * tensor_parallel / node.gpus
    default_cpu, default_memory = (
        CPU_ENGINE if pool.spec.device == "cpu" else (share * cores(node.cpu), share * gib(node.memory))
    )
    return (
        cores(asked.cpu) if asked.cpu else int(default_cpu * 1000) / 1000,
        gib(asked.memory) if asked.memory else int(default_memory * 1024) / 1024,
    )
