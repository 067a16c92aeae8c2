"""The optimisation's answers: exact, honest about what is left out, and placeable."""

from dataclasses import replace

import pytest

from motley_solver.check import violations
from motley_solver.ilp import solve
from motley_solver.plan import Infeasible, Plan, Unsolved
from motley_solver.problem import Problem, Running
from motley_solver.workload import Bucket
from tests.solver.fleets import LONG, SHORT, configuration, model, pool, problem


def planned(question: Problem) -> Plan:
    plan = solve(question)
    assert isinstance(plan, Plan), plan
    assert violations(question, plan) == ()
    return plan


def counts(plan: Plan) -> dict[tuple[str, str], int]:
    return {(a.model.removeprefix("test/"), a.configuration): a.replicas for a in plan.allocations}


def two_types(rate: float = 3.0, **limits: int) -> Problem:
    """L4 is cheap for short requests, A100 is needed for long ones."""
    l4 = configuration("L4", {SHORT: 2.0, LONG: 0.0})
    a100 = configuration("A100", {SHORT: 10.0, LONG: 1.0})
    chat = model("chat", {SHORT: rate, LONG: 0.5}, l4, a100)
    return problem([chat], [pool("L4", 1.0, limits.get("l4", 10)), pool("A100", 4.0, limits.get("a100", 10))])


def test_sizes_are_split_over_gpu_types_at_least_cost() -> None:
    plan = planned(two_types())
    assert counts(plan) == {("chat", "A100-tp1"): 1}
    assert (plan.cost_per_hour, plan.proven, plan.complete) == (4.0, True, True)
    more = planned(two_types(rate=8.0))
    assert counts(more) == {("chat", "A100-tp1"): 1, ("chat", "L4-tp1"): 2}
    assert {a.configuration for a in more.assignment if a.bucket == LONG} == {"A100-tp1"}
    assert more.lower_bound == pytest.approx(6.0)


def test_a_pool_with_max_zero_gets_no_replicas() -> None:
    plan = planned(two_types(rate=8.0, l4=0))
    assert counts(plan) == {("chat", "A100-tp1"): 2}


def test_headroom_is_added_to_the_load() -> None:
    exact = two_types(rate=5.0)
    assert planned(exact).cost_per_hour == 4.0
    assert planned(replace(exact, headroom=0.1)).cost_per_hour == 5.0


@pytest.mark.parametrize("rate", [1e-9, 1e-6, 1e-3])
def test_a_tiny_load_still_gets_a_replica(rate: float) -> None:
    l4 = configuration("L4", {SHORT: 50.0})
    plan = planned(problem([model("chat", {SHORT: rate}, l4)], [pool("L4", 1.0)]))
    assert counts(plan) == {("chat", "L4-tp1"): 1}
    assert plan.complete


def test_a_tiny_load_beside_a_full_replica_is_not_lost() -> None:
    l4 = configuration("L4", {SHORT: 1.0, LONG: 1.0})
    plan = planned(problem([model("chat", {SHORT: 3.0, LONG: 1e-5}, l4)], [pool("L4", 1.0)]))
    assert counts(plan) == {("chat", "L4-tp1"): 4}


@pytest.mark.parametrize(("rate", "replicas"), [(3.0, 3), (3.0000005, 4), (2.9999999, 3)])
def test_loads_at_the_edge_of_a_whole_number_are_rounded_right(rate: float, replicas: int) -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    plan = planned(problem([model("chat", {SHORT: rate}, l4)], [pool("L4", 1.0)]))
    assert counts(plan) == {("chat", "L4-tp1"): replicas}


def test_a_huge_load_is_planned() -> None:
    l4 = configuration("L4", {SHORT: 2.0})
    plan = planned(problem([model("chat", {SHORT: 1e6}, l4)], [pool("L4", 1.0, 10**7)]))
    assert counts(plan) == {("chat", "L4-tp1"): 500_000}


def test_throughputs_that_differ_by_six_orders_of_magnitude_are_planned() -> None:
    slow, fast = configuration("slow", {SHORT: 1e-3}), configuration("fast", {SHORT: 1e3})
    plan = planned(problem([model("chat", {SHORT: 10.0}, slow, fast)], [pool("slow", 1e-6, 10**6), pool("fast", 1.0)]))
    assert counts(plan) == {("chat", "slow-tp1"): 10_000}


def test_three_tp4_replicas_are_never_planned_on_two_nodes_of_six_gpus() -> None:
    h100 = configuration("H100", {SHORT: 1.0}, tensor_parallel=4)
    question = problem([model("big", {SHORT: 3.0}, h100)], [pool("H100", 10.0, 5, gpus=6)])
    plan = planned(question)
    assert plan.nodes[0].nodes == 3
    two = planned(replace(question, pools=(pool("H100", 10.0, 2, gpus=6),)))
    assert two.allocations[0].replicas == 2
    assert two.unserved[0].rate == pytest.approx(1.0)


def test_small_groups_use_what_large_groups_leave_on_a_node() -> None:
    four = configuration("H100", {SHORT: 1.0}, tensor_parallel=4)
    one = configuration("H100", {SHORT: 1.0}, tensor_parallel=1)
    models = [model("big", {SHORT: 2.0}, four), model("small", {SHORT: 4.0}, one)]
    assert planned(problem(models, [pool("H100", 10.0, 5, gpus=6)])).nodes[0].nodes == 2


def test_cpus_and_memory_of_a_node_limit_its_replicas() -> None:
    greedy = configuration("L4", {SHORT: 1.0}, cpus=10.0)
    heavy = configuration("L4", {LONG: 1.0}, memory_gib=150.0)
    models = [model("greedy", {SHORT: 6.0}, greedy), model("heavy", {LONG: 2.0}, heavy)]
    plan = planned(problem(models, [pool("L4", 1.0, 10, gpus=4)]))  # nodes of 64 CPUs and 256 GiB
    assert plan.nodes[0].nodes == 2


def test_mixed_replicas_that_only_together_overfill_a_node_get_another_node() -> None:
    wide = configuration("L4", {SHORT: 1.0}, cpus=40.0)
    other = configuration("L4", {SHORT: 1.0}, cpus=30.0)
    models = [model("a", {SHORT: 2.0}, wide), model("b", {SHORT: 1.0}, other)]
    plan = planned(problem(models, [pool("L4", 1.0, 10, gpus=4)]))
    assert plan.nodes[0].nodes == 3  # 40+40 and 40+30 CPUs are both more than 64


def test_many_odd_sizes_are_still_packed() -> None:
    models = [
        model(f"m{i}", {SHORT: 1.0}, configuration("L4", {SHORT: 1.0}, cpus=1.0 + i / 10, memory_gib=80.0 - i))
        for i in range(14)
    ]
    plan = planned(problem(models, [pool("L4", 1.0, 20, gpus=8)]))
    assert plan.complete and plan.nodes[0].nodes >= 2


def test_a_pool_without_gpus_is_planned_by_cpus() -> None:
    tiny = configuration("CPU", {SHORT: 1.0}, cpus=6.0, gpus=0)
    plan = planned(problem([model("tiny", {SHORT: 3.0}, tiny)], [pool("CPU", 0.1, 10, gpus=0)]))
    assert plan.nodes[0].nodes == 2  # two of 6 CPUs on a node of 16


def test_higher_priority_is_served_first_under_scarcity() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    models = [model("low", {SHORT: 2.0}, l4, priority=1), model("high", {SHORT: 2.0}, l4, priority=5)]
    plan = planned(problem(models, [pool("L4", 1.0, 3)]))
    served = {summary.model: summary.served for summary in plan.models}
    assert served == {"test/high": pytest.approx(2.0), "test/low": pytest.approx(1.0)}
    assert [(left.model, left.rate) for left in plan.unserved] == [("test/low", pytest.approx(1.0))]


def test_priority_goes_before_the_number_of_requests() -> None:
    l4 = {"many": configuration("L4", {SHORT: 100.0}), "few": configuration("L4", {SHORT: 1.0})}
    models = [model("many", {SHORT: 100.0}, l4["many"]), model("few", {SHORT: 1.0}, l4["few"], priority=1)]
    plan = planned(problem(models, [pool("L4", 1.0, 1)]))
    assert counts(plan) == {("few", "L4-tp1"): 1}


def test_scarce_stock_is_named_with_its_pool() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    plan = planned(problem([model("chat", {SHORT: 5.0}, l4)], [pool("L4", 1.0, 2)]))
    assert plan.unserved[0].reason == "all nodes of pool L4 (2) are in use: raise its maxNodes or add a pool"


def test_the_budget_is_kept_and_named() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    plan = planned(problem([model("chat", {SHORT: 5.0}, l4)], [pool("L4", 1.0)], budget=3.5))
    assert plan.cost_per_hour == 3.0
    assert plan.unserved[0].reason.startswith("the budget of 3.50 per hour leaves 0.50")


def test_max_replicas_is_kept_and_named() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    plan = planned(problem([model("chat", {SHORT: 5.0}, l4, max_replicas=2)], [pool("L4", 1.0)]))
    assert plan.allocations[0].replicas == 2
    assert plan.unserved[0].reason == "it has its maxReplicas of 2: raise maxReplicas"


def test_min_replicas_stand_without_any_load_and_take_its_first_requests() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    plan = planned(problem([model("chat", {SHORT: 0.0}, l4, min_replicas=2)], [pool("L4", 1.0)]))
    assert counts(plan) == {("chat", "L4-tp1"): 2}
    assert [(a.bucket, a.share) for a in plan.assignment] == [(SHORT, 1.0)]
    assert plan.models[0].predicted_attainment == 1.0


def test_a_bucket_no_gpu_can_serve_names_the_best_latency_and_leaves_the_rest_served() -> None:
    l4 = configuration("L4", {SHORT: 1.0, LONG: 0.0}, best_effort={LONG: 0.5})
    plan = planned(problem([model("chat", {SHORT: 1.0, LONG: 1.0}, l4)], [pool("L4", 1.0)]))
    assert [(left.bucket, left.rate) for left in plan.unserved] == [(LONG, 1.0)]
    assert plan.unserved[0].reason.startswith("no GPU meets TPOT 40 ms: at best 80 ms with L4; loosen slo.tpot")
    assert plan.models[0].served == pytest.approx(1.0)


def test_a_rare_bucket_outside_the_slo_is_served_within_what_attainment_allows() -> None:
    l4 = configuration("L4", {SHORT: 1.0, LONG: 0.0}, best_effort={LONG: 0.5})
    rare = model("chat", {SHORT: 0.9, LONG: 0.005}, l4, attainment=0.99)
    plan = planned(problem([rare], [pool("L4", 1.0)]))
    assert plan.complete
    assert [(a.bucket, a.within_slo) for a in plan.assignment] == [(SHORT, True), (LONG, False)]
    assert plan.models[0].predicted_attainment == pytest.approx(0.9 / 0.905)


def test_no_more_than_the_allowed_part_is_planned_outside_the_slo() -> None:
    l4 = configuration("L4", {SHORT: 1.0, LONG: 0.0}, best_effort={LONG: 0.5})
    plan = planned(problem([model("chat", {SHORT: 0.9, LONG: 0.1}, l4, attainment=0.99)], [pool("L4", 1.0)]))
    assert plan.unserved[0].rate == pytest.approx(0.09)
    assert plan.unserved[0].reason.startswith("no GPU meets TPOT")
    assert plan.unserved[0].reason.endswith("at most 1% of the load may miss the SLO")


def test_a_model_without_configurations_does_not_disturb_the_others() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    models = [model("lost", {SHORT: 1.0}, min_replicas=1), model("chat", {SHORT: 1.0}, l4)]
    plan = planned(problem(models, [pool("L4", 1.0)]))
    assert counts(plan) == {("chat", "L4-tp1"): 1}
    assert [(left.model, left.reason) for left in plan.unserved] == [
        (
            "test/lost",
            "no pool with nodes may run it: raise a maxNodes of 0, add a GPUPool, or allow one in its placement",
        )
    ]


def test_a_model_whose_pools_may_have_no_node_is_unserved_not_infeasible() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    plan = planned(problem([model("chat", {SHORT: 1.0}, l4, min_replicas=1)], [pool("L4", 1.0, 0)]))
    assert "pool L4 may have no node" in plan.unserved[0].reason


def test_a_replica_larger_than_any_node_is_unserved_with_both_sizes() -> None:
    huge = configuration("L4", {SHORT: 1.0}, tensor_parallel=8)
    plan = planned(problem([model("chat", {SHORT: 1.0}, huge)], [pool("L4", 1.0, gpus=4)]))
    assert "a replica takes 8 GPUs" in plan.unserved[0].reason
    assert "a node of pool L4 has 4" in plan.unserved[0].reason


def test_min_replicas_beyond_the_stock_get_what_there_is_and_it_is_said() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    plan = planned(problem([model("chat", {SHORT: 1.0}, l4, min_replicas=5)], [pool("L4", 1.0, 3)]))
    assert counts(plan) == {("chat", "L4-tp1"): 3}
    assert [(left.rate, left.reason) for left in plan.unserved] == [
        (0.0, "minReplicas is 5, planned are 3: all nodes of pool L4 (3) are in use: raise its maxNodes or add a pool")
    ]


def test_an_impossible_minimum_of_one_model_leaves_the_others_their_load_and_their_minima() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    greedy = model("greedy", {SHORT: 0.5}, l4, min_replicas=100)
    plan = planned(problem([model("chat", {SHORT: 1.5}, l4, min_replicas=1), greedy], [pool("L4", 1.0, 4)]))
    assert counts(plan) == {("chat", "L4-tp1"): 2, ("greedy", "L4-tp1"): 2}
    assert {left.model for left in plan.unserved} == {"test/greedy"}


def test_minima_are_met_by_priority() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    models = [model(name, {SHORT: 0.0}, l4, min_replicas=2, priority=p) for name, p in (("a", 0), ("b", 5))]
    assert counts(planned(problem(models, [pool("L4", 1.0, 3)]))) == {("a", "L4-tp1"): 1, ("b", "L4-tp1"): 2}


def test_a_budget_below_the_minima_buys_what_it_can() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    plan = planned(problem([model("chat", {SHORT: 1.0}, l4, min_replicas=3)], [pool("L4", 2.0)], budget=5.0))
    assert counts(plan) == {("chat", "L4-tp1"): 2}
    assert "the budget of 5.00 per hour leaves 1.00" in plan.unserved[0].reason


def test_a_hundred_models_on_three_nodes_are_planned_in_one_go() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    models = [model(f"m{i}", {SHORT: 0.2}, l4, min_replicas=1) for i in range(100)]
    plan = planned(problem(models, [pool("L4", 1.0, 3)]))
    assert sum(a.replicas for a in plan.allocations) == 3
    assert plan.solve_seconds < 20


def test_a_minimum_above_the_maximum_is_infeasible() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    outcome = solve(problem([model("chat", {SHORT: 1.0}, l4, min_replicas=3, max_replicas=2)], [pool("L4", 1.0)]))
    assert isinstance(outcome, Infeasible)
    assert outcome.reasons == ("test/chat: minReplicas 3 is above maxReplicas 2",)


def test_a_reserved_node_that_holds_everything_is_all_that_is_used() -> None:
    """HiGHS 1.15.1 starts anew at the root of this program, and then proves that another node must be bought."""
    pools = [pool("three", 6.08, 3, gpus=3), pool("eight", 16.54, 2, gpus=8, reserved=1), pool("one", 1.53, 1)]
    names = ("three", "eight", "one")
    small = configuration("G", {SHORT: 1.667, LONG: 0.996}, pools=names, cpus=4.0, memory_gib=30.0)
    large = configuration("G", {SHORT: 5.32, LONG: 11.33}, 4, names, cpus=16.0)
    chat = model("chat", {SHORT: 6.978, LONG: 0.00046}, small, large, min_replicas=2)
    plan = planned(problem([chat], [replace(one, gpu="G") for one in pools]))
    assert plan.cost_per_hour == pytest.approx(16.54)


def test_a_model_without_traffic_waits_with_a_replica_that_could_serve_alone() -> None:
    whole = configuration("H100", {SHORT: 4.0})
    half = configuration("L4", {SHORT: 4.0}, role="decode", kv_class="bf16")
    pools = [pool("H100", 6.0, fabric="rack"), pool("L4", 1.0, fabric="rack")]
    plan = planned(problem([model("chat", {SHORT: 0.0}, whole, half, min_replicas=1)], pools))
    assert counts(plan) == {("chat", "H100-tp1"): 1}
    assert [route.configuration for route in plan.assignment] == ["H100-tp1"]


def test_an_empty_fleet_has_an_empty_plan() -> None:
    plan = planned(problem([], [pool("L4", 1.0)]))
    assert (plan.allocations, plan.cost_per_hour, plan.proven) == ((), 0.0, True)
    assert planned(problem([], [])).nodes == ()


def test_nodes_that_cost_nothing_are_not_hoarded() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    plan = planned(problem([model("chat", {SHORT: 1.5}, l4)], [pool("L4", 0.0)]))
    assert (plan.allocations[0].replicas, plan.nodes[0].nodes) == (2, 2)


def test_among_equal_plans_the_running_one_is_kept() -> None:
    names = ("one", "two", "three")
    choices = tuple(configuration(name, {SHORT: 1.0}) for name in names)
    question = problem([model("chat", {SHORT: 2.0}, *choices)], [pool(name, 1.0) for name in names])
    for name in names:
        running = (Running("test/chat", name, f"{name}-tp1", 2),)
        assert counts(planned(replace(question, running=running))) == {("chat", f"{name}-tp1"): 2}


def test_equal_questions_get_equal_answers() -> None:
    first, second = planned(two_types(rate=8.0)), planned(two_types(rate=8.0))
    assert replace(first, solve_seconds=0.0) == replace(second, solve_seconds=0.0)


def test_a_pools_cost_is_shared_by_the_models_on_it() -> None:
    h100 = configuration("H100", {SHORT: 1.0})
    models = [model("a", {SHORT: 3.0}, h100), model("b", {SHORT: 1.0}, h100)]
    plan = planned(problem(models, [pool("H100", 8.0, gpus=4)]))
    assert [summary.cost_per_hour for summary in plan.models] == [pytest.approx(6.0), pytest.approx(2.0)]


def test_a_hundred_models_are_planned_within_the_time_limit() -> None:
    types = [("L4", 0.8, 1), ("A10G", 5.7, 4), ("A100", 41.0, 8), ("H100", 98.0, 8), ("L40S", 10.5, 4)]
    pools = [pool(name, price, 400, gpus) for name, price, gpus in types]
    buckets = [Bucket(i, o) for i in (100, 1000, 4000) for o in (100, 500)]
    models = []
    for m in range(100):
        choices = [
            configuration(
                name, {b: price / gpus * tp**0.9 * (7 + (m * 13 + b.input_tokens) % 11) / 20 for b in buckets}, tp
            )
            for name, price, gpus in types
            for tp in (1, 2, 4)
            if tp <= gpus
        ]
        models.append(model(f"m{m}", {b: 0.3 + (m % 7) / 5 for b in buckets}, *choices))
    question = problem(models, pools)
    plan = solve(question, time_limit_seconds=3.0, relative_gap=0.05)
    assert isinstance(plan, Plan), plan
    assert plan.complete and plan.lower_bound > 0
    assert plan.cost_per_hour <= 1.5 * plan.lower_bound
    assert plan.solve_seconds < 30  # the limit, building the program and a loaded machine


def test_out_of_time_without_a_plan_is_unsolved_or_a_plan_but_never_infeasible() -> None:
    outcome = solve(two_types(rate=8.0), time_limit_seconds=0.0)
    assert isinstance(outcome, Plan | Unsolved)


def test_nothing_is_printed_while_solving(capfd: pytest.CaptureFixture[str]) -> None:
    planned(two_types(rate=8.0))
    solve(problem([model("x", {SHORT: 1.0}, configuration("L4", {SHORT: 1.0}))], [pool("L4", 1.0)], budget=0.5))
    assert capfd.readouterr() == ("", "")
