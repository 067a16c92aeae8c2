"""What each single GPU type would cost, or why it cannot be."""

from dataclasses import replace

import pytest

from motley_solver import comparisons as module
from motley_solver.comparisons import comparisons, on_one_type, with_comparisons
from motley_solver.ilp import solve
from motley_solver.plan import Infeasible, Plan
from motley_solver.problem import Problem, Running
from tests.solver.fleets import LONG, SHORT, configuration, model, pool, problem


def question(l4_nodes: int = 20) -> Problem:
    l4 = configuration("L4", {SHORT: 2.0, LONG: 0.0})
    a100 = configuration("A100", {SHORT: 10.0, LONG: 1.0})
    chat = model("chat", {SHORT: 12.0, LONG: 0.5}, l4, a100)
    return problem([chat], [pool("L4", 1.0, l4_nodes), pool("A100", 4.0)])


def planned(asked: Problem) -> Plan:
    plan = solve(asked)
    assert isinstance(plan, Plan)
    return plan


def test_single_types_are_solved_exactly_or_say_why_not() -> None:
    plan = planned(question())
    assert plan.cost_per_hour == pytest.approx(8.0)  # A100 ×1 takes the long ones and 5 short, L4 ×4 the rest
    a100, l4 = comparisons(question(), plan)
    assert (a100.gpu, a100.cost_per_hour, a100.proven) == ("A100", pytest.approx(8.0), True)
    assert (l4.gpu, l4.cost_per_hour) == ("L4", None)
    assert l4.reason.startswith("cannot serve test/chat 8000+500: no GPU meets TPOT")


def test_the_mix_is_never_dearer_than_a_single_type() -> None:
    plan = with_comparisons(question(), planned(question()))
    assert isinstance(plan, Plan)
    costs = [c.cost_per_hour for c in plan.comparisons if c.cost_per_hour is not None]
    assert costs and all(plan.cost_per_hour <= cost + 1e-9 for cost in costs)


def test_one_type_alone_leaves_out_what_it_cannot_serve() -> None:
    alone = planned(on_one_type(question(), "A100"))
    assert alone.complete and alone.cost_per_hour == pytest.approx(8.0)
    assert [one.bucket for one in planned(on_one_type(question(), "L4")).unserved] == [LONG]


def test_a_type_that_serves_nothing_has_no_cost_although_the_plan_serves_nothing_either() -> None:
    stuck = model("stuck", {SHORT: 1.0}, configuration("L4", {SHORT: 0.0}), configuration("A100", {SHORT: 0.0}))
    asked = problem([stuck], [pool("L4", 1.0), pool("A100", 4.0)])
    found = comparisons(asked, planned(asked))
    assert [one.cost_per_hour for one in found] == [None, None]
    assert all(one.reason.startswith("cannot serve test/stuck 500+250: no GPU meets TPOT") for one in found)
    idle = problem([model("idle", {SHORT: 0.0}, configuration("L4", {SHORT: 1.0}), min_replicas=1)], [pool("L4", 1.0)])
    assert [one.cost_per_hour for one in comparisons(idle, planned(idle))] == [pytest.approx(1.0)]
    nobody = problem([], [pool("L4", 1.0)])
    assert comparisons(nobody, planned(nobody)) == ()


def test_what_was_not_proven_in_time_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, plan = question(), planned(question())
    alone = planned(on_one_type(asked, "A100"))
    monkeypatch.setattr(module, "solve", lambda *_: replace(alone, proven=False))
    assert [(one.reason, one.proven) for one in module.comparisons(asked, plan)] == [
        ("not proven to be the cheapest on it", False)
    ] * 2


def test_pools_without_gpus_stay_in_every_comparison() -> None:
    tiny = model("tiny", {SHORT: 0.5}, configuration("CPU", {SHORT: 1.0}, cpus=4.0, gpus=0))
    base = question()
    asked = problem([*base.models, tiny], [*base.pools, pool("CPU", 0.2, gpus=0)])
    found = {c.gpu: c.cost_per_hour for c in comparisons(asked, planned(asked))}
    assert found == {"A100": pytest.approx(8.2), "L4": None}


def test_reserved_nodes_of_other_types_are_paid_in_every_comparison() -> None:
    base = question()
    l4, a100 = base.pools
    asked = replace(base, pools=(replace(l4, reserved_nodes=5), a100))
    plan = planned(asked)
    assert plan.cost_per_hour == pytest.approx(9.0)
    found = {c.gpu: c.cost_per_hour for c in comparisons(asked, plan)}
    assert found == {"A100": pytest.approx(13.0), "L4": None}


def test_what_runs_elsewhere_does_not_make_a_type_dearer() -> None:
    running = (Running("test/chat", "L4", "L4-tp1", 4), Running("test/chat", "A100", "A100-tp1", 1))
    asked = replace(question(), running=running, start_hours=0.5, horizon_hours=1.0)
    (a100, _) = comparisons(asked, planned(asked))
    assert a100.cost_per_hour == pytest.approx(8.0)


def test_what_the_plan_itself_leaves_out_does_not_count_against_a_type() -> None:
    l4 = configuration("L4", {SHORT: 2.0, LONG: 0.0})
    asked = problem([model("chat", {SHORT: 3.0, LONG: 1.0}, l4)], [pool("L4", 1.0)])
    (only,) = comparisons(asked, planned(asked))
    assert only.cost_per_hour == pytest.approx(2.0)


def test_other_outcomes_pass_through() -> None:
    nothing = Infeasible(("no",))
    assert with_comparisons(question(), nothing) is nothing
