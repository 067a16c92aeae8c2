"""What starts a pass: what people ask for, not what the operator writes itself."""

import pytest

from motley_operator.handlers import asked_of, is_news

META = {"uid": "u", "generation": 3, "resourceVersion": "17", "finalizers": ["motley.dev/drain"]}


def test_a_status_that_was_written_asks_for_nothing_new() -> None:
    assert asked_of({**META, "resourceVersion": "18", "managedFields": [{}]}) == asked_of(META)


@pytest.mark.parametrize(
    "change", [{"generation": 4}, {"deletionTimestamp": "2026-11-20T00:00:00Z"}, {"finalizers": []}]
)
def test_a_changed_spec_a_deletion_and_a_finalizer_do(change: dict[str, object]) -> None:
    assert asked_of({**META, **change}) != asked_of(META)


def test_an_object_is_news_when_it_comes_when_it_changes_and_when_it_goes() -> None:
    seen: dict[str, object] = {}
    changed = {**META, "generation": 4}
    events = [(None, META), ("MODIFIED", META), ("MODIFIED", changed), ("DELETED", changed), ("ADDED", changed)]
    assert [is_news(seen, event, meta) for event, meta in events] == [True, False, True, True, True]


def test_what_is_gone_is_forgotten() -> None:
    seen: dict[str, object] = {}
    is_news(seen, "ADDED", META)
    is_news(seen, "DELETED", META)
    assert seen == {}
