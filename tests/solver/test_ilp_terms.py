"""Disaggregated flows, reserved and spot nodes, survivability and switching, by hand-made fleets."""

from dataclasses import replace

import pytest

from motley_solver.check import violations
from motley_solver.ilp import solve
from motley_solver.plan import Infeasible, Plan
from motley_solver.problem import Problem, Role, Running
from tests.solver.fleets import LONG, SHORT, configuration, model, pool, problem


def planned(question: Problem) -> Plan:
    plan = solve(question)
    assert isinstance(plan, Plan), plan
    assert violations(question, plan) == ()
    assert plan.lower_bound <= plan.objective
    return plan


def counts(plan: Plan) -> dict[tuple[str, str], int]:
    return {(a.configuration, a.pool): a.replicas for a in plan.allocations}


# --- prefill and decode ---

PAIR: list[tuple[str, Role]] = [("front", "prefill"), ("back", "decode")]


def halves(kv_class: str = "bf16") -> Problem:
    """Aggregated replicas serve 1/s; H100 prefills 4/s and L4 decodes 2/s in the fabric that they share."""
    agg = configuration("H100", {SHORT: 1.0})
    prefill = configuration("H100", {SHORT: 4.0}, role="prefill", kv_class="bf16")
    decode = configuration("L4", {SHORT: 2.0}, role="decode", kv_class=kv_class)
    pools = [pool("H100", 4.0, fabric="ib"), pool("L4", 1.0, fabric="ib")]
    return problem([model("chat", {SHORT: 4.0}, agg, prefill, decode)], pools)


def test_prefill_and_decode_sit_on_different_gpu_types_where_that_is_cheaper() -> None:
    plan = planned(halves())
    assert counts(plan) == {("H100-tp1-prefillbf16", "H100"): 1, ("L4-tp1-decodebf16", "L4"): 2}
    assert [(a.role, a.share) for a in plan.assignment] == [("prefill", 1.0), ("decode", 1.0)]
    assert (plan.cost_per_hour, plan.complete, plan.proven) == (6.0, True, True)
    assert plan.models[0].served == pytest.approx(4.0)


def test_a_kv_cache_of_another_class_is_handed_to_nobody() -> None:
    assert counts(planned(halves(kv_class="fp8"))) == {("H100-tp1", "H100"): 4}


@pytest.mark.parametrize("fabrics", [("ib", "other"), ("", "")])
def test_a_kv_cache_stays_within_its_fabric(fabrics: tuple[str, str]) -> None:
    question = halves()
    pools = tuple(replace(p, fabric=fabric) for p, fabric in zip(question.pools, fabrics, strict=True))
    roles = question.models[0].configurations if fabrics[0] else question.models[0].configurations[:1]
    apart = replace(question, pools=pools, models=(replace(question.models[0], configurations=roles),))
    assert counts(planned(apart)) == {("H100-tp1", "H100"): 4}


def test_flows_of_many_configurations_meet_without_being_paired() -> None:
    prefills = [configuration(g, {SHORT: 3.0, LONG: 1.0}, role="prefill", kv_class="k") for g in ("A", "B")]
    decodes = [configuration(g, {SHORT: 2.0, LONG: 2.0}, role="decode", kv_class="k") for g in ("A", "B", "C")]
    pools = [pool(name, price, 2, fabric="ib") for name, price in (("A", 1.0), ("B", 1.1), ("C", 0.5))]
    plan = planned(problem([model("chat", {SHORT: 3.0, LONG: 1.0}, *prefills, *decodes)], pools))
    assert plan.complete and plan.cost_per_hour == pytest.approx(3.0)


def test_what_only_half_a_fleet_can_do_is_unserved() -> None:
    question = halves()
    chat = question.models[0]
    plan = planned(replace(question, models=(replace(chat, configurations=chat.configurations[1:2]),)))
    assert plan.allocations == () and plan.unserved[0].rate == 4.0


def test_decode_replicas_that_are_scarce_limit_what_is_prefilled() -> None:
    question = halves()
    chat = replace(question.models[0], configurations=question.models[0].configurations[1:])
    plan = planned(
        replace(question, models=(chat,), pools=(question.pools[0], replace(question.pools[1], max_nodes=1)))
    )
    assert plan.models[0].served == pytest.approx(2.0)


def test_a_size_without_traffic_finds_a_prefill_and_a_decode_route() -> None:
    question = halves()
    chat = replace(question.models[0], configurations=question.models[0].configurations[1:])
    able = (replace(c, capacities=(*c.capacities, replace(c.capacities[0], bucket=LONG))) for c in chat.configurations)
    idle = model("chat", {SHORT: 4.0, LONG: 0.0}, *able)
    plan = planned(replace(question, models=(idle,)))
    assert {(a.role, a.share) for a in plan.assignment if a.bucket == LONG} == {("prefill", 1.0), ("decode", 1.0)}


@pytest.mark.parametrize(("least", "pairs", "alone"), [(2, 2, 0), (3, 3, 0), (12, 10, 2)])
def test_a_minimum_counts_a_prefill_and_a_decode_replica_as_one(least: int, pairs: int, alone: int) -> None:
    """A pair costs 3 and an aggregated replica 5; there are ten pairs at most."""
    prefill, decode = (configuration(gpu, {SHORT: 9.0}, role=role, kv_class="k") for gpu, role in PAIR)
    whole = configuration("whole", {SHORT: 1.0})
    pools = [pool("front", 2.0, fabric="ib"), pool("back", 1.0, fabric="ib"), pool("whole", 5.0)]
    chat = model("chat", {SHORT: 1.0}, prefill, decode, whole, min_replicas=least)
    plan = planned(problem([chat], pools))
    found = {a.pool: a.replicas for a in plan.allocations}
    assert plan.complete and plan.proven
    assert (found["front"], found["back"], found.get("whole", 0)) == (pairs, pairs, alone)


def test_replicas_that_cannot_answer_fill_no_minimum() -> None:
    """Prefill replicas without a partner are cheap, and good for nothing."""
    front = configuration("front", {SHORT: 9.0}, role="prefill", kv_class="k")
    chat = model("chat", {SHORT: 1.0}, front, configuration("whole", {SHORT: 1.0}), min_replicas=3)
    plan = planned(problem([chat], [pool("front", 1.0, fabric="ib"), pool("whole", 5.0, 2)]))
    assert counts(plan) == {("whole-tp1", "whole"): 2}
    assert [left.rate for left in plan.unserved] == [0.0]
    assert plan.unserved[0].reason.startswith("minReplicas is 3, planned are 2: all nodes of pool whole (2) are in use")


def test_a_model_without_traffic_keeps_a_pair_where_nothing_else_is_allowed() -> None:
    question = halves()
    chat = replace(question.models[0], configurations=question.models[0].configurations[1:], min_replicas=1)
    idle = replace(chat, buckets=tuple(replace(load, rate=0.0) for load in chat.buckets))
    plan = planned(replace(question, models=(idle,)))
    assert counts(plan) == {("H100-tp1-prefillbf16", "H100"): 1, ("L4-tp1-decodebf16", "L4"): 1}


# --- reserved nodes ---


def test_reserved_nodes_are_used_before_cheaper_ones_are_bought() -> None:
    dear, cheap = configuration("dear", {SHORT: 1.0}), configuration("cheap", {SHORT: 1.0})
    pools = [pool("dear", 5.0, 4, reserved=2), pool("cheap", 1.0)]
    plan = planned(problem([model("chat", {SHORT: 3.0}, dear, cheap)], pools))
    assert counts(plan) == {("dear-tp1", "dear"): 2, ("cheap-tp1", "cheap"): 1}
    assert (plan.cost_per_hour, plan.objective) == (11.0, 11.0)
    assert plan.lower_bound == pytest.approx(11.0)


def test_reserved_nodes_are_paid_though_nothing_stands_on_them() -> None:
    question = problem(
        [model("chat", {SHORT: 1.0}, configuration("L4", {SHORT: 1.0}))], [pool("L4", 1.0, 4, reserved=3)]
    )
    plan = planned(question)
    assert (plan.nodes[0].nodes, plan.nodes[0].reserved, plan.cost_per_hour) == (1, 3, 3.0)
    assert planned(replace(question, models=())).cost_per_hour == 3.0


def test_a_budget_below_the_reserved_nodes_is_a_contradiction() -> None:
    question = problem([model("chat", {SHORT: 1.0}, configuration("L4", {SHORT: 1.0}))], [pool("L4", 1.0, reserved=3)])
    outcome = solve(replace(question, budget_per_hour=2.0))
    assert outcome == Infeasible(("the reserved nodes cost 3 per hour, whatever is planned; the budget is 2",))
    assert planned(replace(question, budget_per_hour=3.0)).complete


# --- spot ---


def spot_and_firm(interruptions: float = 0.1, **fields: float) -> Problem:
    l4 = configuration("L4", {SHORT: 1.0}, pools=("spot", "firm"))
    pools = [pool("spot", 0.5, gpu="L4", interruptions=interruptions), pool("firm", 1.0, gpu="L4")]
    return replace(problem([model("chat", {SHORT: 4.0}, l4, **fields)], pools), start_hours=0.2)


def test_the_risk_of_interruptions_is_in_the_objective_and_not_in_the_bill() -> None:
    question = replace(spot_and_firm(), running=(Running("test/chat", "spot", "L4-tp1", 4),))
    plan = planned(question)
    assert counts(plan) == {("L4-tp1", "spot"): 4}
    assert plan.cost_per_hour == 2.0
    assert plan.risk_per_hour == pytest.approx(4 * 0.5 * 0.1 * 0.2)
    assert plan.objective == pytest.approx(2.0 + plan.risk_per_hour)


def test_a_spot_pool_that_is_lost_too_often_is_not_worth_its_price() -> None:
    assert counts(planned(spot_and_firm(interruptions=10.0))) == {("L4-tp1", "firm"): 4}


@pytest.mark.parametrize(("floor", "firm"), [(0.25, 1), (0.5, 2), (0.6, 3), (1.0, 4)])
def test_the_floor_is_served_when_the_spot_pool_is_lost(floor: float, firm: int) -> None:
    plan = planned(spot_and_firm(survivability=floor))
    assert counts(plan) == {key: n for key, n in {("L4-tp1", "spot"): 4 - firm, ("L4-tp1", "firm"): firm}.items() if n}
    assert [survival.lost_pool for survival in plan.survivals] == (["spot"] if firm < 4 else [])


def test_one_spot_pool_may_stand_in_for_another() -> None:
    l4 = configuration("L4", {SHORT: 1.0}, pools=("east", "west", "firm"))
    pools = [pool(name, 0.4, gpu="L4", interruptions=0.1) for name in ("east", "west")] + [pool("firm", 1.0, gpu="L4")]
    plan = planned(problem([model("chat", {SHORT: 4.0}, l4, survivability=0.5)], pools))
    assert counts(plan) == {("L4-tp1", "east"): 2, ("L4-tp1", "west"): 2}
    assert plan.cost_per_hour == pytest.approx(1.6)


def test_a_floor_without_firm_capacity_limits_what_is_served() -> None:
    question = spot_and_firm(survivability=0.5)
    scarce = replace(question, pools=(question.pools[0], replace(question.pools[1], max_nodes=1)))
    plan = planned(scarce)
    assert plan.models[0].served == pytest.approx(2.0)


def test_loads_may_be_routed_otherwise_when_a_pool_is_lost() -> None:
    fast = configuration("fast", {SHORT: 8.0, LONG: 1.0})
    slow = configuration("slow", {SHORT: 2.0, LONG: 0.5})
    pools = [pool("fast", 1.0, interruptions=0.1), pool("slow", 1.0)]
    plan = planned(problem([model("chat", {SHORT: 4.0, LONG: 0.5}, fast, slow, survivability=0.5)], pools))
    assert plan.complete
    assert plan.cost_per_hour == pytest.approx(3.0)


# --- switching ---


def switch(start_hours: float, running: tuple[Running, ...] = ()) -> Problem:
    old, new = configuration("old", {SHORT: 1.0}), configuration("new", {SHORT: 1.0})
    question = problem([model("chat", {SHORT: 2.0}, old, new)], [pool("old", 1.1), pool("new", 1.0)])
    return replace(question, running=running, start_hours=start_hours, horizon_hours=1.0)


def test_starting_replicas_costs_their_part_of_a_node() -> None:
    plan = planned(switch(0.3))
    assert counts(plan) == {("new-tp1", "new"): 2}
    assert plan.switching_per_hour == pytest.approx(2 * 1.0 * 0.3)
    assert plan.objective == pytest.approx(2.6)


@pytest.mark.parametrize(("start_hours", "pool_name"), [(0.05, "new"), (0.3, "old")])
def test_a_dearer_plan_stays_where_a_change_does_not_pay(start_hours: float, pool_name: str) -> None:
    running = (Running("test/chat", "old", "old-tp1", 2),)
    assert {name for _, name in counts(planned(switch(start_hours, running)))} == {pool_name}


def test_only_replicas_beyond_the_running_ones_are_started() -> None:
    l4 = configuration("L4", {SHORT: 1.0})
    question = problem([model("chat", {SHORT: 6.0}, l4)], [pool("L4", 8.0, gpus=4)])
    question = replace(question, running=(Running("test/chat", "L4", "L4-tp1", 5),), start_hours=0.5, horizon_hours=2.0)
    plan = planned(question)
    assert plan.switching_per_hour == pytest.approx(8.0 / 4 * 0.25)
    assert plan.lower_bound == pytest.approx(16.5)


# --- all at once ---


def test_everything_at_once_passes_the_check() -> None:
    rates = {SHORT: 2.0, LONG: 0.7}
    roles = [configuration("H100", rates, 2, role=role, kv_class="k") for role in ("prefill", "decode")]
    l4 = configuration("L4", {SHORT: 1.0, LONG: 0.0}, pools=("spot", "L4"), best_effort={LONG: 0.2})
    chat = model("chat", {SHORT: 5.0, LONG: 0.3}, *roles, l4, attainment=0.97, survivability=0.4, min_replicas=3)
    code = model("code", {SHORT: 2.5}, l4, *roles, max_replicas=4, priority=3)
    pools = [
        pool("H100", 9.0, 2, gpus=6, fabric="ib", reserved=1),
        pool("L4", 1.0, 4),
        pool("spot", 0.4, 4, gpu="L4", interruptions=0.05),
    ]
    running = (Running("test/chat", "L4", "L4-tp1", 2),)
    question = replace(problem([chat, code], pools, 16.0), running=running, start_hours=0.1, headroom=0.1)
    plan = planned(question)
    assert plan.complete and plan.proven
    assert plan.objective == pytest.approx(plan.cost_per_hour + plan.risk_per_hour + plan.switching_per_hour)
    tight = planned(replace(question, budget_per_hour=10.0))
    assert tight.unserved and tight.models[1].served == pytest.approx(2.5)
