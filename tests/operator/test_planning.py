"""Which plan holds: new ones, approval, rollback, history, and what happens when there is none."""

from dataclasses import replace

import pytest
from decisions import MANUAL, OBJECTS, decided, must_not_solve, name, stored
from fleets import model, plan, planned, pool, profile, solved, view_of, with_plan

from motley_operator import reasons
from motley_operator.fleet import DeploymentView
from motley_operator.formulation import formulated
from motley_operator.planning import KEPT_PLANS, Decision, applicable, decision
from motley_solver.plan import Infeasible, Outcome, Unsolved
from motley_solver.plan import Plan as Solved
from motley_solver.problem import Problem

# When a plan is made


def test_the_first_plan_is_made_and_is_in_force_at_once() -> None:
    found = decided(*OBJECTS)
    assert found.new is not None and found.active is found.new and found.trouble is None
    assert name(found.new) == "plan-000001" and found.new.spec.reason == "first plan"
    assert [(one.pool, one.replicas) for one in found.new.spec.allocations] == [("l4", 3)]


def test_with_nothing_to_serve_there_is_no_plan() -> None:
    assert decided(pool("l4"), solve=must_not_solve) == Decision(None)
    assert decided(solve=must_not_solve) == Decision(None)


def test_a_plan_that_answers_the_question_stays() -> None:
    view, first = with_plan(*OBJECTS)
    again = decision(view, formulated(view), must_not_solve)
    assert (again.active, again.new, again.trigger) == (first, None, None)


def test_what_a_plan_started_is_no_reason_for_another() -> None:
    """It costs to start replicas; a plan must not follow from its own roll-out."""
    view, first = with_plan(*OBJECTS)
    started = DeploymentView("team", "x", "chat", "l4", 1, "c", replicas=3, ready=3)
    running = replace(view, deployments=(started,))
    assert formulated(running).problem != formulated(view).problem
    assert decision(running, formulated(running), must_not_solve).active == first


def test_the_next_plan_says_why_and_counts_on() -> None:
    view, _ = with_plan(*OBJECTS)
    view = replace(view, models=view_of(model("chat", {"traffic": {"rate": "8"}})).models)
    _, found = planned(view)
    assert found.new is not None and name(found.new) == "plan-000002"
    assert found.new.spec.reason == "Model team/chat changed"


def test_when_the_last_model_goes_a_plan_without_nodes_follows() -> None:
    found = decided(pool("l4"), stored(1))
    assert found.new is not None and (found.new.spec.cost_per_hour, found.new.spec.allocations) == (0, ())


def test_equal_questions_make_equal_plans() -> None:
    one, other = decided(*OBJECTS).new, decided(*reversed(OBJECTS)).new
    assert one == other


# When no plan comes


@pytest.mark.parametrize(
    ("outcome", "reason", "said"),
    [
        (Infeasible(("minReplicas is too much", "so is the other")), reasons.INFEASIBLE, "too much; so is"),
        (Unsolved("no plan within 20 s"), reasons.UNSOLVED, "no plan within 20 s"),
    ],
)
def test_without_a_new_plan_the_old_one_stays(outcome: Outcome, reason: str, said: str) -> None:
    found = decided(*OBJECTS, stored(4, inputs={}), solve=lambda _: outcome)
    assert (name(found.active), found.new, found.obsolete) == ("plan-000004", None, ())
    assert found.trouble is not None and found.trouble.reason == reason and said in found.trouble.message


def test_a_first_plan_that_does_not_come_leaves_everything_as_it_is() -> None:
    found = decided(*OBJECTS, solve=lambda _: Unsolved("no"))
    assert (found.active, found.new) == (None, None) and found.trouble is not None


def test_a_plan_that_breaks_a_promise_is_not_stored() -> None:
    def overloaded(problem: Problem) -> Outcome:
        good = solved(problem)
        assert isinstance(good, Solved)
        return replace(good, allocations=tuple(replace(one, replicas=1) for one in good.allocations))

    found = decided(*OBJECTS, stored(4, inputs={}), solve=overloaded)
    assert (name(found.active), found.new) == ("plan-000004", None)
    assert found.trouble is not None and found.trouble.reason == reasons.CHECK_FAILED
    assert "team/chat" in found.trouble.message


def test_one_models_impossible_minimum_does_not_keep_the_others_from_being_planned() -> None:
    greedy = model("greedy", {"scaling": {"minReplicas": 99}}, age=1)
    found = decided(pool("l4", {"maxNodes": 6}), profile(), model("chat", age=9), greedy)
    assert found.new is not None
    replicas = {one.model: one.replicas for one in found.new.spec.models}
    assert replicas["team/chat"] == 3 and replicas["team/greedy"] < 99


def test_of_two_contradicting_minima_the_more_important_model_has_its_own() -> None:
    three = {"scaling": {"minReplicas": 3}, "traffic": {"rate": "0.1"}}
    low, high = model("low", three, age=9), model("high", {**three, "priority": 5}, age=1)
    found = decided(pool("l4"), profile(), low, high)
    assert found.new is not None
    replicas = {one.model: one.replicas for one in found.new.spec.models}
    assert replicas["team/high"] == 3 and replicas["team/low"] < 3


def test_unserved_load_is_no_trouble_of_the_decision() -> None:
    """A partial plan is applied; the Model tells what is left out."""
    found = decided(pool("l4", {"maxNodes": 1}), *OBJECTS[1:])
    assert found.trouble is None and found.active is found.new


# Approval


def test_a_plan_that_nobody_approved_waits() -> None:
    found = decided(MANUAL, *OBJECTS)
    assert found.new is not None and found.active is None
    assert found.trouble is not None and found.trouble.reason == reasons.WAITING_FOR_APPROVAL
    assert f"kubectl patch plan {found.new.metadata.name}" in found.trouble.message


def test_the_newest_approved_plan_is_in_force() -> None:
    plans = stored(1, True), stored(2, True), stored(3), stored(4)
    found = decided(MANUAL, *OBJECTS, *plans)
    assert name(found.active) == "plan-000002"
    assert found.trouble is not None and "plan-000004" in found.trouble.message


def test_approving_the_newest_ends_the_waiting() -> None:
    found = decided(MANUAL, *OBJECTS, stored(1, True), stored(2, True))
    assert (name(found.active), found.trouble) == ("plan-000002", None)


def test_taking_an_approval_back_rolls_back() -> None:
    found = decided(MANUAL, *OBJECTS, stored(1, True), stored(2, False), solve=must_not_solve)
    assert name(found.active) == "plan-000001"
    assert decided(MANUAL, *OBJECTS, stored(1), stored(2), solve=must_not_solve).active is None


def test_where_plans_apply_at_once_the_newest_is_in_force_approved_or_not() -> None:
    assert name(decided(*OBJECTS, stored(1, True), stored(2)).active) == "plan-000002"


def test_a_new_plan_does_not_replace_an_approved_one_by_itself() -> None:
    found = decided(MANUAL, *OBJECTS, stored(1, True, inputs={}))
    assert (name(found.active), name(found.new)) == ("plan-000001", "plan-000002")


def test_plans_are_ordered_by_number_and_not_by_age_or_letters() -> None:
    plans = [plan(n) for n in (9, 10, 1_000_000, 999_999)]
    assert name(applicable(replace(view_of(), plans=tuple(plans)))) == "plan-100000"
    assert applicable(replace(view_of(), plans=tuple(plans))) is plans[2]


def test_a_plan_that_a_person_wrote_is_older_than_every_other() -> None:
    foreign = plan(1, approved=True).to_json()
    foreign["metadata"]["name"] = "plan-zzz"
    assert name(decided(MANUAL, *OBJECTS, foreign, stored(1, True)).active) == "plan-000001"


# History


def test_the_last_twenty_plans_are_kept() -> None:
    found = decided(*OBJECTS, *(stored(n) for n in range(1, 24)))
    assert [one[:11] for one in found.obsolete] == ["plan-000001", "plan-000002", "plan-000003"]


def test_a_new_plan_counts_among_the_twenty() -> None:
    found = decided(*OBJECTS, *(stored(n, inputs={}) for n in range(1, 21)))
    assert name(found.new) == "plan-000021" and [one[:11] for one in found.obsolete] == ["plan-000001"]
    assert KEPT_PLANS == 20


def test_the_plan_in_force_is_kept_however_old() -> None:
    found = decided(MANUAL, *OBJECTS, stored(1, True), *(stored(n) for n in range(2, 25)))
    assert name(found.active) == "plan-000001"
    assert [one[:11] for one in found.obsolete] == [f"plan-{n:06}" for n in (2, 3, 4)]
