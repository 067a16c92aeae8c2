"""How fast engines are held to be: Profiles by precedence, rooflines without one, spec sheets of a pool's own."""

from typing import Any

import pytest
from fleets import declared, model, pool, profile, view_of

from motley_operator.speeds import Speed, gpu_of, gpu_type, kv_dtype, weight_dtype
from motley_solver.capacity import Engine, ThroughputTable
from motley_solver.problem import Shortfall
from motley_solver.steptime import StepTime


def test_an_inline_sheet_goes_before_the_catalogue() -> None:
    sheet = {"memory": "10Gi", "bandwidthGBs": "100", "bf16TFLOPS": "50", "linkGBs": "64"}
    (own,), (plain,) = (view_of(pool("l4", {"sheet": sheet})).pools, view_of(pool("l4")).pools)
    assert (gpu_of(own).memory_gib, gpu_of(own).bandwidth_gb_s, gpu_of(own).link_gb_s) == (10, 100, 64)
    assert gpu_of(plain).memory_gib == 24


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


def test_a_profile_of_a_gpu_by_its_alias_is_found_for_the_pool_that_names_it_in_full() -> None:
    assert gpu_type("A100") == gpu_type("a100-80gb") == "A100-80GB"
    assert gpu_type("Own") == "Own"
