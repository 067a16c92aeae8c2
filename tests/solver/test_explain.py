"""Every number of an explanation is the difference of two plans, and the next best is never better than the best."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from explained import FLEETS, Explained, complete, disaggregated, scarce_stock, spot

from motley_solver import whatif
from motley_solver.explain import Explanation, explained
from motley_solver.ilp import solve
from motley_solver.plan import Plan
from motley_solver.problem import Problem
from motley_solver.whatif import Change, allowing, changed
from tests.solver.fleets import SHORT, configuration, model, pool, problem

L4 = configuration("L4", {SHORT: 2.0})


def planned(asked: Problem) -> Plan:
    plan = solve(asked)
    assert isinstance(plan, Plan)
    return plan


def found(asked: Problem) -> Explanation:
    return explained(asked, planned(asked), Explained(asked).loosened, 60.0)


def savings(asked: Problem) -> dict[tuple[str, str], float]:
    return {(one.change.kind, one.change.name): one.per_hour for one in found(asked).savings}


@pytest.mark.parametrize("fleet", [complete, scarce_stock, spot])
def test_a_saving_is_the_difference_to_the_plan_with_the_change(fleet: Callable[[], Problem]) -> None:
    asked = Explained(fleet())
    plan = planned(asked.problem)
    for one in found(asked.problem).savings:
        after = planned(changed(asked.problem, one.change, asked.loosened))
        assert one.per_hour == pytest.approx(plan.objective - after.objective, abs=1e-6)
        assert one.proven


def test_one_more_node_of_a_scarce_pool_saves_what_it_saves() -> None:
    assert savings(scarce_stock())["stock", "a100"] == pytest.approx(0.5)


def test_a_minimum_of_replicas_that_costs_something_is_named() -> None:
    asked = problem([model("chat", {SHORT: 2.0}, L4, min_replicas=3)], [pool("L4", 1.0)])
    assert savings(asked)["min_replicas", "test/chat"] == pytest.approx(2.0)


def test_a_maximum_of_replicas_that_costs_something_is_named() -> None:
    large = configuration("A100", {SHORT: 4.0})
    asked = problem([model("chat", {SHORT: 4.0}, L4, large, max_replicas=1)], [pool("L4", 1.0), pool("A100", 5.0)])
    assert savings(asked)["max_replicas", "test/chat"] == pytest.approx(3.0)


def test_a_looser_target_saves_only_where_it_limits() -> None:
    found = savings(complete())
    assert found["tpot", "team/chat"] > 0
    assert found["ttft", "team/chat"] == 0


@pytest.mark.parametrize("name", FLEETS)
def test_alternatives_do_without_what_they_say_and_the_first_is_the_cheapest(name: str) -> None:
    asked = FLEETS[name]()
    plan = planned(asked)
    alternatives = found(asked).alternatives
    whole = [one for one in alternatives if one.cost_per_hour is not None]
    assert [one.extra_per_hour for one in whole] == sorted(one.extra_per_hour for one in whole)
    assert alternatives[: len(whole)] == tuple(whole)
    assert {one.gpu for one in alternatives if one.without == "gpu"} == {one.gpu for one in plan.allocations}
    gpus = {one.name: one.gpu for one in asked.pools}
    for one in alternatives:
        assert one.extra_per_hour >= 0
        assert one.without != "gpu" or one.gpu not in {gpus[node.pool] for node in one.nodes}


def test_splitting_prefill_and_decode_is_compared_with_not_splitting() -> None:
    asked = disaggregated()
    plan = planned(asked)
    assert {one.role for one in plan.allocations} == {"prefill", "decode"}
    (whole,) = [one for one in found(asked).alternatives if one.without == "disaggregation"]
    assert whole.cost_per_hour == pytest.approx(
        planned(allowing(asked, lambda c: c.role == "aggregated")).cost_per_hour
    )
    assert {one.role for choice in found(asked).choices for one in choice.options if one.share} == {"prefill", "decode"}


def test_spot_nodes_are_compared_with_none() -> None:
    assert "spot" in {one.without for one in found(spot()).alternatives}


def test_moving_one_model_leaves_the_others_where_they_may_be() -> None:
    placements = {(one.model, one.gpu): one.extra_per_hour for one in found(scarce_stock()).placements}
    plan = planned(scarce_stock())
    moved = planned(allowing(scarce_stock(), lambda c: c.gpu != "A100", {"team/code"}))
    assert placements["team/code", "A100"] == pytest.approx(moved.objective - plan.objective)
    assert found(complete()).placements == ()  # with one model the alternatives say it


def test_what_is_not_served_does_not_hide_what_the_rest_costs() -> None:
    stuck = model("stuck", {SHORT: 1.0}, configuration("H100", {SHORT: 0.0}))
    chat = model("chat", {SHORT: 2.0}, L4, min_replicas=2)
    explanation = found(problem([stuck, chat], [pool("L4", 1.0), pool("H100", 9.0)]))
    assert [one.model for one in explanation.conflicts] == ["test/stuck"]
    assert {one.change: one.per_hour for one in explanation.savings}[
        Change("min_replicas", "test/chat", 2, 0)
    ] == pytest.approx(1.0)


def test_what_all_models_together_would_need_is_enough_for_all() -> None:
    stuck = model("stuck", {SHORT: 1.0}, configuration("H100", {SHORT: 0.0}))
    first = model("first", {SHORT: 5.0}, L4, max_replicas=1, priority=1)
    asked = problem([stuck, first, model("second", {SHORT: 3.0}, L4)], [pool("L4", 1.0, 2), pool("H100", 9.0)], 3.0)
    remedy = found(asked).everything
    assert remedy is not None
    assert set(remedy.changes) == {
        Change("stock", "L4", 2, 5),
        Change("max_replicas", "test/first", 1, 3),
        Change("budget", "", 3.0, 5.0),
    }
    for change in remedy.changes:
        asked = changed(asked, change)
    after = planned(asked)
    assert ({one.model for one in after.unserved}, after.cost_per_hour) == ({"test/stuck"}, remedy.cost_per_hour)
    assert found(problem([first], [pool("L4", 1.0, 9)])).everything is None  # of one model its conflict says it


@pytest.mark.parametrize("name", FLEETS)
def test_without_time_nothing_is_claimed_and_everything_is_listed(name: str) -> None:
    fleet = Explained(FLEETS[name]())
    plan = planned(fleet.problem)
    nothing = explained(fleet.problem, plan, fleet.loosened, 0.0)
    assert nothing.savings == nothing.alternatives == nothing.placements == ()
    assert all(not one.limits and not one.remedies for one in nothing.conflicts)
    about = {one.about for one in nothing.unanswered}
    assert {"alternative", "change"} <= about
    assert nothing.choices  # these need no solving


def test_that_nothing_is_saved_is_claimed_only_with_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, plan = complete(), planned(complete())
    monkeypatch.setattr(whatif, "solve", lambda *_: replace(plan, proven=False))
    explanation = explained(asked, plan, Explained(asked).loosened)
    assert explanation.savings == ()
    assert {one.detail for one in explanation.unanswered} == {"ttft", "tpot"}
    monkeypatch.setattr(whatif, "solve", lambda *_: replace(plan, objective=plan.objective - 1, proven=False))
    first, second = explained(asked, plan, Explained(asked).loosened).savings
    assert first.per_hour == second.per_hour == pytest.approx(1.0)
    assert not first.proven


def test_without_a_way_to_formulate_anew_targets_are_not_asked_about() -> None:
    asked = complete()
    assert {one.change.kind for one in explained(asked, planned(asked)).savings}.isdisjoint({"ttft", "tpot"})


def test_an_equal_plan_without_a_type_costs_nothing_more() -> None:
    alike = replace(L4, key="L4b", gpu="L4b", pools=("L4b",))
    asked = problem([model("chat", {SHORT: 2.0}, L4, alike)], [pool("L4", 1.0), pool("L4b", 1.0)])
    (only,) = found(asked).alternatives
    assert (only.cost_per_hour, only.extra_per_hour) == (pytest.approx(1.0), pytest.approx(0.0))
