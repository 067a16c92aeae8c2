"""How fast engines are held to be: Profiles by precedence, rooflines without one, spec sheets of a pool's own."""

from typing import Any

import pytest
from fleets import declared, model, pool, profile, view_of

from motley_operator.api import GPUPool
from motley_operator.speeds import Speed, gpu_of, kv_dtype, weight_dtype
from motley_solver.capacity import Engine, ThroughputTable
from motley_solver.problem import Shortfall
from motley_solver.steptime import UNMEASURED_ERROR, StepTime

SHEET = {"memory": "30Gi", "bandwidthGBs": "100", "bf16TFLOPS": "48", "linkGBs": "64"}


def pool_of(gpu: str, **sheet: object) -> GPUPool:
    (found,) = view_of(pool("x", {"gpu": gpu, "sheet": {**SHEET, **sheet}})).pools
    return found


def test_an_inline_sheet_goes_before_the_catalogue() -> None:
    own, (plain,) = gpu_of(pool_of("L4")), view_of(pool("l4")).pools
    assert (own.memory_gib, own.bandwidth_gb_s, own.link_gb_s) == (30, 100, 64)
    assert gpu_of(plain).memory_gib == 24


def test_what_a_sheet_leaves_out_is_as_the_catalogue_has_it() -> None:
    assert not gpu_of(pool_of("T4")).bf16 and gpu_of(pool_of("T4", bf16=True)).bf16
    assert gpu_of(pool_of("V100-32GB")).bf16 and not gpu_of(pool_of("V100-32GB", bf16=False)).bf16
    assert gpu_of(pool_of("CPU")).step_overhead_seconds > gpu_of(pool_of("L4")).step_overhead_seconds
    assert not gpu_of(pool_of("MI300X")).mesh  # the sheet says how the GPUs are joined


def test_fp32_is_a_sixteenth_unless_the_sheet_says_otherwise() -> None:
    assert gpu_of(pool_of("Own")).tflops_fp32 == 3
    assert gpu_of(pool_of("Own", fp32TFLOPS="20")).tflops_fp32 == 20


def test_a_sheet_of_ones_own_has_no_ones_calibration_and_claims_the_larger_error() -> None:
    """Whatever it is called: its numbers may be another GPU's (an H100 on PCIe)."""
    chat = model("chat", {"placement": {"tensorParallel": [1]}})
    (own,) = declared(pool("x", {"gpu": "H100", "sheet": SHEET}), chat).candidates
    (other,) = declared(pool("x", {"gpu": "Own", "sheet": SHEET}), chat).candidates
    (plain,) = declared(pool("x", {"gpu": "H100"}), chat).candidates
    assert step_time(own.speed) == step_time(other.speed)
    assert step_time(own.speed).error == UNMEASURED_ERROR > step_time(plain.speed).error


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        ({}, "bfloat16"),
        ({"dtype": "float16"}, "float16"),
        ({"quantization": "fp8"}, "fp8"),
        ({"quantization": "awq"}, "int4"),
    ],
)
def test_weights_are_stored_as_quantised(spec: dict[str, Any], dtype: str) -> None:
    assert weight_dtype(view_of(model("chat", spec)).models[0]) == dtype


def test_a_kv_cache_is_stored_as_the_model_computes_unless_said_otherwise() -> None:
    assert kv_dtype(view_of(model("chat", {"dtype": "float16"})).models[0]) == "float16"
    assert kv_dtype(view_of(model("chat", {"kvDtype": "fp8"})).models[0]) == "fp8"


# Profiles


def speed(*profiles: dict[str, Any], spec: dict[str, Any] | None = None) -> Speed:
    (found,) = declared(pool(), model("chat", spec or {}), *profiles).candidates
    return found.speed


def throughput(requests: str) -> list[dict[str, Any]]:
    return [
        {"inputTokens": 500, "outputTokens": 200, "requestsPerSecond": requests},
        {"inputTokens": 4000, "outputTokens": 200, "requestsPerSecond": requests},
    ]


def rates(found: Speed) -> set[float]:
    assert isinstance(found, ThroughputTable)
    return {entry.rate for entry in found.entries}


def step_time(found: Speed) -> StepTime:
    assert isinstance(found, Engine)
    return found.step_time


def test_a_profile_says_what_a_replica_serves() -> None:
    found = speed(profile("p", {"throughput": throughput("3")}))
    assert isinstance(found, ThroughputTable) and rates(found) == {3.0}
    assert (found.source, found.error) == ("Measured", 0.1)


def test_without_a_profile_a_roofline_is_estimated() -> None:
    found = step_time(speed())
    assert found.source == "Estimated" and found.error > 0


def test_a_measurement_goes_before_an_import_and_the_newest_before_older_ones() -> None:
    imported = profile("c", {"source": "Imported", "date": "2026-02-01", "throughput": throughput("1")})
    older = profile("b", {"source": "Measured", "date": "2025-01-01", "throughput": throughput("2")})
    newer = profile("a", {"source": "Measured", "date": "2025-06-01", "throughput": throughput("3")})
    assert rates(speed(imported, newer, older)) == {3.0}
    assert rates(speed(imported, older)) == {2.0}
    assert rates(speed(imported)) == {1.0}


@pytest.mark.parametrize(
    "other",
    [
        {"gpu": "A100"},
        {"tensorParallel": 2},
        {"dtype": "fp8"},
        {"kvDtype": "fp8"},
        {"shape": {"layers": 33}},
    ],
)
def test_a_profile_of_something_else_is_not_used(other: dict[str, Any]) -> None:
    assert step_time(speed(profile("p", other))).source == "Estimated"


def test_the_context_limit_of_a_model_does_not_make_it_another_shape() -> None:
    assert isinstance(speed(profile("p", {"shape": {"maxModelLen": 131072}})), ThroughputTable)


def test_coefficients_are_the_step_time() -> None:
    given = {"base": 0.02, "perPrefillToken": 0.0001, "weights": 0.01, "perToken": 2e-6}
    found = step_time(speed(profile("p", {"throughput": [], "coefficients": given})))
    assert (found.base, found.per_prefill_token, found.weights, found.per_token) == (0.02, 0.0001, 0.01, 2e-6)
    assert (found.source, found.error) == ("Measured", 0.1)


def test_the_time_of_a_prefill_token_may_lie_under_the_roof_alone() -> None:
    given = {"base": 0.02, "weights": 0.01, "perToken": 2e-6}
    assert step_time(speed(profile("p", {"throughput": [], "coefficients": given}))).per_prefill_token == 0


def test_weights_that_do_not_fit_say_so_even_with_a_profile() -> None:
    huge = {"shape": {"layers": 500}}
    found = speed(profile("p", huge), spec=huge)
    assert isinstance(found, Shortfall) and found.kind == "memory"


@pytest.mark.parametrize(("profiled", "pooled"), [("A100", "a100-80gb"), ("A100-80GB", "A100")])
def test_a_profile_of_a_gpu_is_found_whichever_of_its_names_is_used(profiled: str, pooled: str) -> None:
    (found,) = declared(pool("l4", {"gpu": pooled}), model(), profile("p", {"gpu": profiled})).candidates
    assert isinstance(found.speed, ThroughputTable)


@pytest.mark.parametrize(
    "spec", [{}, {"quantization": "fp8", "dtype": "float16"}, {"dtype": "float16", "kvDtype": "fp8"}]
)
def test_a_gpu_without_bf16_and_fp8_lacks_the_type_and_no_profile(spec: dict[str, Any]) -> None:
    small = {"shape": {"layers": 4}}
    (found,) = declared(pool("t4", {"gpu": "T4"}), model("chat", small, spec)).candidates
    assert found.speed == Shortfall("dtype")
    (found,) = declared(pool("t4", {"gpu": "T4"}), model("chat", small, {"dtype": "float16"})).candidates
    assert step_time(found.speed).source == "Estimated"


def test_heads_that_do_not_split_are_what_is_lacking() -> None:
    heads = {"shape": {"attentionHeads": 40, "kvHeads": 10}, "placement": {"tensorParallel": [2, 4]}}
    two, four = declared(pool("l4", {"node": {"gpus": 4}}), model("chat", heads)).candidates
    assert step_time(two.speed).source == "Estimated"
    assert four.speed == Shortfall("heads", needed=4)
