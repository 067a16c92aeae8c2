"""What must hold for every problem: equality with slow oracles, monotony, and a check that accepts the answers. The
fleets are drawn such that most plans mix: several models, scarce GPU types, nodes of several GPUs, tensor parallelism,
pairs of prefill and decode, sizes that may be late, limits and budgets."""

import random
from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from melange_slices import sliced

from motley_solver.check import violations
from motley_solver.ilp import solve
from motley_solver.plan import Plan
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem, Role
from motley_solver.workload import Bucket, BucketLoad
from tests.solver.fleets import LONG, SHORT, configuration, model, pool, problem
from tests.solver.oracles import cheapest_by_enumeration, cheapest_by_program

SOAK = settings.get_current_profile_name() == "soak"
bounded = settings(
    max_examples=60 if SOAK else 15,
    deadline=None,
    derandomize=not SOAK,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""`make soak` asks four times as often, and something else each time; a failure names its seed."""

SPEEDS = {"slow": 1.0, "middle": 2.2, "fast": 4.6}  # of the GPU types; prices go with them
NAMES = tuple(SPEEDS)


@st.composite
def pools(draw: st.DrawFn, most: int, sizes: tuple[int, ...]) -> list[Pool]:
    """One pool per GPU type; the one with ample stock is dearer for its speed. All but one surely share a fabric."""
    ample, apart = draw(st.permutations(NAMES))[:2]
    found = []
    for name, speed in SPEEDS.items():
        gpus = draw(st.sampled_from(sizes))
        dear = draw(st.floats(1.1, 1.4) if name == ample else st.floats(0.7, 1.1))
        stock = most if name == ample else draw(st.integers(1, max(1, most // (gpus + 1))))
        fabric = draw(st.sampled_from(["rack", "other", ""])) if name == apart else "rack"
        found.append(pool(name, round(speed * gpus * dear, 2), stock, gpus, fabric=fabric))
    return found


@st.composite
def configurations(draw: st.DrawFn, nodes: Pool, degrees: tuple[int, ...], pairs: bool) -> list[Configuration]:
    """Fast types suit long requests and prefill, slow ones short requests and decode. With little tensor
    parallelism a slow type may lack memory or serve long requests late; CPUs may fill a node before its GPUs."""
    speed = SPEEDS[nodes.name]
    short, long = draw(st.floats(0.7, 1.4)) * speed**0.9, draw(st.floats(0.15, 0.4)) * speed**1.2
    least = draw(st.sampled_from([1, *degrees]))
    late = least if nodes.name != "fast" and draw(st.booleans()) else 0
    growth = draw(st.sampled_from([1.2, 0.9]))
    cpus = 20.0 if nodes.gpus_per_node > 1 and draw(st.booleans()) else 0.0
    gains: dict[Role, float] = {"aggregated": 1.0}
    if pairs and nodes.fabric:
        gains["prefill"], gains["decode"] = draw(st.floats(2, 4)) * speed**0.4, draw(st.floats(3, 6)) * speed**-0.3
    found = []
    for role, gain in gains.items():
        for degree in (degree for degree in degrees if degree >= least):
            rates = {SHORT: short * gain * degree**growth, LONG: long * gain * degree**growth}
            within = rates | ({LONG: 0.0} if degree == late else {})
            kv_class = "" if role == "aggregated" else "k"
            found.append(configuration(nodes.gpu, within, degree, (), rates, cpus, role=role, kv_class=kv_class))
    return found


@st.composite
def problems(
    draw: st.DrawFn,
    models: int = 2,
    most: int = 8,
    sizes: tuple[int, ...] = (1, 2, 4, 8),
    degrees: tuple[int, ...] = (1, 2, 4),
    pairs: bool = True,
    load: float = 14.0,
) -> Problem:
    """Some models, most with enough load for several replicas, on three GPU types with at most `most` nodes each."""
    nodes = draw(pools(most, sizes))
    demands = [
        model(
            f"m{m}",
            {SHORT: draw(st.floats(load / 8, load)), LONG: draw(st.floats(load / 24, load / 3))},
            *(c for pool in nodes for c in draw(configurations(pool, degrees, pairs))),
            min_replicas=draw(st.sampled_from([0, 2, 3])),
            max_replicas=draw(st.sampled_from([None, None, 4])),
            attainment=draw(st.sampled_from([0.9, 1.0, 0.8])),
        )
        for m in range(draw(st.sampled_from(range(models, 0, -1))))
    ]
    everything = sum(pool.price_per_node_hour * pool.max_nodes for pool in nodes)
    question = problem(demands, nodes, draw(st.sampled_from([None, 0.5 * everything, 0.25 * everything])))
    return replace(question, headroom=draw(st.sampled_from([0.0, 0.1])))


def each_configuration(question: Problem, change: Callable[[Configuration], Configuration]) -> Problem:
    models = (replace(m, configurations=tuple(change(c) for c in m.configurations)) for m in question.models)
    return replace(question, models=tuple(models))


def without_cpus(question: Problem) -> Problem:
    """The oracles know none."""
    return each_configuration(question, lambda c: replace(c, cpus=0.0))


def scaled(question: Problem, factor: float) -> Problem:
    """With so many times the traffic."""
    models = (
        replace(m, buckets=tuple(BucketLoad(b.bucket, b.rate * factor) for b in m.buckets)) for m in question.models
    )
    return replace(question, models=tuple(models))


def priced(pool: Pool, factor: float) -> Pool:
    return replace(pool, price_per_node_hour=pool.price_per_node_hour * factor)


def stocked(question: Problem, index: int, more: int) -> Problem:
    pools = (replace(p, max_nodes=p.max_nodes + more * (i == index)) for i, p in enumerate(question.pools))
    return replace(question, pools=tuple(pools))


def plan_of(question: Problem) -> Plan:
    plan = solve(question)
    assert isinstance(plan, Plan), plan
    assert violations(question, plan) == ()
    assert plan.lower_bound <= plan.objective + 1e-9
    return plan


def complete_plan_of(question: Problem) -> Plan:
    plan = plan_of(question)
    assume(plan.complete and plan.proven)
    return plan


def assert_costs(question: Problem, best: float) -> None:
    plan = plan_of(question)
    assert plan.complete == (best < inf)
    assume(plan.complete)
    assert plan.proven
    assert plan.cost_per_hour == pytest.approx(best, rel=1e-5)


@bounded
@given(
    problems(models=2, most=2, sizes=(1,), degrees=(1,), pairs=False, load=4.0)
    | problems(models=1, most=2, sizes=(1, 2), degrees=(1, 2), pairs=False, load=12.0)
)
def test_complete_plans_cost_what_complete_enumeration_finds(question: Problem) -> None:
    question = without_cpus(question)
    assert_costs(question, cheapest_by_enumeration(question))


@bounded
@given(problems(models=1, most=3, sizes=(1,), degrees=(1,), load=9.0))
def test_disaggregated_plans_cost_what_complete_enumeration_finds(question: Problem) -> None:
    question = without_cpus(question)
    assert_costs(question, cheapest_by_enumeration(question))


@settings(bounded, max_examples=3 * bounded.max_examples)
@given(problems())
def test_complete_plans_cost_what_a_plain_program_of_the_whole_fleet_finds(question: Problem) -> None:
    question = without_cpus(question)
    assert_costs(question, cheapest_by_program(question))


@bounded
@given(problems(models=1, most=8, sizes=(1,), degrees=(1,), pairs=False))
def test_plans_are_never_dearer_than_slices(question: Problem) -> None:
    """Without the limits that slices do not know."""
    (demand,) = question.models
    demand = replace(demand, min_replicas=0, max_replicas=None)
    slices = sliced(demand, question.pools, 8)
    assume(slices.status == "optimal")
    plan = plan_of(replace(question, models=(demand,), budget_per_hour=None, headroom=0.0))
    assert plan.complete
    assert plan.cost_per_hour <= slices.cost * (1 + 1e-5)


@bounded
@given(problems(models=3, load=14.0))
def test_every_plan_passes_the_check(question: Problem) -> None:
    plan_of(question)


@bounded
@given(problems(), st.floats(1.01, 2.0))
def test_more_traffic_is_never_cheaper(question: Problem, factor: float) -> None:
    more = complete_plan_of(scaled(question, factor))
    before = plan_of(question)
    assert before.complete
    assert before.cost_per_hour <= more.cost_per_hour * (1 + 1e-5)


@bounded
@given(problems(), st.integers(0, 2))
def test_more_stock_is_never_dearer(question: Problem, index: int) -> None:
    before, after = complete_plan_of(question), plan_of(stocked(question, index, 2))
    assert after.complete
    assert after.cost_per_hour <= before.cost_per_hour * (1 + 1e-5)


@bounded
@given(problems(models=1, load=30.0), st.integers(0, 2))
def test_more_stock_serves_no_less(question: Problem, index: int) -> None:
    before = plan_of(question)
    assume(not before.complete)
    after = plan_of(stocked(question, index, 2))
    assert sum(u.rate for u in after.unserved) <= sum(u.rate for u in before.unserved) * (1 + 1e-6)


@bounded
@given(problems(), st.integers(0, 2))
def test_a_lower_price_is_never_dearer(question: Problem, index: int) -> None:
    pools = (priced(p, 0.6 if i == index else 1.0) for i, p in enumerate(question.pools))
    before, after = complete_plan_of(question), plan_of(replace(question, pools=tuple(pools)))
    assert after.complete
    assert after.cost_per_hour <= before.cost_per_hour * (1 + 1e-5)


@bounded
@given(problems(), st.integers(0, 2))
def test_splitting_a_pool_in_two_changes_nothing(question: Problem, index: int) -> None:
    pool = question.pools[index]
    half = replace(pool, name="half", max_nodes=pool.max_nodes // 2)
    rest = replace(pool, max_nodes=pool.max_nodes - half.max_nodes)
    two = replace(question, pools=(half, *(rest if p is pool else p for p in question.pools)))
    two = each_configuration(two, lambda c: replace(c, pools=(*c.pools, "half")) if c.gpu == pool.gpu else c)
    whole, split = complete_plan_of(question), plan_of(two)
    assert split.complete
    assert split.cost_per_hour == pytest.approx(whole.cost_per_hour, rel=1e-5)


@bounded
@given(problems())
def test_other_units_change_nothing(question: Problem) -> None:
    """Requests per minute, and cents per second."""
    factor = 100 / 3600
    budget = question.budget_per_hour and question.budget_per_hour * factor
    other = replace(
        scaled(question, 60), pools=tuple(priced(p, factor) for p in question.pools), budget_per_hour=budget
    )

    def per_minute(c: Configuration) -> Configuration:
        rates = (replace(one, rate=one.rate * 60, best_effort=one.best_effort * 60) for one in c.capacities)
        return replace(c, capacities=tuple(rates))

    before, after = complete_plan_of(question), plan_of(each_configuration(other, per_minute))
    assert after.complete
    assert after.cost_per_hour == pytest.approx(before.cost_per_hour * factor, rel=1e-5)


@bounded
@given(problems(), st.randoms(use_true_random=False))
def test_other_names_and_another_order_change_nothing(question: Problem, shuffled: random.Random) -> None:
    names = {name: f"{10 - i}-{name[::-1]}" for i, name in enumerate(NAMES)}

    def renamed(c: Configuration) -> Configuration:
        return replace(c, key=f"c{c.key[::-1]}", gpu=names[c.gpu], pools=tuple(names[p] for p in c.pools))

    def mixed(m: ModelDemand, name: str) -> ModelDemand:
        choices = shuffled.sample(m.configurations, len(m.configurations))
        return replace(m, name=name, buckets=m.buckets[::-1], configurations=tuple(choices))

    models = [mixed(m, f"z{9 - i}") for i, m in enumerate(each_configuration(question, renamed).models)]
    pools = [replace(p, name=names[p.name], gpu=names[p.gpu]) for p in question.pools]
    other = replace(question, models=tuple(models[::-1]), pools=tuple(shuffled.sample(pools, len(pools))))
    before, after = complete_plan_of(question), plan_of(other)
    assert after.complete
    assert after.cost_per_hour == pytest.approx(before.cost_per_hour, rel=1e-5)


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
