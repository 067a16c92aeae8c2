"""The step time and its estimate from a spec sheet."""

import subprocess
import sys
from dataclasses import astuple, replace

import numpy as np
import pytest

from motley_solver.hardware import CATALOGUE, DType, Gpu, ModelShape, gpu_named
from motley_solver.steptime import CALIBRATION, ESTIMATE_ERROR, UNMEASURED_ERROR, StepTime, roofline

LLAMA_8B = ModelShape(32, 4096, 32, 8, 128, 14336, 128256)
LLAMA_70B = ModelShape(80, 8192, 64, 8, 128, 28672, 128256)
QWEN_32B = ModelShape(64, 5120, 64, 8, 128, 25600, 151936)
MIXTRAL = ModelShape(32, 4096, 32, 8, 128, 14336, 32000, 8, 2, 14336)
DEEPSEEK_LITE = ModelShape(27, 2048, 16, 16, 128, 10944, 102400, 64, 6, 1408, 2816, 1, False, 512, 64)


def estimate(shape: ModelShape, gpu: str, tp: int = 1, dtype: DType = "bfloat16", kv: DType = "bfloat16") -> StepTime:
    step = roofline(shape, gpu_named(gpu), tp, dtype, kv)
    assert step is not None
    return step


def test_seconds_add_up_the_coefficients() -> None:
    step = StepTime(1.0, 0.1, 0.01, 0.2, 0.001)
    assert step.seconds(0, 0, 0, 0) == 1.0
    assert step.seconds(10, 5, 3, 400) == pytest.approx(1.0 + 1.0 + 0.5 + 0.6 + 0.4)


def test_of_weights_and_arithmetic_the_longer_counts() -> None:
    step = StepTime(1.0, 0.0, weights=2.0, per_token=0.5)
    assert step.seconds(0, 0, 0, 0) == step.seconds(1, 0, 3, 0) == 3.0
    assert step.seconds(4, 0, 4, 0) == 5.0


def test_seconds_of_arrays_are_those_of_their_elements() -> None:
    step = estimate(LLAMA_8B, "L4")
    columns = np.array([[0, 512, 8192], [0, 256, 4096], [1, 64, 0], [100, 90_000, 0]], dtype=float)
    assert step.seconds(*columns).tolist() == [step.seconds(*column) for column in columns.T]  # type: ignore[attr-defined]


def test_seconds_are_linear_in_the_context_that_is_read() -> None:
    step = estimate(LLAMA_8B, "L4")
    at = [step.seconds(700, 350, 40, tokens) for tokens in (0, 10_000, 20_000)]
    assert at[2] - at[1] == pytest.approx(at[1] - at[0]) == pytest.approx(10_000 * step.per_context_token)


@pytest.mark.parametrize("field", ["base", "per_prefill_token", "per_context_token", "weights", "error"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_senseless_coefficients_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        StepTime(**{"base": 0.01, "per_prefill_token": 1e-4, field: value})


def test_a_step_and_a_prefill_token_take_some_time() -> None:
    for senseless in ({"base": 0.0, "per_prefill_token": 1e-4}, {"base": 0.01, "per_prefill_token": 0.0}):
        with pytest.raises(ValueError, match="above 0"):
            StepTime(**senseless)


# Published measurements (aiconfigurator's silicon samples, vLLM, closed loop): shape, GPU, tensor parallelism, type,
# input and output tokens, concurrency, mean TTFT and TPOT in ms.
MEASURED = [
    (QWEN_32B, "H100", 2, "bfloat16", 1024, 512, 8, 153.6, 16.48),
    (QWEN_32B, "H100", 4, "bfloat16", 1024, 1024, 128, 413.3, 25.63),
    (QWEN_32B, "H100", 4, "bfloat16", 4096, 512, 32, 633.5, 22.03),
    (LLAMA_70B, "H100", 2, "fp8", 1024, 1024, 16, 252.5, 19.74),
    (LLAMA_70B, "H100", 4, "fp8", 8192, 1024, 32, 1068.7, 32.82),
    (LLAMA_70B, "H100", 4, "fp8", 1024, 1024, 64, 256.4, 19.51),
    (LLAMA_70B, "B200", 2, "fp8", 8192, 1024, 16, 759.0, 17.46),
    (LLAMA_70B, "H200", 2, "fp8", 1024, 1024, 64, 417.0, 22.71),
]


@pytest.mark.parametrize(("shape", "gpu", "tp", "dtype", "size", "output", "users", "ttft", "tpot"), MEASURED)
def test_estimates_are_within_their_stated_error_of_measurements(
    shape: ModelShape, gpu: str, tp: int, dtype: DType, size: int, output: int, users: int, ttft: float, tpot: float
) -> None:
    """A request's decoding steps, and the prompts of the others that come in between."""
    step = estimate(shape, gpu, tp, dtype)
    gaps = (output - 1) * tpot
    sequences = users * gaps / (ttft + gaps)
    read = sequences * (size + output / 2)
    plain, mixed = step.seconds(0, 0, sequences, read), step.seconds(size, size / 2, sequences, read)
    seconds = plain + (users - 1) * tpot / (ttft + gaps) * (mixed - plain)
    assert seconds * 1000 == pytest.approx(tpot, rel=step.error)


@pytest.mark.parametrize(
    ("shape", "gpu", "dtype", "error"),
    [
        (LLAMA_8B, "H100", "bfloat16", ESTIMATE_ERROR),
        (LLAMA_8B, "A100", "float16", ESTIMATE_ERROR),
        (LLAMA_8B, "L4", "bfloat16", UNMEASURED_ERROR),
        (LLAMA_8B, "H100", "int4", UNMEASURED_ERROR),
        (MIXTRAL, "H100", "bfloat16", UNMEASURED_ERROR),
        (DEEPSEEK_LITE, "H100", "bfloat16", UNMEASURED_ERROR),
    ],
)
def test_what_was_never_measured_claims_a_larger_error(shape: ModelShape, gpu: str, dtype: DType, error: float) -> None:
    step = estimate(shape, gpu, dtype=dtype)
    assert (step.source, step.error) == ("Estimated", error)
    assert ESTIMATE_ERROR < UNMEASURED_ERROR


@pytest.mark.parametrize("name", [name for name, gpu in CATALOGUE.items() if gpu.bf16])
def test_more_tensor_parallelism_divides_weights_arithmetic_and_context(name: str) -> None:
    one, two, eight = (estimate(LLAMA_70B, name, tp) for tp in (1, 2, 8))
    for coefficient in ("weights", "per_token", "per_context_token", "per_prefill_token_context"):
        assert getattr(one, coefficient) == pytest.approx(2 * getattr(two, coefficient))
        assert getattr(one, coefficient) == pytest.approx(8 * getattr(eight, coefficient))
    assert one.base < two.base <= eight.base  # all-reduces
    assert one.per_prefill_token < min(two.per_prefill_token, eight.per_prefill_token)
    assert (eight.per_prefill_token < two.per_prefill_token) == gpu_named(name).mesh  # more GPUs have more links


def test_all_reduces_over_pcie_are_dear_and_in_a_switch_that_sums_cheap() -> None:
    def volume(gpu: str) -> float:
        alone, eight = (estimate(LLAMA_70B, gpu, tp).per_prefill_token for tp in (1, 8))
        return eight - alone

    assert volume("L40S") > 20 * volume("A100") > 20 * volume("H100")
    assert volume("A100") / volume("H100") > 450 / 300


def test_decoding_follows_bandwidth_and_prefill_follows_arithmetic() -> None:
    l4, a10g, l40s = (estimate(LLAMA_8B, name) for name in ("L4", "A10G", "L40S"))
    assert l4.seconds(0, 0, 1, 100) > 1.7 * a10g.seconds(0, 0, 1, 100) > a10g.seconds(0, 0, 1, 100) * l40s.base
    assert a10g.seconds(4096, 2048, 0, 0) > 3 * l40s.seconds(4096, 2048, 0, 0)


def test_narrower_weights_stream_faster_and_only_fp8_multiplies_faster() -> None:
    wide, fp8, int4 = (estimate(LLAMA_8B, "H100", dtype=dtype) for dtype in ("bfloat16", "fp8", "int4"))  # type: ignore[arg-type]
    assert wide.weights > 1.7 * fp8.weights > fp8.weights > 1.4 * int4.weights
    assert wide.per_token == int4.per_token > 1.5 * fp8.per_token


def test_fp8_keys_and_values_are_read_in_half_the_time() -> None:
    wide, narrow = (estimate(LLAMA_8B, "H100", kv=kv) for kv in ("bfloat16", "fp8"))  # type: ignore[arg-type]
    assert wide.per_context_token == pytest.approx(2 * narrow.per_context_token)


def test_a_mixture_multiplies_with_its_active_experts_and_streams_all() -> None:
    active, all_experts = (ModelShape(32, 4096, 32, 8, 128, experts * 14336, 32000) for experts in (2, 8))
    mixture = estimate(MIXTRAL, "H100")
    assert mixture.per_token == pytest.approx(estimate(active, "H100").per_token, rel=0.01)
    assert mixture.weights == pytest.approx(estimate(all_experts, "H100").weights, rel=0.01)


@pytest.mark.parametrize(("gpu", "tflops"), [("T4", 8.1), ("A100", 19.5), ("H100", 67)])
def test_float32_multiplies_outside_the_tensor_cores(gpu: str, tflops: float) -> None:
    narrow, wide = (estimate(LLAMA_8B, gpu, dtype=dtype, kv=dtype) for dtype in ("float16", "float32"))  # type: ignore[arg-type]
    factor = gpu_named(gpu).tflops_16bit / tflops
    assert wide.per_token == pytest.approx(factor * narrow.per_token)
    assert wide.per_prefill_token_context == pytest.approx(factor * narrow.per_prefill_token_context)


def test_all_reduces_in_a_full_mesh_use_the_links_that_there_are() -> None:
    two, four, eight = (roofline(LLAMA_70B, gpu_named("MI300X"), tp, "bfloat16", "bfloat16") for tp in (2, 4, 8))
    like = {tp: replace(gpu_named("MI300X"), link_gb_s=64.0 * (tp - 1), mesh=False) for tp in (4, 8)}
    assert (four, eight) == tuple(roofline(LLAMA_70B, like[tp], tp, "bfloat16", "bfloat16") for tp in (4, 8))
    assert two is not None and four is not None and two.per_prefill_token > 1.5 * four.per_prefill_token
    pcie = roofline(LLAMA_70B, replace(gpu_named("MI300X"), mesh=False), 8, "bfloat16", "bfloat16")
    assert pcie is not None and eight is not None and pcie.per_prefill_token > 20 * eight.per_prefill_token


def test_a_gpu_of_ones_own_is_estimated_with_the_usual_efficiencies() -> None:
    own = Gpu("X1", 48, 46, 864, 362, 91.6, 733, 32)
    step, l40s = roofline(LLAMA_8B, own, 1, "bfloat16", "bfloat16"), estimate(LLAMA_8B, "L40S")
    assert step is not None
    assert step.error == UNMEASURED_ERROR
    assert step.weights / l40s.weights == pytest.approx(
        CALIBRATION.gpus["L40S"].streaming / CALIBRATION.usual.streaming
    )


def test_every_calibrated_gpu_is_in_the_catalogue_and_no_share_is_above_one() -> None:
    assert CALIBRATION.gpus.keys() <= CATALOGUE.keys()
    for efficiency in [*CALIBRATION.gpus.values(), CALIBRATION.usual]:
        assert all(0.2 < share <= 1 for share in astuple(efficiency))


@pytest.mark.parametrize("dtype", ["bfloat16", "fp8"])
def test_types_that_old_gpus_lack_have_no_estimate(dtype: str) -> None:
    for name in ("T4", "V100"):
        assert roofline(LLAMA_8B, gpu_named(name), 1, dtype, "float16") is None  # type: ignore[arg-type]
        assert roofline(LLAMA_8B, gpu_named(name), 1, "float16", "float16") is not None


def test_quantised_weights_do_not_help_a_gpu_that_lacks_the_type_of_the_rest() -> None:
    assert roofline(LLAMA_8B, gpu_named("T4"), 1, "int4", "bfloat16") is None
    assert roofline(LLAMA_8B, gpu_named("T4"), 1, "int4", "float16") is not None


def test_heads_that_do_not_split_have_no_estimate() -> None:
    assert roofline(LLAMA_8B, gpu_named("L4"), 3, "bfloat16", "bfloat16") is None


def test_a_cpu_needs_tens_of_milliseconds_for_a_step_of_a_tiny_model() -> None:
    tiny = ModelShape(12, 512, 8, 4, 64, 1536, 32000, tied_embeddings=True)
    step = roofline(tiny, gpu_named("CPU"), 1, "float32", "float32")
    assert step is not None
    assert 0.02 < step.base < 0.2


def test_the_serving_path_pulls_in_no_solver() -> None:
    code = "import sys, motley_solver.steptime; print([n for n in ('pulp', 'highspy', 'numpy') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
