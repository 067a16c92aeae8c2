"""How long one engine iteration takes, as one small function used by everything that needs it. A profile gives its
coefficients, or `roofline` estimates them from a spec sheet. It knows nothing of requests, queues or prices."""

from dataclasses import dataclass, fields
from math import inf
from typing import Literal

from motley_solver.hardware import BYTES, DType, Gpu, ModelShape

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


# Efficiencies fitted by hand to published end-to-end measurements (aiconfigurator's silicon samples: Llama-3.1-70B
# FP8 on H100, H200 and B200, Qwen3-32B BF16 on H100, vLLM, 1 to 8 GPUs): the mean TPOT error there is 11 %. Other GPUs
# and older engines were not compared, so a larger error is claimed.
GEMM_EFFICIENCY = 0.65  # of dense TFLOPS, over a whole forward pass
FP8_GEMM_EFFICIENCY = 0.50  # quantisation of activations costs, and 16-bit attention does not shrink
ATTENTION_EFFICIENCY = 0.45
BANDWIDTH_EFFICIENCY = 0.88  # weights streamed
KV_BANDWIDTH_EFFICIENCY = 0.65
LINK_EFFICIENCY = 0.40
STEP_OVERHEAD_SECONDS = 0.0015  # scheduler, sampling, launch of captured graphs
LAYER_OVERHEAD_SECONDS = 4e-6  # small kernels between the large ones
SEQUENCE_OVERHEAD_SECONDS = 15e-6  # sampling, detokenising and bookkeeping of one sequence
ALL_REDUCE_SECONDS = 12e-6  # latency of one small all-reduce on captured graphs
ESTIMATE_ERROR = 0.25


def _tflops(gpu: Gpu, dtype: DType) -> float | None:
    """Arithmetic at this weight type; None where vLLM cannot run it on this hardware."""
    if dtype in ("bfloat16", "fp8") and not gpu.bf16:
        return None
    if dtype == "float32":
        return gpu.tflops_16bit / 2
    if dtype == "fp8" and gpu.tflops_fp8:
        return gpu.tflops_fp8 * FP8_GEMM_EFFICIENCY / GEMM_EFFICIENCY
    return gpu.tflops_16bit  # narrower weights are widened before the multiplication


def roofline(
    shape: ModelShape, gpu: Gpu, tensor_parallel: int, weight_dtype: DType, kv_dtype: DType
) -> StepTime | None:
    """Estimate from the spec sheet; None where this combination cannot run (heads do not split, type not supported).

    base = overheads + weights / bandwidth + small all-reduces (two per layer); tokens add arithmetic and
    all-reduce volume, context adds attention arithmetic in prefill and KV reads in decode. Whether memory
    fits is not asked here."""
    tflops = _tflops(gpu, weight_dtype)
    kv_runs = kv_dtype != "fp8" or gpu.bf16
    if tflops is None or not kv_runs or not shape.fits_tensor_parallel(tensor_parallel):
        return None
    flops = tflops * 1e12 * GEMM_EFFICIENCY * tensor_parallel
    attention_flops = gpu.tflops_16bit * 1e12 * ATTENTION_EFFICIENCY * tensor_parallel
    bandwidth = gpu.bandwidth_gb_s * 1e9
    all_reduces = 2 * shape.layers if tensor_parallel > 1 else 0
    ring = 2 * (tensor_parallel - 1) / tensor_parallel
    volume = all_reduces * ring * shape.hidden_size * max(2.0, BYTES[kv_dtype])
    token = shape.flops_per_token / flops + volume / (gpu.link_gb_s * 1e9 * LINK_EFFICIENCY)
    kv_bytes = shape.kv_bytes_per_token_and_gpu(kv_dtype, tensor_parallel)
    return StepTime(
        base=STEP_OVERHEAD_SECONDS
        + gpu.step_overhead_seconds
        + shape.layers * LAYER_OVERHEAD_SECONDS
        + shape.weight_bytes(weight_dtype) / (tensor_parallel * bandwidth * BANDWIDTH_EFFICIENCY)
        + all_reduces * ALL_REDUCE_SECONDS,
        per_prefill_token=token,
        per_prefill_token_context=shape.attention_flops_per_context_token / attention_flops,
        per_decode_sequence=token + SEQUENCE_OVERHEAD_SECONDS,
        per_context_token=kv_bytes / (bandwidth * KV_BANDWIDTH_EFFICIENCY),
        source="Estimated",
        error=ESTIMATE_ERROR,
    )
