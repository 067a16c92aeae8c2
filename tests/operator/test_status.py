"""What holds for every status: times that move only when a status flips, messages with a limit, words for columns."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fleets import NOW
from statuses import OBJECTS, condition, in_force, of, said

from motley_operator import reasons
from motley_operator.api import Model
from motley_operator.api.plan import PlannedModel
from motley_operator.status import MESSAGE, Outcome, placement, prediction, statuses

# Times and messages


def written(outcome: Outcome) -> Outcome:
    """The view with its statuses as the API server would have them after this pass."""
    view = outcome.view
    by_key = {(one.kind, one.key): status for one, status in statuses(outcome)}

    def updated(resources: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(one.model_copy(update={"status": by_key[one.kind, one.key]}) for one in resources)

    view = replace(
        view, models=updated(view.models), pools=updated(view.pools), plans=updated(view.plans), fleet=view.fleet
    )
    return replace(outcome, view=replace(view, now=NOW + timedelta(hours=1)))


def test_a_time_moves_only_when_the_status_flips() -> None:
    first = in_force(*OBJECTS, ready=0)
    before = of(first, Model)
    later = written(first)
    assert of(later, Model) == before, "an hour later, nothing changed: nothing to write"
    flipped = replace(
        later, view=replace(later.view, deployments=tuple(replace(d, ready=3) for d in later.view.deployments))
    )
    after = {one.type: one.last_transition_time for one in of(flipped, Model).conditions}
    assert after["Ready"] == "2026-03-01T13:00:00Z"
    assert {after[kind] for kind in ("Accepted", "Planned", "SLOMet")} == {"2026-03-01T12:00:00Z"}


def test_another_reason_with_the_same_status_keeps_the_time() -> None:
    later = written(in_force(*OBJECTS, ready=0))
    failing = replace(later, failures={"Model team/chat": "quota"})
    found = condition(of(failing, Model), "Ready")
    assert (found.reason, found.last_transition_time) == (reasons.APPLY_FAILED, "2026-03-01T12:00:00Z")


@pytest.mark.parametrize("length", [1, MESSAGE, MESSAGE + 1, 50_000])
def test_messages_are_cut_to_their_limit(length: int) -> None:
    outcome = replace(in_force(*OBJECTS), failures={"Model team/chat": "ü" * length})
    assert said(outcome, "Ready")[2] == "ü" * min(length, 1024)


def test_every_reason_is_one_word_in_pascal_case() -> None:
    found = {value for name, value in vars(reasons).items() if name.isupper()}
    assert all(one.isalnum() and one[0].isupper() for one in found)


# Words for columns


def test_the_placement_is_told_by_gpu_and_degree() -> None:
    (group,) = in_force(*OBJECTS).groups
    big = replace(group, allocation=group.allocation.model_copy(update={"gpu": "A100", "tensor_parallel": 2}))
    assert placement([]) == ""
    assert placement([group, group, big]) == "3×A100 TP2 + 6×L4"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "met (Profile ±10%)"),
        ({"estimated": True, "error": 0.25}, "met (Estimated ±25%)"),
        ({"predicted_attainment": 0.5}, "50.0% (Profile ±10%)"),
        ({"predicted_attainment": 0.99 - 1e-12}, "met (Profile ±10%)"),
        ({"replicas": 0}, ""),
    ],
)
def test_a_prediction_says_what_it_rests_on(changes: dict[str, Any], text: str) -> None:
    base = PlannedModel(model="team/chat", replicas=1, cost_per_hour=1, predicted_attainment=1.0, error=0.1)
    assert prediction(base.model_copy(update=changes), 0.99) == text
