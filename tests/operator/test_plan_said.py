"""What a Plan object says of the decision: names, shares, costs, what is left out, comparisons."""

from typing import Any

import pytest
from decisions import OBJECTS, decided, stored
from fleets import A100, SIZES, model, plan, pool, profile, solved, view_of

from motley_operator.api import Plan
from motley_operator.api.plan import Comparison
from motley_operator.formulation import formulated
from motley_operator.planning import plan_of, single_type
from motley_operator.triggers import inputs_of
from motley_solver.plan import Allocation, Assignment, PoolNodes
from motley_solver.plan import Plan as Solved


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
    assert {one.gpu for one in new.spec.comparisons} == {"L4", "A100-80GB"}
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
