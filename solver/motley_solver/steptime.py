"""How long one engine iteration takes, as one small function used by everything that needs it. A profile gives its
coefficients, `fitting` finds them from measured iterations, or `roofline` estimates them from a spec sheet. It knows
nothing of requests, queues or prices."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import inf
from typing import Literal

from motley_solver.hardware import DType, Gpu, ModelShape

Source = Literal["Measured", "Imported", "Estimated"]


@dataclass(frozen=True)
class StepTime:
    """A sum of terms, one of them a roof; all coefficients in seconds.

    seconds = base + max(weights, per_token·(P+B)) + per_prefill_token·P + per_prefill_token_context·P·c
              + per_decode_sequence·B + per_context_token·C
    with P prefill tokens, each attending to c tokens in the mean, and B decoding sequences that read C tokens.
    The roof: weights are streamed while the tokens are multiplied with them, and the longer of both counts."""

    base: float
    per_prefill_token: float
    per_prefill_token_context: float = 0.0
    per_decode_sequence: float = 0.0
    per_context_token: float = 0.0
    weights: float = 0.0
    per_token: float = 0.0
    source: Source = "Estimated"
    error: float = 0.0  # relative, expected

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name != "source"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"step time: {name} must be a number ≥ 0")
        if self.base <= 0 or self.per_prefill_token + self.per_token <= 0:
            raise ValueError("step time: base and the time of a prefill token must be above 0 seconds")

    def seconds(
        self, prefill_tokens: float, prefill_context: float, decode_seqs: float, context_tokens: float
    ) -> float:
        """Elementwise where numpy arrays are given; linear in `context_tokens`."""
        arithmetic = self.per_token * (prefill_tokens + decode_seqs)
        roof = (self.weights + arithmetic + abs(self.weights - arithmetic)) / 2  # the maximum, of arrays too
        return (
            self.base
            + roof
            + prefill_tokens * (self.per_prefill_token + self.per_prefill_token_context * prefill_context)
            + self.per_decode_sequence * decode_seqs
            + self.per_context_token * context_tokens
        )


@dataclass(frozen=True)
class Efficiency:
    """Shares of a spec sheet that kernels reach."""

    streaming: float  # of bandwidth, reading weights
    arithmetic: float  # of dense 16-bit TFLOPS, in the large multiplications
    attention: float  # of dense 16-bit TFLOPS, in attention of prefill
    key_values: float  # of bandwidth, in attention of decoding


@dataclass(frozen=True)
class Calibration:
    """What a spec sheet does not say: kernels by GPU, communication, and the engine's own time."""

    gpus: Mapping[str, Efficiency]
    usual: Efficiency  # of a GPU that was not measured
    fp8: float  # arithmetic in FP8 beside what is reached in 16 bits, each of its own dense TFLOPS
    elementwise_bytes: float  # norms, rotation, residuals: memory traffic per token, layer and unit of hidden size
    layer_seconds: float  # the least that a layer's small kernels and attention take
    step_seconds: float  # scheduling, sampling, launch
    sequence_seconds: float  # the same for each decoding sequence
    all_reduce_seconds: float  # latency of a small one
    ring: float  # share of the link's bandwidth in large all-reduces, counted as on a ring
    reducing: float  # the same where the switch sums on the way: less is moved, so it may be above 1
    pcie: Mapping[int, tuple[float, float]]  # without a switch, by number of GPUs: latency and share


# Calibrated on published measurements by bench/steptime.py, 2026-11-20 (rows and rules: bench/steptime_split.toml).
# Operators (NVIDIA aiconfigurator, vidur, Helix, LLMServingSim) give the efficiencies, small kernels and all-reduces;
# end-to-end points of vLLM in 2025 on H100, H200 and B200 give FP8, the engine's own time and the reducing switch.
_HOPPER = Efficiency(0.813, 0.734, 0.446, 0.702)
CALIBRATION = Calibration(
    gpus={
        "T4": Efficiency(0.661, 0.401, 0.503, 0.744),
        "V100": Efficiency(0.610, 0.664, 0.503, 0.744),
        "L4": Efficiency(0.686, 0.421, 0.503, 0.744),
        "L40S": Efficiency(0.811, 0.728, 0.434, 0.782),
        "A40": Efficiency(0.757, 0.735, 0.503, 0.744),
        "A100-40GB": Efficiency(0.657, 0.774, 0.503, 0.744),
        "A100-80GB": Efficiency(0.716, 0.756, 0.498, 0.635),
        "H100": _HOPPER,
        "H200": _HOPPER,
        "RTX4090": Efficiency(0.903, 0.963, 0.665, 0.878),
    },
    usual=Efficiency(0.730, 0.663, 0.503, 0.744),
    fp8=0.957,
    elementwise_bytes=30.6,
    layer_seconds=30.6e-6,
    step_seconds=1.36e-3,
    sequence_seconds=37.2e-6,
    all_reduce_seconds=4.9e-6,
    ring=0.521,
    reducing=1.75,
    pcie={2: (5.5e-6, 0.588), 4: (13.9e-6, 0.118), 8: (26.4e-6, 0.058)},
)
PCIE_GB_S = 64.0  # a link up to this is PCIe
REDUCING_GB_S = 450.0  # NVLink 4 and later: the switches sum (SHARP)

# bench/steptime.py measures the mean of the errors in TPOT and in TTFT: 15.1 % with the model left out of the
# calibration, 21.4 % with the chip left out. Both are rounded up, the second generously. It is assumed that mixtures of
# experts, latent attention and weights of other types are no further off.
ESTIMATE_ERROR = 0.16
UNMEASURED_ERROR = 0.25
COMPARED = frozenset({"A100-40GB", "A100-80GB", "H100", "H200", "B200"})


def _error(shape: ModelShape, gpu: Gpu, weight_dtype: DType) -> float:
    """Mixtures of experts, latent attention, integer weights, FP32 and most cheap GPUs were never compared."""
    usual = not shape.experts and not shape.kv_lora_rank and weight_dtype in ("bfloat16", "float16", "fp8")
    return ESTIMATE_ERROR if usual and gpu.name in COMPARED else UNMEASURED_ERROR


def _arithmetic(gpu: Gpu, dtype: DType, fp8: float) -> float:
    """Dense TFLOPS at this weight type."""
    if dtype == "float32":
        return gpu.tflops_fp32
    if dtype == "fp8" and gpu.tflops_fp8:
        return gpu.tflops_fp8 * fp8
    return gpu.tflops_16bit  # narrower weights are widened before the multiplication


def roofline(
    shape: ModelShape,
    gpu: Gpu,
    tensor_parallel: int,
    weight_dtype: DType,
    kv_dtype: DType,
    calibration: Calibration = CALIBRATION,
) -> StepTime | None:
    """Estimate from the spec sheet; None where this combination cannot run (heads do not split, type not supported).

    weights: streamed bytes / bandwidth, under one roof with the arithmetic of all tokens; each token adds the memory
    traffic of small kernels and its part of two all-reduces per layer, context adds attention arithmetic in prefill and
    KV reads in decode. Sliding windows count as full attention. Whether memory fits is not asked here."""
    c = calibration
    if not gpu.runs(weight_dtype, kv_dtype) or not shape.fits_tensor_parallel(tensor_parallel):
        return None
    tflops = _arithmetic(gpu, weight_dtype, c.fp8)
    reached = c.gpus.get(gpu.name, c.usual)
    bandwidth = gpu.bandwidth_gb_s * 1e9
    unquantised = gpu.tflops_fp32 if weight_dtype == "float32" else gpu.tflops_16bit
    attention = unquantised * 1e12 * reached.attention * tensor_parallel
    latency, per_token = _communication(shape, gpu, tensor_parallel, c)
    small = shape.layers * shape.hidden_size * c.elementwise_bytes / bandwidth + per_token
    return StepTime(
        base=c.step_seconds + gpu.step_overhead_seconds + shape.layers * c.layer_seconds + latency,
        per_prefill_token=small,
        per_prefill_token_context=shape.attention_flops_per_context_token / attention,
        per_decode_sequence=small + c.sequence_seconds,
        per_context_token=shape.kv_bytes_per_token_and_gpu(kv_dtype, tensor_parallel) / bandwidth / reached.key_values,
        weights=shape.streamed_bytes(weight_dtype) / (tensor_parallel * bandwidth * reached.streaming),
        per_token=shape.flops_per_token / (tflops * 1e12 * reached.arithmetic * tensor_parallel),
        source="Estimated",
        error=_error(shape, gpu, weight_dtype),
    )


def _communication(shape: ModelShape, gpu: Gpu, tensor_parallel: int, c: Calibration) -> tuple[float, float]:
    """Seconds per step and per token in all-reduces, two per layer, of 16-bit activations on a ring."""
    if tensor_parallel == 1:
        return 0.0, 0.0
    link = gpu.links_gb_s(tensor_parallel)
    if gpu.link_gb_s <= PCIE_GB_S and not gpu.mesh:
        latency, share = next(
            found for gpus, found in sorted(c.pcie.items()) if gpus >= min(tensor_parallel, max(c.pcie))
        )
    else:
        latency, share = c.all_reduce_seconds, c.reducing if link >= REDUCING_GB_S else c.ring
    times = 2 * shape.layers
    volume = 2 * (tensor_parallel - 1) / tensor_parallel * shape.hidden_size * 2
    return times * latency, times * volume / (link * 1e9 * share)
