"""The watch keeps the view true through everything an API server does; without one the last table stays."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from fake_watch_api import CUT, END, FakeWatchApi, Kind
from kubernetes import client
from router_harness import slice_json, table_json

from motley_worker.router import watch as watching
from motley_worker.router.tables import Key, RoutingTable
from motley_worker.router.view import Shelf
from motley_worker.router.watch import ROUTING_TABLES, Watch


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def versioned(version: int, **fields: Any) -> dict[str, Any]:
    return table_json(resourceVersion=str(version), **fields)


@pytest.fixture
def api() -> Iterator[FakeWatchApi]:
    fake = FakeWatchApi()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def tables(api: FakeWatchApi) -> Kind:
    return api.kinds["routingtables"]


@pytest.fixture
def shelf(api: FakeWatchApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf[RoutingTable]]:
    """Filled by a running watch. In the tests the watch's own thread writes: they only read."""
    monkeypatch.setattr(watching, "FIRST_WAIT_SECONDS", 0.02)
    filled: Shelf[RoutingTable] = Shelf()
    connection = client.ApiClient(client.Configuration(host=api.url))
    watch = Watch(connection, ROUTING_TABLES, RoutingTable, filled)
    watch.start()
    yield filled
    watch.stop()
    api.stop()
    watch.join(10)
    assert not watch.is_alive()
    connection.rest_client.pool_manager.clear()


@pytest.fixture
def refusing(tables: Kind) -> Kind:
    """Comes before `shelf`: already the first list is refused."""
    tables.refuse_lists = 403
    return tables


def names(shelf: Shelf[RoutingTable]) -> Mapping[Key, str]:
    return {key: table.spec.served_name for key, table in shelf.items.items()}


def test_what_was_listed_added_changed_and_deleted_is_seen(tables: Kind, shelf: Shelf[RoutingTable]) -> None:
    until(lambda: shelf.listed)
    tables.send("ADDED", versioned(2, name="a"))
    until(lambda: names(shelf) == {("default", "a"): "tiny"})
    tables.send("MODIFIED", versioned(3, name="a", served_name="other"))
    until(lambda: names(shelf) == {("default", "a"): "other"})
    tables.send("DELETED", versioned(4, name="a"))
    until(lambda: names(shelf) == {})
    assert tables.lists[0]["path"] == "/apis/motley.dev/v1alpha1/routingtables"


def test_a_watch_that_ends_goes_on_where_it_was(tables: Kind, shelf: Shelf[RoutingTable]) -> None:
    tables.send("ADDED", versioned(7))
    tables.send("BOOKMARK", {"kind": "RoutingTable", "metadata": {"resourceVersion": "9"}})
    tables.events.put(END)
    until(lambda: len(tables.watches) == 2)
    assert [one["resourceVersion"] for one in tables.watches] == ["1", "9"]
    assert len(tables.lists) == 1
    assert tables.watches[0]["allowWatchBookmarks"] in ("true", "True")


def test_an_event_cut_in_two_is_asked_for_again(tables: Kind, shelf: Shelf[RoutingTable]) -> None:
    tables.send("ADDED", versioned(7, name="a"))
    tables.events.put(CUT)
    tables.send("ADDED", versioned(8, name="b"))
    until(lambda: len(shelf.items) == 2)
    assert [one["resourceVersion"] for one in tables.watches] == ["1", "7"]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}},
        {"type": "ERROR", "object": {"kind": "Status", "code": 500}},
        {"type": "ERROR"},
        b"{not json",
        b"[" * 100_000,
    ],
)
def test_a_place_that_expired_or_makes_no_sense_is_listed_anew(
    tables: Kind, shelf: Shelf[RoutingTable], event: Any
) -> None:
    until(lambda: len(tables.watches) == 1)
    tables.items, tables.version = [versioned(20, name="new")], "20"
    tables.events.put(event)
    until(lambda: names(shelf) == {("default", "new"): "tiny"})
    until(lambda: len(tables.watches) == 2)
    assert tables.watches[1]["resourceVersion"] == "20"


def test_a_watch_refused_as_expired_is_listed_anew(tables: Kind, shelf: Shelf[RoutingTable]) -> None:
    tables.refuse_watches = 410
    until(lambda: len(tables.lists) >= 3)
    tables.refuse_watches = 0
    tables.send("ADDED", versioned(5))
    until(lambda: len(shelf.items) == 1)


def test_the_last_table_stays_while_the_api_server_is_away(
    api: FakeWatchApi, tables: Kind, shelf: Shelf[RoutingTable]
) -> None:
    tables.send("ADDED", versioned(5, name="a"))
    until(lambda: len(shelf.items) == 1)
    tables.refuse_lists = tables.refuse_watches = 503
    tables.events.put(END)
    until(lambda: len(tables.watches) >= 4)
    assert len(shelf.items) == 1
    api.stop()
    tables.refuse_lists = tables.refuse_watches = 0
    seen = len(tables.watches)
    api.start()
    until(lambda: len(tables.watches) > seen)
    assert tables.watches[-1]["resourceVersion"] == "5", "it goes on where it was"
    tables.send("ADDED", versioned(6, name="b"))
    until(lambda: len(shelf.items) == 2)
    assert len(tables.lists) == 1


def test_lists_are_tried_again_until_one_is_granted(refusing: Kind, shelf: Shelf[RoutingTable]) -> None:
    tables = refusing
    until(lambda: len(tables.lists) >= 2)
    assert not shelf.listed
    tables.refuse_lists = 0
    until(lambda: shelf.listed)


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        "text",
        {},
        {"metadata": None},
        {"metadata": {"name": 1, "namespace": []}},
        versioned(2, name="bad") | {"spec": None},
        versioned(2, name="bad") | {"spec": {"servedName": "x" * 1000}},
        slice_json(),
    ],
)
def test_malformed_objects_are_skipped_and_disturb_nothing(
    tables: Kind, shelf: Shelf[RoutingTable], malformed: Any
) -> None:
    until(lambda: len(tables.watches) == 1)
    tables.send("ADDED", malformed)
    tables.send("MODIFIED", malformed)
    tables.send("ADDED", versioned(9, name="good"))
    tables.send("DELETED", malformed)
    until(lambda: names(shelf) == {("default", "good"): "tiny"})
    tables.items = [malformed, versioned(10, name="good", served_name="again")]
    tables.events.put(b"relist")
    until(lambda: names(shelf) == {("default", "good"): "again"})


def test_a_malformed_new_version_leaves_the_last_good_one(tables: Kind, shelf: Shelf[RoutingTable]) -> None:
    tables.send("ADDED", versioned(2, name="a"))
    tables.send("MODIFIED", versioned(3, name="a") | {"spec": {"servedName": 1}})
    tables.send("ADDED", versioned(4, name="b"))
    until(lambda: len(shelf.items) == 2)
    assert names(shelf)[("default", "a")] == "tiny"
