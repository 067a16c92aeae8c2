"""The step time and its estimate from a spec sheet."""

import subprocess
import sys

import pytest

from motley_solver.hardware import CATALOGUE, ModelShape, gpu_named
from motley_solver.steptime import StepTime, roofline

LLAMA_8B = ModelShape(32, 4096, 32, 8, 128, 14336, 128256)
LLAMA_70B = ModelShape(80, 8192, 64, 8, 128, 28672, 128256)
QWEN_32B = ModelShape(64, 5120, 64, 8, 128, 25600, 151936)


def test_seconds_add_up_the_coefficients() -> None:
    step = StepTime(1.0, 0.1, 0.01, 0.2, 0.001)
    assert step.seconds(0, 0, 0, 0) == 1.0
    assert step.seconds(10, 5, 3, 400) == pytest.approx(1.0 + 1.0 + 0.5 + 0.6 + 0.4)


@pytest.mark.parametrize("field", ["base", "per_prefill_token", "per_context_token"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_senseless_coefficients_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        StepTime(**{"base": 0.01, "per_prefill_token": 1e-4, field: value})


# Published measurements (aiconfigurator's silicon samples, vLLM, closed loop): shape, GPU, tensor parallelism, type,
# input and output tokens, concurrency, mean TTFT and TPOT in ms.
MEASURED = [
    (QWEN_32B, "H100", 2, "bfloat16", 1024, 512, 8, 153.6, 16.48),
    (QWEN_32B, "H100", 4, "bfloat16", 1024, 1024, 128, 413.3, 25.63),
    (QWEN_32B, "H100", 4, "bfloat16", 4096, 512, 32, 633.5, 22.03),
    (LLAMA_70B, "H100", 2, "fp8", 1024, 1024, 16, 252.5, 19.74),
    (LLAMA_70B, "H100", 4, "fp8", 8192, 1024, 32, 1068.7, 32.82),
    (LLAMA_70B, "H100", 4, "fp8", 1024, 1024, 64, 256.4, 19.51),
]


@pytest.mark.parametrize(("shape", "gpu", "tp", "dtype", "size", "output", "users", "ttft", "tpot"), MEASURED)
def test_estimates_are_within_their_stated_error_of_measurements(
    shape: ModelShape, gpu: str, tp: int, dtype: str, size: int, output: int, users: int, ttft: float, tpot: float
) -> None:
    step = roofline(shape, gpu_named(gpu), tp, dtype, "bfloat16")  # type: ignore[arg-type]
    assert step is not None
    rate = users / (ttft / 1000 + (output - 1) * tpot / 1000)
    decodes = rate * (output - 1) * tpot / 1000
    seconds = step.seconds(rate * size * tpot / 1000, size / 2, decodes, decodes * (size + output / 2))
    assert seconds * 1000 == pytest.approx(tpot, rel=step.error)


def test_estimates_say_so_with_their_error() -> None:
    step = roofline(LLAMA_8B, gpu_named("L4"), 1, "bfloat16", "bfloat16")
    assert step is not None
    assert (step.source, step.error) == ("Estimated", 0.25)


@pytest.mark.parametrize("name", [name for name, gpu in CATALOGUE.items() if gpu.bf16])
def test_more_tensor_parallelism_streams_weights_faster(name: str) -> None:
    bases = [roofline(LLAMA_70B, gpu_named(name), tp, "bfloat16", "bfloat16") for tp in (1, 2, 4, 8)]
    times = [step.base for step in bases if step]
    assert len(times) == 4
    assert times == sorted(times, reverse=True)


def test_decoding_follows_bandwidth_and_prefill_follows_arithmetic() -> None:
    l4, a10g = (roofline(LLAMA_8B, gpu_named(name), 1, "bfloat16", "bfloat16") for name in ("L4", "A10G"))
    assert l4 and a10g
    assert l4.base > 1.7 * a10g.base
    assert l4.per_prefill_token < a10g.per_prefill_token


@pytest.mark.parametrize("dtype", ["bfloat16", "fp8"])
def test_types_that_old_gpus_lack_have_no_estimate(dtype: str) -> None:
    for name in ("T4", "V100"):
        assert roofline(LLAMA_8B, gpu_named(name), 1, dtype, "float16") is None  # type: ignore[arg-type]
        assert roofline(LLAMA_8B, gpu_named(name), 1, "float16", "float16") is not None


def test_heads_that_do_not_split_have_no_estimate() -> None:
    assert roofline(LLAMA_8B, gpu_named("L4"), 3, "bfloat16", "bfloat16") is None


def test_a_cpu_needs_tens_of_milliseconds_for_a_step_of_a_tiny_model() -> None:
    tiny = ModelShape(12, 512, 8, 4, 64, 1536, 32000, tied_embeddings=True)
    step = roofline(tiny, gpu_named("CPU"), 1, "float32", "float32")
    assert step is not None
    assert 0.02 < step.base < 0.2


def test_the_serving_path_pulls_in_no_solver() -> None:
    code = "import sys, motley_solver.steptime; print('pulp' in sys.modules, 'highspy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
