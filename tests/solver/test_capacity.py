"""Capacities: plausible against known figures, monotone, never absurd, and 0 with a reason where nothing fits."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_solver.capacity import (
    TOKEN_BUDGETS,
    Engine,
    Evaluation,
    Question,
    ThroughputEntry,
    ThroughputTable,
    configuration_of,
    engine_of,
    evaluations,
    seats,
    token_budget,
)
from motley_solver.hardware import ModelShape, gpu_named
from motley_solver.problem import Capacity, Configuration, Role, Shortfall, Slo
from motley_solver.steptime import StepTime, roofline
from motley_solver.workload import Bucket, BucketLoad

LLAMA_8B = ModelShape(32, 4096, 32, 8, 128, 14336, 128256)
LLAMA_70B = ModelShape(80, 8192, 64, 8, 128, 28672, 128256)
LOOSE = Slo(2.0, 0.5, 0.12, 0.95)
CHAT = Bucket(500, 250)
bounded = settings(max_examples=10, deadline=None, derandomize=True, database=None)


def engine(name: str = "A100", shape: ModelShape = LLAMA_8B, tp: int = 1, context: int = 16384) -> Engine:
    gpu = gpu_named(name)
    step = roofline(shape, gpu, tp, "bfloat16", "bfloat16")
    assert step
    found = engine_of(shape, gpu, tp, "bfloat16", "bfloat16", step, context)
    assert isinstance(found, Engine), found
    return found


def evaluation(found: Engine, slo: Slo, *buckets: Bucket, role: Role = "aggregated", reuse: float = 0.0) -> Evaluation:
    [answer] = evaluations([Question(found, slo, buckets, role, prefix_reuse=reuse)])
    return answer


def capacity(found: Engine, bucket: Bucket, slo: Slo, role: Role = "aggregated", reuse: float = 0.0) -> Capacity:
    return evaluation(found, slo, bucket, role=role, reuse=reuse).capacities[0]


def rate(found: Engine, bucket: Bucket, slo: Slo) -> float:
    return capacity(found, bucket, slo).rate


def configuration(
    source: Engine | ThroughputTable | Shortfall, *buckets: Bucket, role: Role = "aggregated"
) -> Configuration:
    loads = tuple(BucketLoad(bucket, 1.0) for bucket in buckets)
    return configuration_of("L4-tp1", "L4", 1, ("l",), source, LOOSE, loads, gpus=1, role=role, kv_class="16")


def test_capacities_of_an_8b_model_are_of_the_published_order() -> None:
    """Chat on one GPU: an L4 gives some hundred output tokens per second, an H100 some thousand."""
    names = ("L4", "A10G", "A100", "H100")
    answers = evaluations([Question(engine(name), LOOSE, (CHAT,)) for name in names])
    rates = {name: answer.capacities[0].rate for name, answer in zip(names, answers, strict=True)}
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
    name=st.sampled_from(["L4", "A100", "H100"]),
    role=st.sampled_from(["aggregated", "prefill", "decode"]),
    reuse=st.sampled_from([0.0, 0.7, 1.0]),
)
def test_a_capacity_is_a_rate_or_a_reason(
    size: int, output: int, ttft: float, tpot: float, attainment: float, name: str, role: Role, reuse: float
) -> None:
    here = capacity(engine(name), Bucket(size, output), Slo(ttft, 0.1, tpot, attainment), role, reuse)
    assert 0 <= here.rate <= here.best_effort < 1e6
    assert (here.rate == 0) == (here.shortfall is not None)
    if here.rate:
        assert here.rate >= 0.05 * here.best_effort  # no absurd replica counts
    elif here.shortfall:
        assert here.shortfall.needed > 0 and here.shortfall.available >= 0


def test_a_faster_engine_never_serves_less() -> None:
    slo, sizes = Slo(1.0, 0.3, 0.06, 0.99), (Bucket(100, 30), CHAT, Bucket(6000, 200))
    slow = engine("A100")
    t = slow.step_time
    faster = replace(
        t,
        base=t.base / 1.2,
        weights=t.weights / 1.2,
        per_token=t.per_token / 1.2,
        per_prefill_token=t.per_prefill_token / 1.2,
        per_decode_sequence=t.per_decode_sequence / 1.2,
        per_context_token=t.per_context_token / 1.2,
    )
    before, after = (evaluation(e, slo, *sizes).capacities for e in (slow, replace(slow, step_time=faster)))
    for one, other in zip(before, after, strict=True):
        assert other.rate >= one.rate > 0


@pytest.mark.parametrize(
    ("bucket", "slo", "kind"),
    [
        (Bucket(20000, 500), LOOSE, "context"),
        (Bucket(4000, 100), Slo(0.05, 0.0, 1.0, 0.99), "ttft"),
        (Bucket(500, 100), Slo(5.0, 0.0, 0.005, 0.99), "tpot"),
    ],
)
def test_what_cannot_be_served_is_zero_with_what_lacks(bucket: Bucket, slo: Slo, kind: str) -> None:
    found = capacity(engine(), bucket, slo)
    assert found.rate == 0
    assert found.shortfall is not None and found.shortfall.kind == kind
    assert found.shortfall.needed > found.shortfall.available > 0


def test_a_request_longer_than_the_kv_cache_does_not_fit() -> None:
    found = capacity(replace(engine(), kv_tokens=600), CHAT, LOOSE)
    assert (found.rate, found.best_effort, found.shortfall) == (0.0, 0.0, Shortfall("kv", 750, 600))


def test_weights_that_do_not_fit_say_what_they_need() -> None:
    step = roofline(LLAMA_70B, gpu_named("A100"), 1, "bfloat16", "bfloat16")
    assert step
    found = engine_of(LLAMA_70B, gpu_named("A100"), 1, "bfloat16", "bfloat16", step)
    assert isinstance(found, Shortfall)
    assert found.kind == "memory"
    assert found.needed == pytest.approx(132.9, abs=0.2)
    assert found.available == pytest.approx(71.3, abs=0.2)


def test_the_context_limit_is_the_smallest_of_user_model_and_memory() -> None:
    assert engine("A100", context=4096).max_model_len == 4096
    own = engine_of(
        replace(LLAMA_8B, max_model_len=2048), gpu_named("A100"), 1, "bfloat16", "bfloat16", StepTime(0.01, 1e-4), 4096
    )
    assert isinstance(own, Engine) and own.max_model_len == 2048
    l4 = engine("L4", context=131072)
    assert l4.max_model_len == l4.kv_tokens < 131072


def test_one_setting_serves_all_buckets_of_an_engine_whatever_its_traffic() -> None:
    slo, sizes = Slo(1.0, 0.3, 0.06, 0.99), (CHAT, Bucket(8000, 200))
    found = evaluation(engine("H100"), slo, *sizes)
    assert found.settings.max_num_batched_tokens in TOKEN_BUDGETS
    assert 16 <= found.settings.max_num_seqs <= min(512, found.settings.max_num_batched_tokens)
    assert all(c.rate > 0 for c in found.capacities)
    assert evaluation(engine("H100"), slo, *sizes[:1]).settings == found.settings
    assert evaluation(engine("H100"), slo, *sizes) is found  # remembered by content


def test_the_token_budget_is_the_largest_whose_iteration_keeps_to_tpot() -> None:
    found = replace(engine(), step_time=StepTime(0.01, 2e-5))
    budgets = {tpot: token_budget(found, Slo(1, 0, tpot)) for tpot in (1.0, 0.1, 0.06, 0.04, 0.001)}
    assert budgets == {1.0: 8192, 0.1: 4096, 0.06: 2048, 0.04: 1024, 0.001: 512}
    assert token_budget(found, Slo(1, 0, 0.001), "prefill") == 8192  # 10 ms of its 174 ms
    assert token_budget(replace(found, step_time=StepTime(0.001, 2e-5)), Slo(1, 0, 0.001), "prefill") == 512


def test_questions_asked_together_or_apart_have_the_same_answers() -> None:
    slo = Slo(1.5, 0.2, 0.071, 0.98)
    sizes = CHAT, Bucket(3000, 50)
    questions = [
        Question(engine("L4"), slo, sizes),
        Question(engine("A100"), slo, sizes, "prefill"),
        Question(engine("A100"), slo, sizes, "decode"),
    ]
    apart = [
        evaluations([replace(question, buckets=(bucket,))])[0].capacities[0]
        for question in questions
        for bucket in question.buckets
    ]
    together = evaluations([*questions, questions[0]])
    assert [capacity for answer in together[:-1] for capacity in answer.capacities] == apart
    assert together[-1] is together[0]


def test_a_prefill_replica_serves_prompts_and_a_decode_replica_what_follows() -> None:
    slo, bucket = Slo(4.0, 0.0, 0.04, 0.99), Bucket(3000, 200)
    whole, prompts, tokens = (capacity(engine(), bucket, slo, role) for role in ("aggregated", "prefill", "decode"))
    assert 0 < whole.rate < min(prompts.rate, tokens.rate)
    assert capacity(engine(), replace(bucket, output_tokens=800), slo, "prefill").rate == prompts.rate
    [far] = evaluations([Question(engine(), slo, (bucket,), "prefill", transfer_seconds_per_token=8e-4)])
    assert far.capacities[0].rate < prompts.rate
    [lost] = evaluations([Question(engine(), slo, (bucket,), "prefill", transfer_seconds_per_token=2e-3)])
    shortfall = lost.capacities[0].shortfall
    assert shortfall and shortfall.kind == "ttft" and shortfall.needed > shortfall.available == 4.0


def test_a_cached_prefix_saves_its_computation_and_not_its_memory() -> None:
    bucket = Bucket(4000, 100)
    full = replace(engine(), kv_tokens=12_500)
    questions = [Question(engine(), LOOSE, (bucket,), prefix_reuse=reuse) for reuse in (0.0, 0.5, 0.9)]
    answers = evaluations([*questions, replace(questions[-1], engine=full)])
    without, half, most, scarce = (answer.capacities[0].rate for answer in answers)
    assert without < half < most
    assert scarce < most / 3


def test_burstier_traffic_leaves_less() -> None:
    poisson, bursty = evaluations([Question(engine(), LOOSE, (CHAT,), arrival_cv=cv) for cv in (1.0, 5.0)])
    assert bursty.capacities[0].rate < poisson.capacities[0].rate


def test_an_engine_seats_what_memory_holds_and_tpot_allows() -> None:
    roomy = replace(engine("H100"), step_time=StepTime(0.01, 1e-4, 0, 1e-4, 1e-7))
    assert seats(roomy, Slo(1, 0, 0.2, 0.99)) == 512
    assert seats(roomy, Slo(1, 0, 0.0303, 0.99)) == 200  # (30.3 ms − 10 ms) / 0.1 ms, in eights
    assert seats(roomy, Slo(1, 0, 0.001, 0.99)) == 8
    assert seats(replace(roomy, kv_tokens=6400), Slo(1, 0, 0.2, 0.99)) == 96
    assert seats(replace(roomy, step_time=StepTime(0.01, 1e-4)), Slo(1, 0, 0.02, 0.99)) == 512
    assert seats(replace(roomy, step_time=StepTime(0.01, 1e-4, weights=0.01, per_token=1e-4)), Slo(1, 0, 0.0303)) == 200
    streaming = replace(roomy, step_time=StepTime(0.01, 1e-4, 0, 1e-4, weights=0.01))
    assert (seats(streaming, Slo(1, 0, 0.019)), seats(streaming, Slo(1, 0, 0.019), "prefill")) == (8, 512)


def test_a_table_serves_a_bucket_by_its_best_entry_at_least_as_large() -> None:
    entries = tuple(
        ThroughputEntry(bucket, value)
        for bucket, value in ((Bucket(500, 250), 4.0), (Bucket(1000, 250), 3.0), (Bucket(500, 1000), 1.0))
    )
    table = ThroughputTable(entries, 16384)
    sizes = Bucket(100, 100), Bucket(700, 100), Bucket(900, 900), Bucket(16000, 900)
    found = configuration(table, *sizes).capacities
    assert [c.rate for c in found] == [4.0, 3.0, 0.0, 0.0]
    assert [c.shortfall and c.shortfall.kind for c in found] == [None, None, "profile", "context"]


def test_a_table_of_whole_requests_says_nothing_of_half_ones() -> None:
    table = ThroughputTable((ThroughputEntry(CHAT, 4.0),), 16384)
    assert configuration(table, CHAT, role="decode").capacity(CHAT).shortfall == Shortfall("profile")


def test_a_configuration_carries_the_source_and_error_of_its_capacities() -> None:
    estimated = configuration(engine(), CHAT)
    assert (estimated.estimated, estimated.error) == (True, engine().step_time.error)
    measured = StepTime(0.02, 1e-4, 0, 1e-4, 1e-7, source="Measured", error=0.05)
    exact = configuration(Engine(measured, 10**5, 8192), CHAT, role="decode")
    assert (exact.estimated, exact.error, exact.role, exact.kv_class) == (False, 0.05, "decode", "16")
    lacking = configuration(Shortfall("memory", 30, 20), CHAT)
    assert lacking.capacity(CHAT).shortfall == Shortfall("memory", 30, 20)


@pytest.mark.parametrize("bucket", [Bucket(1, 1), Bucket(1, 2), Bucket(10, 1), Bucket(16000, 1), Bucket(1, 16000)])
def test_extreme_sizes_have_a_finite_capacity(bucket: Bucket) -> None:
    assert 0 <= rate(engine(), bucket, LOOSE) < 1e5
