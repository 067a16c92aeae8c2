"""Fleets solved model by model have the plans, and keep the bounds, of the whole program."""

import random
from dataclasses import replace
from math import inf
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motley_solver import ilp
from motley_solver.check import violations
from motley_solver.ilp.decomposition import Decomposition
from motley_solver.ilp.oracle import Oracle
from motley_solver.plan import Plan
from motley_solver.problem import ModelDemand, Pool, Problem, Running
from motley_solver.workload import Bucket
from tests.solver.fleets import configuration, model, pool, problem

few = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

SIZES = (Bucket(100, 50), Bucket(800, 200), Bucket(6000, 400))


def drawn(seed: int, models: int) -> Problem:
    """A fleet with everything in it: roles, fabrics, reserved and spot nodes, floors, limits, running replicas."""
    draw = random.Random(seed)
    pools = [
        pool(f"p{i}", draw.choice([0.5, 0.7, 1.0, 2.3, 4.0]), draw.choice([2, 6, 40]), draw.choice([1, 4, 6, 8]),
             gpu=f"g{i % 3}", reserved=draw.choice([0, 0, 1]), interruptions=draw.choice([0, 0, 0.1]), fabric="ib")
        for i in range(4)
    ]  # fmt: skip
    demands = [_model(draw, f"m{i}", pools) for i in range(models)]
    running = tuple(
        Running(m.name, c.pools[0], c.key, draw.randint(1, 2))
        for m in demands
        for c in m.configurations
        if draw.random() < 0.1
    )
    return replace(problem(demands, pools), running=running, start_hours=draw.choice([0.0, 0.2]), headroom=0.05)


def _model(draw: random.Random, name: str, pools: list[Pool]) -> ModelDemand:
    choices = []
    for gpu in ("g0", "g1", "g2"):
        names = tuple(p.name for p in pools if p.gpu == gpu)
        for tp in (1, 2, 4):
            for role in ("aggregated", "prefill", "decode"):
                rates = {size: draw.choice([0.0, 0.5, 1.0, 1.7, 3.0]) * tp for size in SIZES}
                if draw.random() < 0.7:
                    choices.append(configuration(gpu, rates, tp, names, role=role, kv_class="k"))
    loads = {size: draw.choice([0.0, 0.3, 1.0, 4.0]) for size in SIZES}
    floor = draw.choice([0.0, 0.0, 0.5])
    least = draw.choice([0, 0, 2])
    return model(name, loads, *choices, min_replicas=least, max_replicas=draw.choice([None, 12]), survivability=floor)


def planned(question: Problem, large: int, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(ilp, "_LIMITS", [large, 10**9])
    plan = ilp.solve(question)
    assert isinstance(plan, Plan), plan
    assert violations(question, plan) == ()
    return plan


@pytest.mark.parametrize("seed", range(10))
def test_model_by_model_is_as_cheap_as_all_at_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    question = drawn(seed, models=3)
    whole, parts = planned(question, 10**9, monkeypatch), planned(question, 0, monkeypatch)
    assert parts.complete == whole.complete
    assert parts.lower_bound <= whole.objective * (1 + 1e-6)
    if whole.complete:
        assert parts.proven and parts.objective == pytest.approx(whole.objective, rel=1e-5)


@pytest.mark.parametrize(("models", "flows", "size"), [(2, 9, 0), (2, 13, 1), (12, 24, 1), (12, 31, 2)])
def test_few_models_stay_one_program_for_longer(
    models: int, flows: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    methods = [[(lambda *_, size=size: tried.append(size), 1.0)] for size in range(3)]
    monkeypatch.setattr(ilp, "_LIMITS", [2, 30])
    monkeypatch.setattr(ilp, "_METHODS", methods)
    sizes = {Bucket(100 + i, 10): 1.0 for i in range(flows - models + 1)}
    first = model("m0", sizes, configuration("L4", sizes))
    others = [model(f"m{i}", {SIZES[0]: 1.0}, configuration("L4", {SIZES[0]: 1.0})) for i in range(1, models)]
    ilp.solve(problem([first, *others], [pool("L4", 1.0, 5)]))
    assert tried == [size]


def test_what_does_not_fit_as_a_whole_is_left_to_the_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    question = drawn(2, models=3)
    question = replace(question, pools=tuple(replace(p, max_nodes=1, gpus_per_node=1) for p in question.pools))
    whole, parts = planned(question, 10**9, monkeypatch), planned(question, 0, monkeypatch)
    assert not whole.complete and parts.unserved == whole.unserved


def test_a_fleet_too_large_for_one_program_is_served_by_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ilp, "_LIMITS", [0, 0])
    l4 = configuration("L4", {SIZES[0]: 1.0})
    models = [model(f"m{i}", {SIZES[0]: 1.5}, l4, priority=i, min_replicas=1) for i in range(4)]
    question = problem(models, [pool("L4", 1.0, 5)])
    plan = ilp.solve(question)
    assert isinstance(plan, Plan) and violations(question, plan) == ()
    assert [round(summary.served, 6) for summary in plan.models] == [0.0, 1.0, 1.5, 1.5]
    assert not plan.proven


def test_scarce_cheap_nodes_go_to_those_that_need_them_most() -> None:
    """Only the fast GPU serves long requests, and short ones have a dearer way out: prices must find that."""
    short, long = SIZES[0], SIZES[2]
    fast, slow = configuration("fast", {short: 4.0, long: 2.0}), configuration("slow", {short: 1.0, long: 0.0})
    models = [model(f"short{i}", {short: 0.9}, fast, slow) for i in range(6)]
    models += [model(f"long{i}", {long: 0.9}, fast, slow) for i in range(4)]
    parts = Decomposition(problem(models, [pool("fast", 1.0, 5), pool("slow", 3.0, 20)]))
    assert parts.solve(monotonic() + 20, 1e-6) is not None
    assert parts.best.objective * parts.unit == pytest.approx(5 * 1.0 + 5 * 3.0)
    assert parts.closed


def test_two_models_move_together_to_a_node_that_neither_pays_alone() -> None:
    own, shared = configuration("own", {SIZES[0]: 1.0}), configuration("shared", {SIZES[0]: 1.0})
    models = [model(f"m{i}", {SIZES[0]: 0.9}, own, shared) for i in range(2)]
    parts = Decomposition(problem(models, [pool("own", 6.0), pool("shared", 10.0, gpus=2)]))
    assert parts.solve(monotonic() + 20, 1e-6) is not None
    assert parts.best.objective * parts.unit == pytest.approx(10.0)


def test_among_equal_plans_the_running_one_is_kept_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("one", "two", "three")
    choices = tuple(configuration(name, {SIZES[0]: 1.0}) for name in names)
    models = [model(name, {SIZES[0]: 2.0}, *choices) for name in names]
    question = problem(models, [pool(name, 1.0) for name in names])
    for here in (names, ("two", "three", "one"), ("three", "one", "one")):
        running = tuple(Running(m.name, name, f"{name}-tp1", 2) for m, name in zip(models, here, strict=True))
        plan = planned(replace(question, running=running), 0, monkeypatch)
        assert {(a.model, a.pool, a.replicas) for a in plan.allocations} == {(r.model, r.pool, 2) for r in running}


def test_the_bound_itself_is_never_above_the_best_plan() -> None:
    """A plan's bound is cut off at its objective, which would hide a bound that is too high."""
    for seed in (20, 22, 24, 25):
        question = drawn(seed, models=4)
        parts = Decomposition(question)
        if parts.solve(monotonic() + 2, 1e-6) is not None:
            assert parts.bound <= parts.best.objective * (1 + 1e-6) + 1e-9


@few
@given(st.integers(0, 10**6), st.data())
def test_a_cut_holds_for_whatever_serves_the_model(seed: int, data: st.DataObject) -> None:
    question = drawn(seed, models=1)
    oracle = Oracle(question, question.models[0], 1.0)
    drawn_prices = st.sampled_from([0.1, 0.5, 1.0, 3.0])
    prices, others = ({place: data.draw(drawn_prices) for place in oracle.places} for _ in range(2))
    first, second = (
        Oracle(question, question.models[0], 1.0).cheapest(p, monotonic() + 5, 1e-6) for p in (prices, others)
    )
    assert (first[1] is None) == (second[1] is None)
    if first[1] is None or second[1] is None:
        assert first[0].bound == inf
        return
    served = dict(second[1].replicas)
    assert oracle.serves(served, monotonic() + 5) and not oracle.cuts
    cost = sum(prices[place] * n for place, n in served.items()) + second[1].switching
    assert cost >= first[0].bound - 1e-6
    assert first[0].least(others) <= second[0].bound + 1e-6
    fewer = {place: n // 2 for place, n in served.items()}
    if not oracle.serves(fewer, monotonic() + 5) and oracle.cuts:  # without: the minimum of replicas is not kept
        (broken,) = oracle.cuts
        assert sum(broken.prices[place] * n for place, n in served.items()) >= broken.bound - 1e-6
        assert sum(broken.prices[place] * n for place, n in fewer.items()) < broken.bound


def test_ten_models_on_shared_nodes_are_solved_within_a_tenth_of_a_per_cent() -> None:
    draw = random.Random(7)
    types = {"L4": (0.8, 1, 1.0), "A10": (5.7, 4, 1.6), "A100": (22.0, 8, 5.0), "H100": (55.0, 8, 11.0)}
    pools = [pool(name, price, 30, gpus) for name, (price, gpus, _) in types.items()]
    sizes = [Bucket(100 * 2**i, 50 * 2**j) for i in range(5) for j in range(4)]
    models = []
    for i in range(10):
        need = draw.choice([1, 1, 2, 4])
        choices = [
            configuration(
                name, {size: speed * tp**0.9 * 300 / (size.input_tokens + 4 * size.output_tokens) for size in sizes}, tp
            )
            for name, (_, gpus, speed) in types.items()
            for tp in (1, 2, 4)
            if need <= tp <= gpus
        ]
        models.append(model(f"m{i}", {size: draw.uniform(0.01, 0.2) for size in sizes}, *choices))
    question = problem(models, pools)
    plan = ilp.solve(question, 20.0, 1e-3)
    assert isinstance(plan, Plan) and violations(question, plan) == ()
    assert plan.complete and plan.proven
    assert plan.objective <= plan.lower_bound * 1.0011
