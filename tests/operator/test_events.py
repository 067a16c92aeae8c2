"""Events: one for every reason that changed, in the condition's words."""

from datetime import timedelta

import pytest
from fleets import NOW, fleet, model, pool, view_of

from motley_operator.api import Condition, Resource
from motley_operator.events import Event, changes, manifest

(CHAT,) = view_of(model()).models


def condition(kind: str, status: str, reason: str, message: str = "why") -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message)  # type: ignore[arg-type]


def told(before: list[Condition], after: list[Condition]) -> list[tuple[str, str, bool]]:
    return [(one.reason, one.message, one.warning) for one in changes(CHAT, before, after)]


def test_every_new_condition_is_told() -> None:
    after = [condition("Ready", "False", "NotReady"), condition("Planned", "True", "Planned")]
    assert told([], after) == [("NotReady", "why", True), ("Planned", "why", False)]


def test_the_same_reason_is_told_once_whatever_its_words() -> None:
    before = [condition("Ready", "False", "NotReady", "1 of 3")]
    assert told(before, [condition("Ready", "False", "NotReady", "2 of 3")]) == []


def test_one_event_for_each_reason_that_changed() -> None:
    before = [condition("Ready", "False", "NotReady"), condition("Planned", "True", "Planned")]
    after = [condition("Ready", "True", "Ready", "3 of 3"), condition("Planned", "True", "Planned")]
    assert told(before, after) == [("Ready", "3 of 3", False)]


def test_another_reason_with_the_same_status_is_told() -> None:
    before, after = [condition("Ready", "False", "NotReady")], [condition("Ready", "False", "EngineFailing")]
    assert told(before, after) == [("EngineFailing", "why", True)]


def test_what_several_conditions_say_in_the_same_words_is_told_once() -> None:
    """Two events of one name would conflict, and hide what comes after them."""
    after = [condition(kind, "False", "NoPool") for kind in ("Accepted", "Planned", "Ready")]
    assert told([], [*after, condition("SLOMet", "Unknown", "NoTraffic")]).count(("NoPool", "why", True)) == 1
    assert ("NoTraffic", "why", False) in told([], [*after, condition("SLOMet", "Unknown", "NoTraffic")])


def test_what_is_unknown_is_no_warning() -> None:
    assert told([], [condition("SLOMet", "Unknown", "NoTraffic")]) == [("NoTraffic", "why", False)]


@pytest.mark.parametrize(
    ("about", "namespace"), [(CHAT, "team"), (view_of(pool()).pools[0], "default"), (view_of(fleet()).fleet, "default")]
)
def test_an_event_lies_beside_its_object_or_in_default(about: Resource, namespace: str) -> None:
    made = manifest(Event(about, "Ready", "3 of 3", warning=False), NOW)
    metadata, involved = made["metadata"], made["involvedObject"]
    assert isinstance(metadata, dict) and isinstance(involved, dict)
    assert metadata["namespace"] == namespace and len(metadata["name"]) <= 253
    assert (involved["kind"], involved["name"], involved["uid"]) == (
        about.kind,
        about.metadata.name,
        about.metadata.uid,
    )
    assert (made["type"], made["reason"], made["message"]) == ("Normal", "Ready", "3 of 3")


def test_a_long_message_is_cut() -> None:
    made = manifest(Event(CHAT, "EngineFailing", "x" * 5000, warning=True), NOW)
    assert (made["type"], made["message"]) == ("Warning", "x" * 1024)


def test_the_same_event_at_another_time_has_another_name() -> None:
    event = Event(CHAT, "Ready", "3 of 3", warning=False)
    assert manifest(event, NOW) == manifest(event, NOW)
    assert manifest(event, NOW)["metadata"] != manifest(event, NOW + timedelta(seconds=1))["metadata"]
