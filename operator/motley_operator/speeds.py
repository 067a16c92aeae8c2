"""How fast a Model's engines run on a pool: by the best Profile that matches, else by a roofline. It knows neither
traffic nor SLO: how many requests follow from it is the solver's affair."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from motley_operator.api import GPUPool, Model, Profile
from motley_operator.api.quantities import gib
from motley_solver.capacity import Engine, ThroughputEntry, ThroughputTable, engine_of
from motley_solver.hardware import CATALOGUE, DType, Gpu, ModelShape, gpu_named, gpu_type
from motley_solver.problem import Shortfall
from motley_solver.steptime import StepTime, roofline
from motley_solver.workload import Bucket

Speed = Engine | ThroughputTable | Shortfall
Profiles = Mapping[tuple[str, int], list[Profile]]
"""By GPU and tensor parallelism."""


FP32_SHARE = 1 / 16
"""Of the 16-bit TFLOPS, where a sheet does not say: an A100's."""
_NEVER_SEEN = Gpu("", 0, 0, 0, 0, 0, None, 0)


def gpu_of(pool: GPUPool) -> Gpu:
    """The pool's own sheet, or the catalogue's; ValueError names the known types."""
    sheet = pool.spec.sheet
    if sheet is None:
        return gpu_named(pool.spec.gpu)
    known = CATALOGUE.get(gpu_type(pool.spec.gpu), _NEVER_SEEN)
    memory, tflops = gib(sheet.memory), float(sheet.bf16_tflops)
    return replace(
        known,
        name=f"the sheet of {pool.metadata.name}",  # what was measured under the catalogue's name is another GPU's
        memory_gib=memory,
        usable_memory_gib=memory,
        bandwidth_gb_s=float(sheet.bandwidth_gbs),
        tflops_16bit=tflops,
        tflops_fp32=float(sheet.fp32_tflops) if sheet.fp32_tflops else tflops * FP32_SHARE,
        tflops_fp8=float(sheet.fp8_tflops) if sheet.fp8_tflops else None,
        link_gb_s=float(sheet.link_gbs) if sheet.link_gbs else 32.0,
        mesh=False,
        bf16=known.bf16 if sheet.bf16 is None else sheet.bf16,
        source=f"GPUPool {pool.metadata.name}",
    )


def by_gpu(profiles: Iterable[Profile]) -> Profiles:
    found: dict[tuple[str, int], list[Profile]] = {}
    for profile in profiles:
        found.setdefault((gpu_type(profile.spec.gpu), profile.spec.tensor_parallel), []).append(profile)
    return found


def weight_dtype(model: Model) -> DType:
    match model.spec.quantization:
        case "fp8":
            return "fp8"
        case "awq" | "gptq":
            return "int4"
        case _:
            return model.spec.dtype


def kv_dtype(model: Model) -> DType:
    return "fp8" if model.spec.kv_dtype == "fp8" else model.spec.dtype


def speed(model: Model, shape: ModelShape, pool: GPUPool, gpu: Gpu, tensor_parallel: int, profiles: Profiles) -> Speed:
    """A Shortfall where the weights do not fit or, without a Profile, cannot run."""
    weights, kv = weight_dtype(model), kv_dtype(model)
    profile = _profile(model, shape, pool, tensor_parallel, profiles)
    step_time = _step_time(profile) if profile else roofline(shape, gpu, tensor_parallel, weights, kv)
    engine = engine_of(shape, gpu, tensor_parallel, weights, kv, step_time or _UNKNOWN_SPEED, model.spec.context_length)
    if isinstance(engine, Shortfall) or step_time:
        return engine
    if profile:
        return _table(profile, engine.max_model_len)
    return Shortfall("heads", tensor_parallel) if gpu.runs(weights, kv) else Shortfall("dtype")


_UNKNOWN_SPEED = StepTime(base=1.0, per_prefill_token=1.0)
"""Stands in where only the memory of an engine is asked for."""


def _profile(
    model: Model, shape: ModelShape, pool: GPUPool, tensor_parallel: int, profiles: Profiles
) -> Profile | None:
    """Measured before imported, then the newest."""
    matching = [
        profile
        for profile in profiles.get((pool.spec.gpu, tensor_parallel), ())
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
