"""Changed problems, and questions that share one time limit."""

from dataclasses import replace
from time import monotonic

import pytest

from motley_solver.ilp import solve
from motley_solver.plan import Plan
from motley_solver.problem import Problem
from motley_solver.whatif import Change, Question, Questions, allowing, as_served, changed, plenty
from tests.solver.fleets import LONG, SHORT, configuration, model, pool, problem

L4 = configuration("L4", {SHORT: 2.0, LONG: 0.5})
ASKED = problem([model("chat", {SHORT: 8.0, LONG: 1.0}, L4, min_replicas=1, max_replicas=9)], [pool("L4", 1.0, 4)])
QUESTION = Question("change", "L4", "stock")


def planned(asked: Problem) -> Plan:
    plan = solve(asked)
    assert isinstance(plan, Plan)
    return plan


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (Change("stock", "L4", 4, 5), lambda p: p.pools[0].max_nodes == 5),
        (Change("budget", "", 1.0, 2.5), lambda p: p.budget_per_hour == 2.5),
        (Change("max_replicas", "test/chat", 9, 10), lambda p: p.models[0].max_replicas == 10),
        (Change("min_replicas", "test/chat", 1, 0), lambda p: p.models[0].min_replicas == 0),
        (Change("survivability", "test/chat", 0.5, 0.25), lambda p: p.models[0].survivability == 0.25),
    ],
)
def test_a_change_changes_one_number(change: Change, found: object) -> None:
    after = changed(ASKED, change)
    assert callable(found) and found(after)
    back = changed(after, replace(change, to=change.now if change.kind != "survivability" else 0.0))
    assert replace(back, budget_per_hour=None) == ASKED


def test_a_latency_target_is_changed_by_who_formulates() -> None:
    said = []

    def loosened(name: str, target: str, factor: float) -> Problem:
        said.append((name, target, factor))
        return ASKED

    assert changed(ASKED, Change("tpot", "test/chat", 1.0, 1.1), loosened) is ASKED
    assert said == [("test/chat", "tpot", 1.1)]
    with pytest.raises(KeyError, match="tpot"):
        changed(ASKED, Change("tpot", "test/chat", 1.0, 1.1))


def test_what_a_plan_serves_is_a_problem_that_it_solves() -> None:
    plan = planned(ASKED)
    assert not plan.complete
    served = planned(as_served(ASKED, plan))
    assert served.complete
    assert served.cost_per_hour == pytest.approx(plan.cost_per_hour)
    assert as_served(ASKED, plan, {("test/chat", SHORT), ("test/chat", LONG)}) == ASKED


def test_what_may_be_outside_the_slo_stays_the_same_rate() -> None:
    slow = configuration("L4", {SHORT: 2.0, LONG: 0.0}, best_effort={SHORT: 2.0, LONG: 0.5})
    asked = problem([model("chat", {SHORT: 9.5, LONG: 0.5}, slow, attainment=0.95)], [pool("L4", 1.0, 4)])
    plan = planned(asked)
    assert not plan.complete
    served = as_served(asked, plan)
    (before,), (after,) = asked.models, served.models
    assert (1 - after.attainment) * after.rate == pytest.approx((1 - before.attainment) * before.rate)
    assert planned(served).complete


def test_plenty_of_a_pool_holds_everything() -> None:
    assert planned(changed(ASKED, Change("stock", "L4", 4, plenty(ASKED, ASKED.pools[0])))).complete
    assert plenty(replace(ASKED, models=()), ASKED.pools[0]) == 5


def test_configurations_are_forbidden_for_the_named_models_only() -> None:
    two = replace(ASKED, models=(*ASKED.models, replace(ASKED.models[0], name="test/other")))
    without = allowing(two, lambda c: c.gpu != "L4", {"test/chat"})
    assert [len(one.configurations) for one in without.models] == [0, 1]
    assert without.pools == two.pools


def test_latency_targets_are_worked_out_ahead_some_at_once_and_only_in_time() -> None:
    said: list[int] = []
    questions = Questions(monotonic() + 60, ahead=lambda changes: said.append(len(changes)))
    changes = [Change("tpot", "test/chat", 1.0, 1.0 + i) for i in range(10)]
    questions.work_ahead([Change("stock", "L4", 4, 5), *changes])
    assert said == [8, 2]
    Questions(monotonic(), ahead=lambda changes: said.append(0)).work_ahead(changes)
    Questions(monotonic() + 60).work_ahead(changes)  # nobody does it
    assert said == [8, 2]


def test_what_is_asked_too_late_is_noted_and_not_even_formulated() -> None:
    def never() -> Problem:
        raise AssertionError

    questions = Questions(monotonic())
    assert questions.answer(QUESTION, never) is None
    assert questions.answer(QUESTION, ASKED) is None
    assert questions.unanswered == [QUESTION]
    assert questions.late
