"""Which plan holds: new ones, approval, rollback, history, and what happens when there is none."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fleets import A100, SIZES, allocation, fleet, model, plan, planned, pool, profile, solved, view_of, with_plan

from motley_operator import reasons
from motley_operator.api import Plan
from motley_operator.api.plan import Comparison
from motley_operator.cli.schema import completed, schema
from motley_operator.fleet import DeploymentView
from motley_operator.formulation import formulated
from motley_operator.planning import KEPT_PLANS, Decision, applicable, decision, plan_of, single_type, tampering
from motley_operator.triggers import inputs_of
from motley_solver.plan import Allocation, Assignment, Infeasible, Outcome, PoolNodes, Unsolved
from motley_solver.plan import Plan as Solved
from motley_solver.problem import Problem

OBJECTS = (pool("l4"), model(), profile())
MANUAL = fleet({"approval": "Manual"})
INPUTS = inputs_of(formulated(view_of(*OBJECTS)))


def stored(number: int, approved: bool = False, **spec: Any) -> dict[str, Any]:
    return plan(number, approved=approved, **{"inputs": INPUTS, **spec}).to_json()


def name(found: Plan | None) -> str:
    return found.metadata.name[:11] if found else ""


def decided(*objects: dict[str, Any], solve: Callable[[Problem], Outcome] = solved) -> Decision:
    view = view_of(*objects)
    return decision(view, formulated(view), solve)


def must_not_solve(problem: Problem) -> Outcome:
    raise AssertionError("nothing asks for a new plan")


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
    plans = [plan(n).model_copy(update={"metadata": plan(n).metadata}) for n in (9, 10, 1_000_000, 999_999)]
    assert name(applicable(replace(view_of(), plans=tuple(plans)))) == "plan-100000"
    assert applicable(replace(view_of(), plans=tuple(plans))) is plans[2]


def test_a_plan_that_a_person_wrote_is_older_than_every_other() -> None:
    foreign = plan(1, approved=True).to_json()
    foreign["metadata"]["name"] = "plan-zzz"
    assert name(decided(MANUAL, *OBJECTS, foreign, stored(1, True)).active) == "plan-000001"


# Plans that were changed after they were made


def tampered(number: int, **spec: Any) -> dict[str, Any]:
    """Says five replicas where one was decided."""
    raw = stored(number, allocations=(allocation(),), **spec)
    raw["spec"]["allocations"][0]["replicas"] = 5
    return raw


def test_a_plan_that_was_changed_is_not_applied_and_the_next_older_one_is() -> None:
    found = decided(*OBJECTS, stored(1), stored(2), tampered(3), solve=must_not_solve)
    assert name(found.active) == "plan-000002"
    assert found.trouble is not None and found.trouble.reason == reasons.TAMPERED
    assert "kubectl delete plan plan-000003" in found.trouble.message


def test_approval_does_not_heal_a_changed_plan() -> None:
    plans = stored(1, True), tampered(2, approved=True)
    found = decided(MANUAL, *OBJECTS, *plans, solve=must_not_solve)
    assert name(found.active) == "plan-000001"
    assert found.trouble is not None and found.trouble.reason == reasons.TAMPERED


def test_where_every_plan_was_changed_everything_stays_as_it_is() -> None:
    assert decided(*OBJECTS, tampered(1), solve=must_not_solve).active is None


def test_a_changed_plan_is_followed_by_a_new_one_when_the_inputs_change() -> None:
    found = decided(*OBJECTS, tampered(3, inputs={}))
    assert name(found.new) == "plan-000004" and found.active is found.new and found.trouble is None


@pytest.mark.parametrize(
    "path",
    [
        ("allocations", "pool"),
        ("allocations", "role"),
        ("allocations", "engine"),
        ("nodes", "nodes"),
        ("nodes", "reserved"),
        ("assignment", "buckets"),
        ("models", "replicas"),
    ],
)
def test_a_digest_fits_only_what_was_decided(path: tuple[str, str]) -> None:
    new = decided(*OBJECTS).new
    assert new is not None and tampering(new) is None
    field, inner = path
    raw = new.to_json()
    changes = {
        "pool": "other",
        "role": "Decode",
        "engine": {**raw["spec"]["allocations"][0]["engine"], "maxNumSeqs": 1},
    }
    raw["spec"][field][0][inner] = changes.get(inner, [] if inner == "buckets" else 9)
    assert tampering(Plan.model_validate(raw)) is not None


def as_the_api_server_returns(value: Any) -> Any:
    """JSON by way of Go: numbers without a fraction lose their point."""
    if isinstance(value, dict):
        return {name: as_the_api_server_returns(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_the_api_server_returns(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_a_digest_survives_storing_and_reading() -> None:
    new = decided(*OBJECTS).new
    assert new is not None
    sent = json.loads(json.dumps(new.to_json()))
    filled_in = completed(schema(Plan), as_the_api_server_returns(sent))
    lean = new.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert filled_in["spec"]["nodes"][0]["reserved"] == 0 and "reserved" not in lean["spec"]["nodes"][0]
    for raw in (sent, filled_in, lean):
        assert tampering(Plan.model_validate(raw)) is None


def test_no_number_of_a_plan_is_a_negative_zero() -> None:
    """It would come back as another number than it was digested as."""
    formulation = formulated(view_of(*OBJECTS))
    outcome = solved(formulation.problem)
    assert isinstance(outcome, Solved)
    broken = tuple(replace(one, cost_per_hour=-1e-12) for one in outcome.models)
    made = plan_of(formulation.problem, replace(outcome, models=broken), "why", {}, 7)
    assert "-0.0" not in json.dumps(made.to_json())


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


# What a plan says


def digest(*objects: dict[str, Any]) -> str:
    new = decided(*objects).new
    assert new is not None
    return new.spec.digest


def test_equal_decisions_have_one_digest_whatever_led_to_them() -> None:
    cheaper = pool("l4", {"maxNodes": 5})
    assert digest(*OBJECTS) == digest(cheaper, *OBJECTS[1:])
    assert digest(*OBJECTS) != digest(OBJECTS[0], model("chat", {"traffic": {"rate": "8"}}), OBJECTS[2])


def test_the_name_carries_number_and_digest() -> None:
    new = decided(*OBJECTS, stored(41, inputs={})).new
    assert new is not None and new.metadata.name == f"plan-000042-{new.spec.digest}"


def test_shares_of_a_size_sum_to_one_and_name_planned_groups() -> None:
    long = [{"inputTokens": 500, "outputTokens": 200, "requestsPerSecond": "9"}]
    long += [{"inputTokens": 4000, "outputTokens": 200, "requestsPerSecond": "4"}]
    both = (pool("l4", {"maxNodes": 2}), pool("a100", A100), model("chat", {"traffic": {"rate": "9"}}), profile())
    new = decided(*both, profile("big", {"gpu": "A100", "throughput": long})).new
    assert new is not None
    groups = {(one.pool, one.tensor_parallel) for one in new.spec.allocations}
    for bucket in new.spec.assignment[0].buckets:
        assert sum(share.share for share in bucket.shares) == pytest.approx(1, abs=1e-5)
        assert {(share.pool, share.tensor_parallel) for share in bucket.shares} <= groups


def test_what_is_left_out_is_listed_with_its_rate_and_a_reason() -> None:
    new = decided(pool("l4", {"maxNodes": 1}), *OBJECTS[1:]).new
    assert new is not None and sum(one.rate for one in new.spec.unserved) > 0
    assert all(one.model == "team/chat" and one.reason for one in new.spec.unserved)


def test_every_gpu_type_is_compared() -> None:
    big = profile("big", {"gpu": "A100", "throughput": profile()["spec"]["throughput"]})
    new = decided(*OBJECTS, pool("a100", A100), big).new
    assert new is not None
    assert {one.gpu for one in new.spec.comparisons} == {"L4", "A100"}
    assert new.spec.cost_per_hour <= min(one.cost_per_hour or 1e9 for one in new.spec.comparisons) + 1e-9


def test_a_plan_says_who_prefills_who_decodes_and_what_is_paid_for_unused() -> None:
    """As `motley plan` prints it; the operator does not ask for it yet."""
    rack = {"fabric": {"name": "rack", "bandwidthGBs": "50"}, "capacityType": "Reserved"}
    apart = model("chat", {"placement": {"modes": ["Disaggregated"]}, "traffic": {"sizes": SIZES[:1]}})
    problem = formulated(view_of(pool("l4", rack), apart), disaggregated=True).problem
    (demand,) = problem.models
    prefill, decode = demand.configurations
    outcome = Solved(
        allocations=tuple(
            Allocation(demand.name, "l4", "L4", 1, one.role, 1, one.key, one.settings, 1) for one in (prefill, decode)
        ),
        nodes=(PoolNodes("l4", 2, 0.8, reserved=4),),
        cost_per_hour=3.2,
        objective=3.7,
        lower_bound=3.7,
        proven=True,
        assignment=tuple(
            Assignment(demand.name, demand.buckets[0].bucket, one.key, 1.0, role=one.role) for one in (prefill, decode)
        ),
        unserved=(),
        models=(),
        solve_seconds=0.1,
        switching_per_hour=0.3,
        risk_per_hour=0.2,
    )
    spec = plan_of(problem, outcome, "why", {}, 1).spec
    assert [one.role for one in spec.allocations] == ["Prefill", "Decode"]
    shares = spec.assignment[0].buckets[0].shares
    assert {(one.pool, one.role, one.share) for one in shares} == {("l4", "Prefill", 1.0), ("l4", "Decode", 1.0)}
    assert [(one.nodes, one.reserved, one.cost_per_hour) for one in spec.nodes] == [(2, 4, 3.2)]
    assert (spec.switching_per_hour, spec.risk_per_hour, spec.objective) == (0.3, 0.2, 3.7)


def test_comparisons_are_one_line() -> None:
    found = (Comparison(gpu="L4", cost_per_hour=3.2), Comparison(gpu="H100", reason="stock"))
    assert single_type(plan(1, comparisons=found)) == "L4 3.20, H100 cannot serve"
    assert single_type(plan(1)) == ""


def test_bill_and_bound_are_kept_apart_and_the_bound_is_no_higher() -> None:
    new = decided(*OBJECTS).new
    assert new is not None
    assert new.spec.cost_per_hour == pytest.approx(3 * 0.8) and new.spec.lower_bound <= new.spec.objective + 1e-6
    assert sum(one.cost_per_hour for one in new.spec.models) == pytest.approx(new.spec.cost_per_hour)
    assert [(one.pool, one.nodes) for one in new.spec.nodes] == [("l4", 3)]


def test_a_plan_says_whether_it_rests_on_a_measurement() -> None:
    measured, guessed = decided(*OBJECTS).new, decided(*OBJECTS[:2]).new
    assert measured is not None and guessed is not None
    assert [(one.estimated, one.error) for one in measured.spec.models] == [(False, 0.1)]
    assert all(one.estimated and one.error > 0 for one in guessed.spec.models)


def test_a_plan_is_made_of_numbers_that_survive_json() -> None:
    formulation = formulated(view_of(*OBJECTS))
    outcome = solved(formulation.problem)
    assert isinstance(outcome, Solved)
    made = plan_of(formulation.problem, outcome, "why", inputs_of(formulation), 7)
    assert Plan.model_validate_json(made.model_dump_json(by_alias=True)) == made


def test_unserved_load_is_no_trouble_of_the_decision() -> None:
    """A partial plan is applied; the Model tells what is left out."""
    found = decided(pool("l4", {"maxNodes": 1}), *OBJECTS[1:])
    assert found.trouble is None and found.active is found.new
