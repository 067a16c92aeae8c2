"""Routing tables and endpoint slices: what is read of them, who owns a name, what is refused."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from router_harness import slice_json, table_json

from motley_worker.router.tables import Endpoint, EndpointSlice, RoutingTable, routes_of
from motley_worker.router.view import View


def table(**fields: Any) -> RoutingTable:
    return RoutingTable.model_validate(table_json(**fields))


def piece(*args: Any, **fields: Any) -> EndpointSlice:
    return EndpointSlice.model_validate(slice_json(*args, **fields))


def condition(**conditions: Any) -> list[dict[str, Any]]:
    return [{"addresses": ["10.0.0.1"], "conditions": conditions}]


def test_a_backends_endpoints_are_the_addresses_of_its_services_slices() -> None:
    other = slice_json("chat", ["10.0.0.9"]) | {}
    other["metadata"] = other["metadata"] | {"namespace": "elsewhere"}
    slices = [
        piece("chat", ["10.0.0.1", "10.0.0.2"]),
        piece("draft", ["10.0.0.3"]),
        EndpointSlice.model_validate(other),
    ]
    route = routes_of([table(backends=[("chat", 8000), ("none", 1)])], slices)["tiny"]
    assert route.backends == ((Endpoint("10.0.0.1", 8000), Endpoint("10.0.0.2", 8000)), ())
    assert route.model == "default/tiny"


def test_sizes_are_ordered_smallest_first() -> None:
    sizes = [(1000, 10, [1.0]), (10, 1000, [1.0]), (10, 10, [1.0])]
    route = routes_of([table(sizes=sizes)], [])["tiny"]
    assert [size.edge for size in route.sizes] == [(10, 10), (10, 1000), (1000, 10)]


def test_of_two_tables_with_one_served_name_the_older_has_it() -> None:
    young = table(name="a", creationTimestamp="2025-02-01T00:00:00Z")
    old = table(name="z", creationTimestamp="2025-01-01T00:00:00+00:00")
    for tables in ([young, old], [old, young]):
        assert routes_of(tables, [])["tiny"].model == "default/z"


@pytest.mark.parametrize(
    ("conditions", "live"),
    [
        ({"ready": True}, True),
        ({}, True),
        ({"ready": None}, True),
        ({"ready": False}, False),
        ({"ready": False, "serving": True, "terminating": True}, False),
        ({"ready": False, "serving": True, "terminating": False}, True),
        ({"ready": False, "serving": False, "terminating": False}, False),
    ],
)
def test_an_endpoint_is_live_if_ready_or_serving_and_not_terminating(conditions: dict[str, Any], live: bool) -> None:
    route = routes_of([table()], [piece("chat", endpoints=condition(**conditions))])["tiny"]
    assert route.backends == (((Endpoint("10.0.0.1", 8000),) if live else ()),)


def test_a_dual_stack_pod_counts_once_and_ipv6_serves_alone() -> None:
    six = slice_json("chat", ["fd00::1"], addressType="IPv6")
    six["metadata"] = six["metadata"] | {"name": "chat-six"}
    both = [EndpointSlice.model_validate(six), piece("chat", ["10.0.0.1"])]
    assert routes_of([table()], both)["tiny"].backends == ((Endpoint("10.0.0.1", 8000),),)
    assert routes_of([table()], both[:1])["tiny"].backends == ((Endpoint("fd00::1", 8000),),)


@pytest.mark.parametrize("empty", [{"endpoints": None}, {"endpoints": []}])
def test_a_slice_may_be_empty(empty: dict[str, Any]) -> None:
    assert piece("chat", **empty).endpoints == ()


@pytest.mark.parametrize(
    "spec",
    [
        {"servedName": ""},
        {"servedName": 7},
        {"model": None},
        {"slo": {"ttftSeconds": -1, "tpotSeconds": 1}},
        {"slo": {"ttftSeconds": float("nan"), "tpotSeconds": 1}},
        {"slo": {}},
        {"backends": [{"service": "chat", "port": 0}]},
        {"backends": [{"service": "chat", "port": 65536}]},
        {"sizes": [{"inputTokens": 1, "outputTokens": 1, "shares": [0.5, 0.5]}]},
        {"sizes": [{"inputTokens": 1, "outputTokens": 1, "shares": [-1]}]},
        {"sizes": [{"inputTokens": 1, "outputTokens": 1, "shares": [float("inf")]}]},
        {"sizes": [{"inputTokens": -1, "outputTokens": 1, "shares": [1]}]},
    ],
)
def test_a_malformed_table_is_refused(spec: dict[str, Any]) -> None:
    whole = table_json()
    whole["spec"] = whole["spec"] | spec
    with pytest.raises(ValidationError):
        RoutingTable.model_validate(whole)


@pytest.mark.parametrize("address", ["example.com", "10.0.0.1/evil", "10.0.0.1:80@x", "", "10.0.0.1\r\nx: y"])
def test_an_address_that_is_no_ip_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        piece("chat", [address])


def test_a_malformed_new_version_leaves_the_last_good_one() -> None:
    view = View()
    key = ("default", "tiny")
    view.tables.replace({key: table()})
    view.tables.put(key, None)
    assert "tiny" in view.routes
    view.tables.replace({key: None})
    assert "tiny" in view.routes
    view.tables.replace({})
    assert "tiny" not in view.routes


def test_routes_follow_each_change() -> None:
    view = View()
    view.tables.put(("default", "tiny"), table())
    assert view.routes["tiny"].backends == ((),)
    view.slices.put(("default", "chat-abc"), piece("chat", ["10.0.0.1"]))
    assert view.endpoints == {Endpoint("10.0.0.1", 8000)}
    view.slices.drop(("default", "chat-abc"))
    assert view.endpoints == frozenset()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100)
@given(st.sampled_from(["metadata", "addressType", "endpoints", "ports", "spec"]), anything, st.data())
def test_hostile_objects_are_read_or_refused_but_never_break_the_routes(field: str, value: Any, data: Any) -> None:
    for model, good in ((RoutingTable, table_json()), (EndpointSlice, slice_json())):
        inner = (
            data.draw(st.sampled_from(sorted(good.get(field) or {"x": 0})))
            if isinstance(good.get(field), dict)
            else None
        )
        broken = good | ({field: value} if inner is None else {field: good[field] | {inner: value}})
        try:
            parsed = model.model_validate(broken)
        except ValidationError:
            continue
        if isinstance(parsed, RoutingTable):
            routes_of([parsed], [piece()])
        else:
            routes_of([table()], [parsed])
