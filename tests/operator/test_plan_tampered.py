"""Plans that were changed after they were made, and the digest that tells."""

import json
from dataclasses import replace
from typing import Any

import pytest
from decisions import MANUAL, OBJECTS, decided, must_not_solve, name, stored
from fleets import allocation, solved, view_of

from motley_operator import reasons
from motley_operator.api import Plan
from motley_operator.cli.schema import completed, schema
from motley_operator.formulation import formulated
from motley_operator.planning import plan_of, tampering
from motley_solver.plan import Plan as Solved


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
