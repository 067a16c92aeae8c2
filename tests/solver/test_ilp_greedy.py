"""Plans for which there is no time: poor, but kept within every limit."""

from dataclasses import replace

import pytest

from motley_solver import ilp
from motley_solver.assembly import plan_of
from motley_solver.check import violations
from motley_solver.ilp.greedy import Room, greedily
from motley_solver.ilp.serving import kinds_of
from motley_solver.plan import Plan
from motley_solver.problem import Problem
from tests.solver.fleets import LONG, SHORT, configuration, model, pool, problem
from tests.solver.test_ilp_decomposition import drawn


def greedy(question: Problem) -> Plan:
    solution, complete = greedily(question, ((m, kinds_of(question, m)) for m in question.models), Room(question))
    plan = plan_of(question, solution, 0.0, False, 0.0)
    assert violations(question, plan) == ()
    assert plan.complete == complete
    return plan


@pytest.mark.parametrize("seed", range(40))
def test_every_limit_is_kept(seed: int) -> None:
    greedy(drawn(seed, models=3))


def test_sizes_fill_up_what_is_already_planned() -> None:
    l4, a100 = configuration("L4", {SHORT: 2.0, LONG: 0.0}), configuration("A100", {SHORT: 10.0, LONG: 1.0})
    question = problem([model("chat", {SHORT: 4.0, LONG: 0.5}, l4, a100)], [pool("L4", 1.0), pool("A100", 4.0)])
    assert greedy(question).cost_per_hour == 4.0


def test_a_size_is_split_where_one_pool_has_not_enough() -> None:
    cheap, dear = configuration("cheap", {SHORT: 1.0}), configuration("dear", {SHORT: 1.0})
    question = problem([model("chat", {SHORT: 5.0}, cheap, dear)], [pool("cheap", 1.0, 3), pool("dear", 2.0)])
    plan = greedy(question)
    assert {a.pool: a.replicas for a in plan.allocations} == {"cheap": 3, "dear": 2}
    assert greedy(replace(question, budget_per_hour=5.5)).cost_per_hour == 5.0


def test_what_must_survive_stays_away_from_spot_nodes() -> None:
    spot, kept = configuration("spot", {SHORT: 1.0}), configuration("kept", {SHORT: 1.0})
    pools = [pool("spot", 1.0, interruptions=0.1), pool("kept", 2.0)]
    plan = greedy(problem([model("chat", {SHORT: 2.0}, spot, kept, survivability=0.5)], pools))
    assert {a.pool for a in plan.allocations} == {"kept"}


@pytest.mark.parametrize("limits", [[0, 10**9], [0, 0], [10**9, 10**9]])
def test_without_any_time_there_is_still_a_plan(limits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ilp, "_LIMITS", limits)
    l4 = configuration("L4", {SHORT: 1.0})
    models = [model(f"m{i}", {SHORT: 1.5}, l4, priority=i) for i in range(4)]
    for stock in (5, 10):
        question = problem(models, [pool("L4", 1.0, stock)])
        plan = ilp.solve(question, time_limit_seconds=0.0)
        assert isinstance(plan, Plan) and violations(question, plan) == ()
        assert plan.allocations


@pytest.mark.parametrize("seed", range(8))
def test_one_model_without_time_costs_no_more_than_greedily(seed: int) -> None:
    question = drawn(seed, models=1)
    poor, plan = greedy(question), ilp.solve(question, time_limit_seconds=0.0)
    assert isinstance(plan, Plan) and violations(question, plan) == ()
    assert not poor.complete or (plan.complete and plan.objective <= poor.objective + 1e-9)
