"""Capacities: plausible against known figures, monotone, never absurd, and 0 with a reason where nothing fits."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_solver.capacity import (
    SCALE,
    TOKEN_BUDGETS,
    Engine,
    Replica,
    ThroughputEntry,
    ThroughputTable,
    capacity,
    configuration_of,
    engine_of,
    evaluated,
    seats,
)
from motley_solver.hardware import ModelShape, gpu_named
from motley_solver.problem import Shortfall, Slo
from motley_solver.steptime import StepTime, roofline
from motley_solver.workload import Bucket, BucketLoad

LLAMA_8B = ModelShape(32, 4096, 32, 8, 128, 14336, 128256)
LLAMA_70B = ModelShape(80, 8192, 64, 8, 128, 28672, 128256)
LOOSE = Slo(2.0, 0.5, 0.12, 0.95)
CHAT = Bucket(500, 250)
bounded = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def engine(name: str = "A100", shape: ModelShape = LLAMA_8B, tp: int = 1, context: int = 16384) -> Engine:
    gpu = gpu_named(name)
    step = roofline(shape, gpu, tp, "bfloat16", "bfloat16")
    assert step
    found = engine_of(shape, gpu, tp, "bfloat16", "bfloat16", step, context)
    assert isinstance(found, Engine), found
    return found


def rate(found: Engine, bucket: Bucket, slo: Slo, budget: int = 2048) -> float:
    return capacity(found, bucket, slo, budget).rate


def test_capacities_of_an_8b_model_are_of_the_published_order() -> None:
    """Chat on one GPU: an L4 gives some hundred output tokens per second, an H100 some thousand."""
    rates = {name: rate(engine(name), CHAT, LOOSE) for name in ("L4", "A10G", "A100", "H100")}
    assert 0.3 < rates["L4"] < 3
    assert 5 < rates["A100"] < 20
    assert 10 < rates["H100"] < 50
    assert rates["L4"] < rates["A10G"] < rates["A100"] < rates["H100"]


def test_kv_memory_bounds_what_runs_together() -> None:
    plenty = engine()
    scarce = replace(plenty, kv_tokens=3000)
    assert 0 < rate(scarce, CHAT, LOOSE) < rate(plenty, CHAT, LOOSE) / 5


@bounded
@given(
    size=st.integers(1, 9000),
    output=st.integers(1, 2000),
    ttft=st.floats(0.02, 5),
    tpot=st.floats(0.005, 0.3),
    attainment=st.sampled_from([0.5, 0.9, 0.99, 0.999]),
    budget=st.sampled_from(TOKEN_BUDGETS),
    name=st.sampled_from(["L4", "A100", "H100"]),
)
def test_capacity_grows_with_looser_targets_and_shrinks_with_larger_requests(
    size: int, output: int, ttft: float, tpot: float, attainment: float, budget: int, name: str
) -> None:
    found, slo, bucket = engine(name), Slo(ttft, 0.1, tpot, attainment), Bucket(size, output)
    here = capacity(found, bucket, slo, budget)
    assert 0 <= here.rate <= here.best_effort
    assert (here.rate == 0) == (here.shortfall is not None)
    if here.rate:
        assert here.rate >= 0.019 * here.best_effort  # no absurd replica counts
    slack = 1 - 1e-6
    for looser in (Slo(ttft * 2, 0.1, tpot, attainment), Slo(ttft, 0.1, tpot * 2, attainment)):
        assert rate(found, bucket, looser, budget) >= here.rate * slack
    assert rate(found, bucket, Slo(ttft, 0.1, tpot, 0.5), budget) >= here.rate * slack
    longer = capacity(found, Bucket(size, output * 2), replace(slo, ttft_seconds_per_1k_input=0.0), budget)
    flat = capacity(found, bucket, replace(slo, ttft_seconds_per_1k_input=0.0), budget)
    if output > 50:  # with very short outputs prefill interference dominates TPOT, which longer outputs dilute
        assert longer.best_effort <= flat.best_effort * (1 + 1e-6)


@pytest.mark.parametrize(
    ("bucket", "slo", "kind"),
    [
        (Bucket(20000, 500), LOOSE, "context"),
        (Bucket(4000, 100), Slo(0.05, 0.0, 1.0, 0.99), "ttft"),
        (Bucket(500, 100), Slo(5.0, 0.0, 0.005, 0.99), "tpot"),
    ],
)
def test_what_cannot_be_served_is_zero_with_what_lacks(bucket: Bucket, slo: Slo, kind: str) -> None:
    found = capacity(engine(), bucket, slo, 2048)
    assert found.rate == 0
    assert found.shortfall is not None and found.shortfall.kind == kind
    assert found.shortfall.needed > found.shortfall.available > 0


def test_a_request_longer_than_the_kv_cache_does_not_fit() -> None:
    found = capacity(replace(engine(), kv_tokens=600), CHAT, LOOSE, 2048)
    assert (found.rate, found.best_effort, found.shortfall) == (0.0, 0.0, Shortfall("kv", 750, 600))


def test_weights_that_do_not_fit_say_what_they_need() -> None:
    step = roofline(LLAMA_70B, gpu_named("A100"), 1, "bfloat16", "bfloat16")
    assert step
    found = engine_of(LLAMA_70B, gpu_named("A100"), 1, "bfloat16", "bfloat16", step)
    assert isinstance(found, Shortfall)
    assert found.kind == "memory"
    assert found.needed == pytest.approx(132.9, abs=0.2)
    assert found.available == pytest.approx(71.3, abs=0.2)


def test_the_context_limit_is_the_smallest_of_user_and_memory() -> None:
    assert engine("A100", context=4096).max_model_len == 4096
    l4 = engine("L4", context=131072)
    assert l4.max_model_len == l4.kv_tokens < 131072


def test_one_setting_serves_all_buckets_of_an_engine() -> None:
    loads = (BucketLoad(CHAT, 3.0), BucketLoad(Bucket(8000, 200), 0.2))
    found = evaluated(engine("H100"), Slo(1.0, 0.3, 0.06, 0.99), loads)
    assert found.settings.max_num_batched_tokens in TOKEN_BUDGETS
    assert 16 <= found.settings.max_num_seqs <= min(512, found.settings.max_num_batched_tokens)
    assert all(c.rate > 0 for c in found.capacities)
    assert evaluated(engine("H100"), Slo(1.0, 0.3, 0.06, 0.99), loads) is found  # cached by content


SIZES = (Bucket(64, 20), CHAT, Bucket(4000, 200), Bucket(12000, 500))


@bounded
@given(
    weights=st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    factor=st.floats(0.01, 100),
    tpot=st.floats(0.02, 0.2),
    name=st.sampled_from(["L4", "A100", "H100"]),
)
def test_a_change_of_rate_does_not_change_engine_settings(
    weights: list[float], factor: float, tpot: float, name: str
) -> None:
    """Neither the rate nor the mix: other settings would restart every engine."""
    slo = Slo(1.0, 0.3, tpot, 0.99)
    found = {
        evaluated(engine(name), slo, tuple(BucketLoad(b, w * scale) for b, w in zip(SIZES, of_sizes, strict=True)))
        for of_sizes in (weights, [1.0] * 4)
        for scale in (0.8, 1.0, 1.2, factor)
    }
    assert len(found) == 1


def test_an_engine_seats_what_memory_holds_and_tpot_allows() -> None:
    roomy = replace(engine("H100"), step_time=StepTime(0.01, 1e-4, 0, 1e-4, 1e-7))
    assert seats(roomy, Slo(1, 0, 0.2, 0.99)) == 512
    assert seats(roomy, Slo(1, 0, 0.0303, 0.99)) == 200  # (30.3 ms − 10 ms) / 0.1 ms, in eights
    assert seats(roomy, Slo(1, 0, 0.001, 0.99)) == 8
    assert seats(replace(roomy, kv_tokens=6400), Slo(1, 0, 0.2, 0.99)) == 96
    assert seats(replace(roomy, step_time=StepTime(0.01, 1e-4)), Slo(1, 0, 0.02, 0.99)) == 512


@bounded
@given(
    size=st.integers(1, 9000),
    output=st.integers(1, 2000),
    ttft=st.floats(0.05, 5),
    tpot=st.floats(0.01, 0.3),
    name=st.sampled_from(["L4", "A100", "H100"]),
)
def test_the_next_rate_above_a_capacity_breaks_a_target_or_a_limit(
    size: int, output: int, ttft: float, tpot: float, name: str
) -> None:
    found, slo, bucket = engine(name), Slo(ttft, 0.1, tpot, 0.99), Bucket(size, output)
    here = capacity(found, bucket, slo, 2048)
    state = Replica(found, bucket, 0.99, 2048).state
    if here.rate:
        at, above = state(here.rate), state(here.rate * SCALE)
        assert at.tpot <= tpot and at.ttft <= slo.ttft_seconds(size) and at.sequences <= seats(found, slo)
        assert (
            above.tpot > tpot
            or above.ttft > slo.ttft_seconds(size)
            or above.sequences > seats(found, slo)
            or above.utilisation > 0.9
            or above.kv_tokens > found.kv_tokens
        )


def test_a_tight_tpot_lowers_the_token_budget_or_the_rate() -> None:
    bucket = Bucket(4000, 20)
    tight = Slo(3.0, 0.0, 0.03, 0.99)
    assert rate(engine("H100"), bucket, tight, 512) > 0
    assert rate(engine("H100"), bucket, tight, 512) >= rate(engine("H100"), bucket, tight, 8192)


def test_a_table_serves_a_bucket_by_its_best_entry_at_least_as_large() -> None:
    entries = tuple(
        ThroughputEntry(bucket, value)
        for bucket, value in ((Bucket(500, 250), 4.0), (Bucket(1000, 250), 3.0), (Bucket(500, 1000), 1.0))
    )
    table = ThroughputTable(entries, 16384)
    loads = tuple(
        BucketLoad(b, 1.0) for b in (Bucket(100, 100), Bucket(700, 100), Bucket(900, 900), Bucket(16000, 900))
    )
    found = evaluated(table, LOOSE, loads).capacities
    assert [c.rate for c in found] == [4.0, 3.0, 0.0, 0.0]
    assert [c.shortfall and c.shortfall.kind for c in found] == [None, None, "profile", "context"]


def test_a_configuration_carries_the_source_and_error_of_its_capacities() -> None:
    loads = (BucketLoad(CHAT, 1.0),)
    estimated = configuration_of("A100-tp1", "A100", 1, ("a",), engine(), LOOSE, loads, gpus=1)
    assert (estimated.estimated, estimated.error) == (True, 0.25)
    measured = StepTime(0.02, 1e-4, 0, 1e-4, 1e-7, source="Measured", error=0.05)
    exact = configuration_of("A100-tp1", "A100", 1, ("a",), Engine(measured, 10**5, 8192), LOOSE, loads, gpus=1)
    assert (exact.estimated, exact.error) == (False, 0.05)
    lacking = configuration_of("L4-tp1", "L4", 1, ("l",), Shortfall("memory", 30, 20), LOOSE, loads, gpus=1)
    assert lacking.capacity(CHAT).shortfall == Shortfall("memory", 30, 20)


@pytest.mark.parametrize("bucket", [Bucket(1, 1), Bucket(1, 2), Bucket(10, 1), Bucket(16000, 1), Bucket(1, 16000)])
def test_extreme_sizes_have_a_finite_capacity(bucket: Bucket) -> None:
    assert 0 <= rate(engine(), bucket, LOOSE) < 1e5
