"""Why something is not served: each cause with the words that say what to change."""

from dataclasses import replace

import pytest

from motley_solver.problem import Capacity, Configuration, Role, Shortfall
from motley_solver.reasons import hopeless, nearest_shortfall, scarce, servable
from tests.solver.fleets import SHORT, UNKNOWN, configuration, model, pool, problem


def of_role(gpu: str, role: Role, kv_class: str = "bf16", rate: float = 1.0) -> Configuration:
    one = configuration(gpu, {SHORT: rate})
    return replace(one, key=f"{gpu}-{role}", role=role, kv_class=kv_class)


RACK = replace(pool("H100", 9.0), fabric="rack")
OTHER = replace(pool("L4", 1.0), fabric="rack")


@pytest.mark.parametrize(
    ("decode", "other", "found"),
    [
        (of_role("L4", "decode"), OTHER, True),
        (of_role("L4", "decode", kv_class="fp8"), OTHER, False),
        (of_role("L4", "decode"), replace(OTHER, fabric="row"), False),
        (of_role("L4", "decode"), replace(OTHER, fabric=""), False),
        (of_role("L4", "prefill"), OTHER, False),
        (of_role("L4", "aggregated"), replace(OTHER, fabric=""), True),
    ],
)
def test_a_route_is_one_configuration_or_two_that_understand_each_other(
    decode: Configuration, other: object, found: bool
) -> None:
    pools = {"H100": RACK, "L4": other}
    assert servable([of_role("H100", "prefill"), decode], pools) is found  # type: ignore[arg-type]


def test_halves_without_a_common_fabric_are_no_route() -> None:
    halves = model("chat", {SHORT: 1.0}, of_role("H100", "prefill"), of_role("L4", "decode"))
    assert hopeless(problem([halves], [RACK, OTHER]), halves, SHORT) is None
    apart = hopeless(problem([halves], [RACK, replace(OTHER, fabric="row")]), halves, SHORT)
    assert apart is not None and "no fabric and no form of the KV cache in common" in apart


def test_a_half_that_is_missing_is_the_reason() -> None:
    half = model("chat", {SHORT: 1.0}, of_role("H100", "prefill"), of_role("L4", "decode", rate=0.0))
    reason = hopeless(problem([half], [RACK, OTHER]), half, SHORT)
    assert reason is not None and reason.startswith("no GPU meets TPOT 40 ms: at best 80 ms with decode on L4")


@pytest.mark.parametrize(
    ("shortfalls", "key"),
    [
        ((Shortfall("memory", 30, 20), Shortfall("tpot", 0.09, 0.04)), "B"),
        ((Shortfall("tpot", 0.08, 0.04), Shortfall("tpot", 0.06, 0.04)), "B"),
        ((Shortfall("ttft", 2.0, 1.0), Shortfall("kv", 9000, 4000)), "A"),
    ],
)
def test_the_nearest_is_latency_before_memory_and_what_lacks_least(
    shortfalls: tuple[Shortfall, Shortfall], key: str
) -> None:
    ways = [
        replace(configuration(gpu, {}), key=gpu, capacities=(Capacity(SHORT, 0.0, 0.0, lack),))
        for gpu, lack in zip("AB", shortfalls, strict=True)
    ]
    found = nearest_shortfall(model("chat", {SHORT: 1.0}, *ways), SHORT)
    assert found is not None and found[0].key == key


def test_half_a_route_is_not_near_where_nothing_can_be_the_other_half() -> None:
    def lacking(key: str, role: Role, lack: Shortfall) -> Configuration:
        return replace(of_role("G", role), key=key, capacities=(Capacity(SHORT, 0.0, 0.0, lack),))

    late = lacking("both", "aggregated", Shortfall("ttft", 1.3, 0.8))
    halves = lacking("first", "prefill", Shortfall("ttft", 1.4, 0.8)), lacking("second", "decode", UNKNOWN)
    found = nearest_shortfall(model("chat", {SHORT: 1.0}, late, *halves), SHORT)
    assert found is not None and found[0].key == "both"
    alone = nearest_shortfall(model("chat", {SHORT: 1.0}, *halves), SHORT)
    assert alone is not None and alone[0].key == "second"


def test_a_target_that_is_met_by_few_requests_and_missed_by_many_is_not_said_to_be_met_at_best() -> None:
    lack = Shortfall("tpot", 0.025, 0.028)
    slow = replace(configuration("L4", {}), capacities=(Capacity(SHORT, 0.0, 0.0, lack),))
    chat = model("chat", {SHORT: 1.0}, slow)
    assert hopeless(problem([chat], [pool("L4", 1.0)]), chat, SHORT) == (
        "no GPU meets TPOT 28 ms often enough: 25 ms with L4 as soon as two requests meet; "
        "loosen slo.tpot, or add a pool with faster GPUs or more tensor parallelism"
    )


def test_without_a_profile_or_an_estimate_there_is_no_shortfall_to_name() -> None:
    chat = model("chat", {SHORT: 1.0}, configuration("L4", {}))
    assert nearest_shortfall(chat, SHORT) is None
    assert hopeless(problem([chat], [pool("L4", 1.0)]), chat, SHORT) == (
        "no profile covers this size and none can be estimated: add a Profile"
    )


def test_a_type_that_does_not_run_and_heads_that_do_not_split_have_cures_of_their_own() -> None:
    def reason(*lacks: Shortfall) -> str:
        ways = [
            replace(configuration(f"G{i}", {}), capacities=(Capacity(SHORT, 0.0, 0.0, lack),))
            for i, lack in enumerate(lacks)
        ]
        chat = model("chat", {SHORT: 1.0}, *ways)
        return hopeless(problem([chat], [pool("G0", 1.0)]), chat, SHORT) or ""

    dtype, heads, memory = Shortfall("dtype"), Shortfall("heads", needed=4), Shortfall("memory", 30, 20)
    assert reason(dtype) == (
        "G0 GPUs have neither BF16 nor FP8: set dtype to float16 (and no FP8 weights or KV cache), "
        "or add a pool with newer GPUs"
    )
    assert reason(heads) == "the heads do not split over 4 GPUs: allow another tensorParallel in its placement"
    assert reason(dtype, heads, memory) == reason(dtype)  # what fits in memory and lacks the type is nearest
    assert reason(memory, heads) == reason(memory)


def test_a_survivability_floor_is_a_reason_where_stock_and_budget_are_not() -> None:
    chat = replace(model("chat", {SHORT: 9.0}, configuration("L4", {SHORT: 1.0})), survivability=0.5)
    said = scarce(problem([chat], [pool("L4", 1.0)]), chat, SHORT, {"L4": 4}, 4.0, 4)
    assert said.startswith("50% of the load must survive the loss of any one Spot pool")
