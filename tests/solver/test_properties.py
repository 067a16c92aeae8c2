"""What must hold for every problem: equality with slow oracles, monotony, and a check that accepts the answers."""

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motley_solver.check import violations
from motley_solver.ilp import solve
from motley_solver.plan import Plan
from motley_solver.problem import ModelDemand, Problem, Role
from motley_solver.workload import Bucket, BucketLoad
from tests.solver.fleets import LONG, SHORT, configuration, model, pool, problem
from tests.solver.oracles import cheapest_by_enumeration, cheapest_by_slices

bounded = settings(
    max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
few = settings(bounded, max_examples=15)

NAMES = ("one", "two", "three")
rates = st.sampled_from([0.0, 0.2, 0.5, 1.0, 1.7, 3.0, 8.0])
prices = st.sampled_from([0.5, 0.7, 1.0, 2.3, 4.0])
loads = st.floats(0.01, 3.0)


@st.composite
def problems(draw: st.DrawFn, models: int = 2, max_nodes: int = 2, gpus: int = 1) -> Problem:
    """A few models on three GPU types; sizes, prices and rates drawn."""
    demands = []
    for m in range(draw(st.integers(1, models))):
        choices = [
            configuration(name, {SHORT: draw(rates), LONG: draw(rates)}, tp, cpus=draw(st.sampled_from([0.0, 9.0])))
            for name in NAMES
            for tp in ([1] if gpus == 1 else [1, 2, 4])
        ]
        demands.append(model(f"m{m}", {SHORT: draw(loads), LONG: draw(loads)}, *choices))
    return problem(demands, [pool(name, draw(prices), draw(st.integers(0, max_nodes)), gpus) for name in NAMES])


def plan_of(question: Problem) -> Plan:
    plan = solve(question)
    assert isinstance(plan, Plan), plan
    assert violations(question, plan) == ()
    assert plan.lower_bound <= plan.objective + 1e-9
    return plan


def one_replica_per_node(question: Problem) -> Problem:
    """CPUs do not bind, so that the enumeration may leave them out."""
    free = tuple(
        replace(m, configurations=tuple(replace(c, cpus=0.0) for c in m.configurations)) for m in question.models
    )
    return replace(question, models=free)


def assert_costs_what_enumeration_finds(question: Problem) -> None:
    plan = plan_of(question)
    best = cheapest_by_enumeration(question)
    assert plan.complete == (best < float("inf"))
    if plan.complete:
        assert plan.proven
        assert plan.cost_per_hour == pytest.approx(best, abs=1e-6)


@few
@given(problems())
def test_complete_plans_cost_what_complete_enumeration_finds(question: Problem) -> None:
    question = one_replica_per_node(question)
    assert_costs_what_enumeration_finds(question)


@few
@given(problems(models=1, max_nodes=1))
def test_plans_are_never_dearer_than_slices(question: Problem) -> None:
    pools = tuple(replace(p, max_nodes=100) for p in question.pools)
    question = one_replica_per_node(replace(question, pools=pools))
    plan = plan_of(question)
    if plan.complete:
        sliced = cheapest_by_slices(question.models[0], question.pools, 8)
        assert plan.cost_per_hour <= sliced + 1e-6


@bounded
@given(problems(models=3, max_nodes=3, gpus=6))
def test_every_plan_passes_the_check(question: Problem) -> None:
    plan_of(question)


def scaled(demand: ModelDemand, factor: float) -> ModelDemand:
    return replace(demand, buckets=tuple(BucketLoad(b.bucket, b.rate * factor) for b in demand.buckets))


@bounded
@given(problems(models=2, max_nodes=6, gpus=6), st.floats(1.01, 3.0))
def test_more_traffic_is_never_cheaper(question: Problem, factor: float) -> None:
    more = replace(question, models=tuple(scaled(m, factor) for m in question.models))
    before, after = plan_of(question), plan_of(more)
    if before.complete and after.complete:
        assert after.cost_per_hour >= before.cost_per_hour - 1e-6
    assert before.complete or not after.complete


@bounded
@given(problems(models=2, max_nodes=3, gpus=6), st.integers(0, 2))
def test_more_stock_is_never_dearer_and_serves_no_less(question: Problem, index: int) -> None:
    pools = tuple(replace(p, max_nodes=p.max_nodes + 2) if i == index else p for i, p in enumerate(question.pools))
    before, after = plan_of(question), plan_of(replace(question, pools=pools))
    if before.complete:
        assert after.complete
        assert after.cost_per_hour <= before.cost_per_hour + 1e-6
    else:
        assert sum(u.rate for u in after.unserved) <= sum(u.rate for u in before.unserved) + 1e-6


@bounded
@given(problems(models=2, max_nodes=4, gpus=6), st.integers(0, 2))
def test_a_lower_price_is_never_dearer(question: Problem, index: int) -> None:
    pools = tuple(
        replace(p, price_per_node_hour=p.price_per_node_hour * 0.6) if i == index else p
        for i, p in enumerate(question.pools)
    )
    before, after = plan_of(question), plan_of(replace(question, pools=pools))
    if before.complete:
        assert after.cost_per_hour <= before.cost_per_hour + 1e-6


@bounded
@given(problems(models=2, max_nodes=4, gpus=6))
def test_splitting_a_pool_in_two_changes_nothing(question: Problem) -> None:
    first, *others = question.pools
    halves = (
        replace(first, max_nodes=first.max_nodes // 2),
        replace(first, name="half", max_nodes=first.max_nodes - first.max_nodes // 2),
    )
    models = tuple(
        replace(
            m,
            configurations=tuple(
                replace(c, pools=(*c.pools, "half")) if first.name in c.pools else c for c in m.configurations
            ),
        )
        for m in question.models
    )
    whole, split = plan_of(question), plan_of(replace(question, models=models, pools=(*halves, *others)))
    assert whole.complete == split.complete
    assert split.cost_per_hour == pytest.approx(whole.cost_per_hour, abs=1e-6)


@bounded
@given(problems(models=2, max_nodes=6, gpus=6))
def test_other_units_change_nothing(question: Problem) -> None:
    per_second = replace(
        question,
        pools=tuple(replace(p, price_per_node_hour=p.price_per_node_hour / 3600) for p in question.pools),
    )
    hourly, secondly = plan_of(question), plan_of(per_second)
    assert hourly.complete == secondly.complete
    assert secondly.cost_per_hour * 3600 == pytest.approx(hourly.cost_per_hour, abs=1e-5)


@bounded
@given(problems(models=2, max_nodes=4, gpus=6), st.randoms(use_true_random=False))
def test_other_names_and_another_order_change_nothing(question: Problem, shuffled: random.Random) -> None:
    names = {name: f"{10 - i}-{name[::-1]}" for i, name in enumerate(NAMES)}
    models = [
        replace(
            m,
            name=f"z{9 - i}",
            buckets=m.buckets[::-1],
            configurations=tuple(
                shuffled.sample(
                    [
                        replace(c, key=f"c{c.key[::-1]}", pools=tuple(names[p] for p in c.pools))
                        for c in m.configurations
                    ],
                    len(m.configurations),
                )
            ),
        )
        for i, m in enumerate(question.models)
    ]
    pools = [replace(p, name=names[p.name]) for p in question.pools]
    other = replace(question, models=tuple(models[::-1]), pools=tuple(shuffled.sample(pools, len(pools))))
    before, after = plan_of(question), plan_of(other)
    assert before.complete == after.complete
    if before.complete:
        assert after.cost_per_hour == pytest.approx(before.cost_per_hour, abs=1e-6)


@few
@given(st.data())
def test_disaggregated_plans_cost_what_complete_enumeration_finds(data: st.DataObject) -> None:
    roles: list[tuple[str, Role]] = [("a", "aggregated"), ("b", "prefill"), ("c", "decode"), ("d", "decode")]
    choices = [
        configuration(gpu, {SHORT: data.draw(rates), LONG: data.draw(rates)}, role=role, kv_class="k")
        for gpu, role in roles
    ]
    demand = model("m", {SHORT: data.draw(loads), LONG: data.draw(loads)}, *choices)
    fabrics = {"a": "", "b": "ib", "c": "ib", "d": data.draw(st.sampled_from(["ib", "eth"]))}
    question = problem([demand], [pool(gpu, data.draw(prices), 2, fabric=fabrics[gpu]) for gpu, _ in roles])
    assert_costs_what_enumeration_finds(question)


@bounded
@given(st.floats(-6, 6), st.floats(-3, 3), st.integers(1, 4))
def test_no_scale_of_rates_and_throughputs_is_refused(rate: float, throughput: float, types: int) -> None:
    """Loads from next to nothing to a million requests per second, GPU types alike and equally dear."""
    names = [f"g{i}" for i in range(types)]
    alike = [configuration(name, {SHORT: 10**throughput, LONG: 10**throughput / 7}) for name in names]
    uneven = configuration("uneven", {SHORT: 10**-throughput, LONG: 3.0})
    demand = model("m", {SHORT: 10**rate, LONG: 10 ** (rate / 2)}, *alike, uneven)
    question = problem([demand], [pool(name, 1.0, 10**10) for name in [*names, "uneven"]])
    plan = plan_of(question)
    assert plan.complete
    assert plan.cost_per_hour <= plan.lower_bound * (1 + 1e-5) + 1e-6


def test_a_plan_for_the_edges_of_a_histogram_covers_sizes_below_them() -> None:
    l4 = configuration("L4", {Bucket(100, 100): 4.0, SHORT: 2.0})
    plan = plan_of(problem([model("m", {Bucket(100, 100): 4.0, SHORT: 2.0}, l4)], [pool("L4", 1.0)]))
    assert plan.nodes[0].nodes == 2
