"""FleetView → Problem: which pools and models take part (and why not), and what every configuration can serve."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from motley_operator import reasons
from motley_operator.admission import admitted_models, admitted_pools, key_of
from motley_operator.api import GPUPool, Model, Profile, Slo
from motley_operator.api.quantities import cores, gib, seconds
from motley_operator.fleet import FleetView
from motley_operator.reasons import Finding
from motley_solver.capacity import Engine, ThroughputEntry, ThroughputTable, configuration_of, engine_of
from motley_solver.hardware import DType, Gpu, ModelShape, gpu_named
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem, Running, Shortfall
from motley_solver.problem import Slo as SolverSlo
from motley_solver.steptime import StepTime, roofline
from motley_solver.workload import Bucket, BucketLoad, loads_of

TENSOR_PARALLEL = (1, 2, 4, 8)
NODE_SHARE = 0.8
"""Of a node's CPU and memory, what engines may request by default; the rest is for daemons."""
CPU_ENGINE = (1.0, 4.0)
"""Cores and GiB of an engine on a pool of device cpu, unless the Model says otherwise."""


@dataclass(frozen=True)
class Formulation:
    """The problem, and by key (`Model default/chat`) why an object has no part in it."""

    problem: Problem
    pools: Mapping[str, GPUPool] = field(hash=False)
    models: Mapping[str, Model] = field(hash=False)
    findings: Mapping[str, Finding] = field(hash=False)


def formulated(view: FleetView) -> Formulation:
    pools, pool_findings = admitted_pools(view)
    admitted, model_findings = admitted_models(view)
    demands, impossible = _demands(_questions(admitted, pools, view.profiles))
    models = [model for model in admitted if key_of(model) not in impossible]
    problem = Problem(
        models=demands,
        pools=tuple(_pool(pool) for pool in pools),
        budget_per_hour=_number(view.fleet.spec.budget_per_hour),
        headroom=float(view.fleet.spec.headroom),
        running=_running(view, {model.key for model in models}),
    )
    return Formulation(
        problem,
        pools={pool.metadata.name: pool for pool in pools},
        models={model.key: model for model in models},
        findings=pool_findings | model_findings | impossible,
    )


def _demands(questions: Iterable["_Question"]) -> tuple[tuple[ModelDemand, ...], dict[str, Finding]]:
    """Numbers that the schema takes one by one may make no sense together (more dense layers than layers); one such
    Model must not keep the others from being planned."""
    found: list[ModelDemand] = []
    findings: dict[str, Finding] = {}
    for question in questions:
        try:
            found.append(_demand(question))
        except (ValueError, ArithmeticError, LookupError) as error:
            message = f"the numbers of spec.shape, spec.traffic or of a Profile of this shape cannot be right: {error}"
            findings[key_of(question.model)] = Finding(reasons.IMPOSSIBLE_NUMBERS, message)
    return tuple(found), findings


def _number(decimal: str | None) -> float | None:
    return None if decimal is None else float(decimal)


def _pool(pool: GPUPool) -> Pool:
    spec = pool.spec
    return Pool(
        name=pool.metadata.name,
        gpu=spec.gpu,
        gpus_per_node=spec.node.gpus if spec.device == "gpu" else 0,
        cpus_per_node=cores(spec.node.cpu),
        memory_gib_per_node=gib(spec.node.memory),
        price_per_node_hour=float(spec.price_per_node_hour),
        max_nodes=spec.max_nodes,
    )


def gpu_type(name: str) -> str:
    """One name for one type: the catalogue's where it knows the name or alias (A100 is A100-80GB), else as given."""
    try:
        return gpu_named(name).name
    except ValueError:
        return name


def gpu_of(pool: GPUPool) -> Gpu:
    """The pool's own sheet, or the catalogue's; ValueError names the known types."""
    sheet = pool.spec.sheet
    if sheet is None:
        return gpu_named(pool.spec.gpu)
    memory = gib(sheet.memory)
    return Gpu(
        name=pool.spec.gpu,
        memory_gib=memory,
        usable_memory_gib=memory,
        bandwidth_gb_s=float(sheet.bandwidth_gbs),
        tflops_16bit=float(sheet.bf16_tflops),
        tflops_fp8=_number(sheet.fp8_tflops),
        link_gb_s=float(sheet.link_gbs) if sheet.link_gbs else 32.0,
        source=f"GPUPool {pool.metadata.name}",
    )


def solver_slo(slo: Slo) -> SolverSlo:
    per_thousand = slo.ttft_per_thousand_input_tokens
    return SolverSlo(
        ttft_seconds_base=seconds(slo.ttft),
        ttft_seconds_per_1k_input=seconds(per_thousand) if per_thousand else 0.0,
        tpot_seconds=seconds(slo.tpot),
        attainment=float(slo.attainment),
    )


_Profiles = Mapping[tuple[str, int], list[Profile]]
"""By GPU and tensor parallelism."""


def _by_gpu(profiles: Iterable[Profile]) -> _Profiles:
    found: dict[tuple[str, int], list[Profile]] = {}
    for profile in profiles:
        found.setdefault((gpu_type(profile.spec.gpu), profile.spec.tensor_parallel), []).append(profile)
    return found


@dataclass(frozen=True)
class _Question:
    """What a demand follows from. Equal ones are known by what the objects say: quicker than to answer them anew."""

    said: tuple[str, ...]
    model: Model = field(compare=False)
    pools: tuple[tuple[GPUPool, Gpu], ...] = field(compare=False)
    profiles: _Profiles = field(compare=False)


def _questions(models: Iterable[Model], pools: Iterable[GPUPool], profiles: tuple[Profile, ...]) -> Iterator[_Question]:
    usable = tuple((pool, gpu_of(pool)) for pool in pools if pool.spec.max_nodes > 0)
    by_gpu = _by_gpu(profiles)
    of_all = _said((pool for pool, _ in usable)), _said(profiles)
    for model in models:
        shape = model.status.shape.model_dump_json() if model.status.shape else ""
        yield _Question((_said([model]), shape, *of_all), model, usable, by_gpu)


def _said(resources: Iterable[GPUPool | Model | Profile]) -> str:
    return "\n".join(f"{one.key} {one.spec.model_dump_json()}" for one in resources)


@lru_cache(maxsize=256)
def _demand(question: _Question) -> ModelDemand:
    model, pools, profiles = question.model, question.pools, question.profiles
    spec = model.spec
    loads = loads_of(
        ((Bucket(size.input_tokens, size.output_tokens), float(size.weight)) for size in spec.traffic.sizes),
        float(spec.traffic.rate),
    )
    shape = ModelShape(**(spec.shape or model.status.shape).model_dump())  # type: ignore[union-attr]
    slo = solver_slo(spec.slo)
    configurations = tuple(
        _configuration(
            model, pool, tensor_parallel, _speed(model, shape, pool, gpu, tensor_parallel, profiles), slo, loads
        )
        for pool, gpu in pools
        if not spec.placement.pools or pool.metadata.name in spec.placement.pools
        for tensor_parallel in spec.placement.tensor_parallel or TENSOR_PARALLEL
        if tensor_parallel <= (pool.spec.node.gpus if pool.spec.device == "gpu" else 1)
    )
    return ModelDemand(
        name=model.key,
        buckets=loads,
        configurations=configurations,
        min_replicas=spec.scaling.min_replicas,
        max_replicas=spec.scaling.max_replicas,
        priority=spec.priority,
        attainment=float(spec.slo.attainment),
    )


def configuration_key(pool: str, tensor_parallel: int) -> str:
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


def _configuration(
    model: Model,
    pool: GPUPool,
    tensor_parallel: int,
    speed: Engine | ThroughputTable | Shortfall,
    slo: SolverSlo,
    loads: tuple[BucketLoad, ...],
) -> Configuration:
    cpus, memory = replica_resources(model, pool, tensor_parallel)
    return configuration_of(
        key=configuration_key(pool.metadata.name, tensor_parallel),
        gpu=pool.spec.gpu,
        tensor_parallel=tensor_parallel,
        pools=(pool.metadata.name,),
        source=speed,
        slo=slo,
        loads=loads,
        gpus=tensor_parallel if pool.spec.device == "gpu" else 0,
        cpus=cpus,
        memory_gib=memory,
    )


def weight_dtype(model: Model) -> DType:
    match model.spec.quantization:
        case "fp8":
            return "fp8"
        case "awq" | "gptq":
            return "int4"
        case _:
            return model.spec.dtype


def _speed(
    model: Model, shape: ModelShape, pool: GPUPool, gpu: Gpu, tensor_parallel: int, profiles: _Profiles
) -> Engine | ThroughputTable | Shortfall:
    """The best Profile that matches, else a roofline; a Shortfall where the weights do not fit."""
    weights = weight_dtype(model)
    kv: DType = "fp8" if model.spec.kv_dtype == "fp8" else model.spec.dtype
    profile = _profile(model, shape, pool, tensor_parallel, profiles)
    step_time = _step_time(profile) if profile else roofline(shape, gpu, tensor_parallel, weights, kv)
    if step_time is None and not (profile and profile.spec.throughput):
        return Shortfall("profile")
    engine = engine_of(shape, gpu, tensor_parallel, weights, kv, step_time or _UNKNOWN_SPEED, model.spec.context_length)
    if isinstance(engine, Shortfall) or profile is None or profile.spec.coefficients:
        return engine
    return _table(profile, engine.max_model_len)


_UNKNOWN_SPEED = StepTime(base=1.0, per_prefill_token=1.0)
"""Stands in where only the memory of an engine is asked for."""


def _profile(
    model: Model, shape: ModelShape, pool: GPUPool, tensor_parallel: int, profiles: _Profiles
) -> Profile | None:
    """Measured before imported, then the newest."""
    matching = [
        profile
        for profile in profiles.get((gpu_type(pool.spec.gpu), tensor_parallel), ())
        if profile.spec.dtype == weight_dtype(model)
        and profile.spec.kv_dtype == model.spec.kv_dtype
        and _equally_fast(ModelShape(**profile.spec.shape.model_dump()), shape)
    ]
    return max(matching, key=lambda p: (p.spec.source == "Measured", p.spec.date, p.key), default=None)


def _equally_fast(one: ModelShape, other: ModelShape) -> bool:
    return replace(one, max_model_len=0) == replace(other, max_model_len=0)


def _step_time(profile: Profile) -> StepTime | None:
    given = profile.spec.coefficients
    if given is None:
        return None
    return StepTime(**given.model_dump(), source=profile.spec.source, error=float(profile.spec.error))


def _table(profile: Profile, max_model_len: int) -> ThroughputTable:
    entries = tuple(
        ThroughputEntry(Bucket(row.input_tokens, row.output_tokens), float(row.requests_per_second))
        for row in profile.spec.throughput
    )
    return ThroughputTable(entries, max_model_len, source=profile.spec.source, error=float(profile.spec.error))


def _running(view: FleetView, models: set[str]) -> tuple[Running, ...]:
    """What runs now, by configuration, so that equal plans do not move it."""
    found: dict[tuple[str, str, str], int] = {}
    for deployment in view.deployments:
        configuration = configuration_key(deployment.pool, deployment.tensor_parallel)
        key = (f"{deployment.namespace}/{deployment.model}", deployment.pool, configuration)
        if key[0] in models:
            found[key] = found.get(key, 0) + deployment.replicas
    return tuple(Running(*key, replicas) for key, replicas in sorted(found.items()) if replicas)
