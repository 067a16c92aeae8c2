"""What starts a pass: what people ask for, not what the operator writes itself."""

import pytest

from motley_operator.handlers import asked_of

META = {"uid": "u", "generation": 3, "resourceVersion": "17", "finalizers": ["motley.dev/drain"]}


def test_a_status_that_was_written_asks_for_nothing_new() -> None:
    assert asked_of({**META, "resourceVersion": "18", "managedFields": [{}]}) == asked_of(META)


@pytest.mark.parametrize(
    "change", [{"generation": 4}, {"deletionTimestamp": "2026-11-20T00:00:00Z"}, {"finalizers": []}]
)
def test_a_changed_spec_a_deletion_and_a_finalizer_do(change: dict[str, object]) -> None:
    assert asked_of({**META, **change}) != asked_of(META)
