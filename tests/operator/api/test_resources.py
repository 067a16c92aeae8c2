"""The models themselves: what they take, what they give back."""

import fleets
import pytest
from pydantic import ValidationError

from motley_operator.api import KINDS, GPUPool, Model, Plan
from motley_operator.api.plan import PlannedNodes


def test_an_object_comes_back_as_it_was_given() -> None:
    raw = fleets.model("chat", {"engine": {"env": [{"name": "A", "value": "1"}]}, "priority": 3})
    given = Model.model_validate(raw).to_json()
    assert Model.model_validate(given).to_json() == given
    assert given["spec"]["engine"]["env"] == [{"name": "A", "value": "1"}]
    assert given["spec"]["slo"]["ttft"] == raw["spec"]["slo"]["ttft"]


def test_an_operator_ignores_what_only_a_newer_crd_knows() -> None:
    assert Model.model_validate(fleets.model("chat", {"wings": 2})).spec.priority == 0


def test_resources_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Model.model_validate(fleets.model()).spec.priority = 1  # type: ignore[misc]


def test_every_kind_knows_itself_by_name() -> None:
    assert [kind.model_fields["kind"].default for kind in KINDS] == [kind.__name__ for kind in KINDS]


def test_the_key_has_the_namespace_where_there_is_one() -> None:
    assert Model.model_validate(fleets.model("chat", namespace="team")).key == "team/chat"
    assert GPUPool.model_validate(fleets.pool("l4")).key == "l4"


def test_a_served_name_is_the_models_own_unless_another_is_given() -> None:
    assert Model.model_validate(fleets.model("chat")).served_name == "chat"
    assert Model.model_validate(fleets.model("chat", {"servedName": "Org/Chat-8B"})).served_name == "Org/Chat-8B"


@pytest.mark.parametrize("approved", [True, False])
def test_a_plan_survives_the_way_to_the_server_and_back(approved: bool) -> None:
    plan = fleets.plan(3, fleets.allocation(replicas=2), nodes={"l4": 2}, approved=approved)
    again = Plan.model_validate(plan.to_json())
    assert again == plan
    assert again.spec.nodes == (PlannedNodes(pool="l4", nodes=2, cost_per_hour=2),)
