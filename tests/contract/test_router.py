"""What the operator writes for the router, and what it reads of the router."""

from random import Random
from typing import Any

import pytest
from fleets import Json, allocation, model, models_of, plan, pool, pools_of
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from motley_operator import traffic
from motley_operator.api.plan import PlannedAssignment, PlannedBucket, Share
from motley_operator.manifests import Group, groups_of, routing_table, service
from motley_operator.settings import Settings
from motley_worker.router.choose import choose, size_of
from motley_worker.router.metrics import Metrics
from motley_worker.router.tables import SERVICE_LABEL, EndpointSlice, Route, RoutingTable, routes_of
from motley_worker.router.watch import ENDPOINT_SLICES, ROUTING_TABLES

CHAT = model("chat", {"servedName": "Org/Chat-8B", "slo": {"ttftPerThousandInputTokens": "250ms"}})
SHARES = {"l4": 0.25, "t4": 0.75}


def groups() -> tuple[Group, ...]:
    made = plan(1, allocation(pool="l4", replicas=1), allocation(pool="t4", replicas=1))
    return groups_of(made, models_of(CHAT), pools_of(pool("l4"), pool("t4")), Settings())


def table_of(shares: dict[str, float], leaving: tuple[str, ...] = ()) -> Json:
    bucket = PlannedBucket(
        input_tokens=500,
        output_tokens=200,
        rate=1,
        shares=tuple(Share(pool=name, tensor_parallel=1, share=share) for name, share in shares.items()),
    )
    made = plan(1, assignment=(PlannedAssignment(model="team/chat", buckets=(bucket,)),))
    table = routing_table(models_of(CHAT)["team/chat"], groups(), leaving, made)
    return table | {"metadata": table["metadata"] | {"creationTimestamp": "2026-03-01T12:00:00Z"}}


def slice_of(one: Group, *addresses: str) -> EndpointSlice:
    """As the endpoint slice controller makes it: with the labels of the Service."""
    made = service(one)
    return EndpointSlice.model_validate(
        {
            "metadata": {
                "name": f"{one.name}-x",
                "namespace": made["metadata"]["namespace"],
                "labels": {**made["metadata"]["labels"], SERVICE_LABEL: made["metadata"]["name"]},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8000}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        }
    )


def route() -> Route:
    slices = [slice_of(one, f"10.0.0.{number}") for number, one in enumerate(groups(), 1)]
    found = routes_of([RoutingTable.model_validate(table_of(SHARES))], slices)
    return found["Org/Chat-8B"]


def test_the_router_reads_the_table_that_the_operator_writes() -> None:
    table = RoutingTable.model_validate(table_of(SHARES, leaving=("old",)))
    assert (table.spec.served_name, table.spec.model, table.metadata.namespace) == ("Org/Chat-8B", "chat", "team")
    slo = table.spec.slo
    assert (slo.ttft_seconds, slo.ttft_seconds_per_thousand_input_tokens, slo.tpot_seconds) == (1.0, 0.25, 0.1)
    assert [(one.service, one.port) for one in table.spec.backends] == [
        *((group.name, 8000) for group in groups()),
        ("old", 8000),
    ]
    (size,) = table.spec.sizes
    assert (size.input_tokens, size.output_tokens, size.shares) == (500, 200, (0.25, 0.75, 0.0))


def test_the_plans_weights_survive_to_the_choice_of_an_endpoint() -> None:
    found, random, chosen = route(), Random(7), dict[str, int]()
    for _ in range(4000):
        endpoint = choose(found, size_of(found.sizes, 100, 100), {}, (), (), random)
        assert endpoint is not None
        chosen[endpoint.host] = chosen.get(endpoint.host, 0) + 1
    assert chosen["10.0.0.1"] / 4000 == pytest.approx(0.25, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["l4", "t4", "gone"]), st.floats(0, 1), max_size=3))
def test_every_table_is_one_that_the_router_can_read(shares: dict[str, float]) -> None:
    table = RoutingTable.model_validate(table_of(shares, leaving=("old",)))
    assert all(sum(size.shares) == pytest.approx(1, abs=1e-5) for size in table.spec.sizes)


def test_a_model_without_groups_has_a_table_with_no_backends() -> None:
    table = routing_table(models_of(CHAT)["team/chat"], (), (), plan(1))
    assert RoutingTable.model_validate(table).spec.backends == ()


def matches(selector: str, labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in (part.split("=") for part in selector.split(",") if part))


def test_the_routers_selector_finds_the_slices_of_engines() -> None:
    """A slice carries the labels of its Service."""
    for one in groups():
        assert matches(ENDPOINT_SLICES.label_selector, service(one)["metadata"]["labels"])


def test_the_router_watches_what_the_operator_writes() -> None:
    group, version = str(table_of(SHARES)["apiVersion"]).split("/")
    assert (ROUTING_TABLES.group, ROUTING_TABLES.version, ROUTING_TABLES.plural) == (group, version, "routingtables")


def measured(**models: tuple[int, int]) -> str:
    metrics = Metrics(clock=lambda: 100.0)
    for name, (attained, attempted) in models.items():
        for number in range(attempted):
            metrics.attempted(name.replace("_", "/"), number < attained)
    return generate_latest(metrics.registry).decode()


def test_the_operator_reads_what_the_router_measures() -> None:
    found: dict[str, Any] = traffic.merged([measured(team_chat=(9, 10), team_talk=(1, 1)), measured(team_chat=(0, 10))])
    assert (found["team/chat"].requests, found["team/chat"].attainment) == (20, pytest.approx(0.45))
    assert (found["team/talk"].requests, found["team/talk"].attainment) == (1, 1)


def test_a_router_without_traffic_says_nothing_about_any_model() -> None:
    assert traffic.merged([measured()]) == {}


def test_the_label_of_a_models_metrics_is_the_operators_key() -> None:
    """`namespace/name`: by it the operator finds the Model."""
    assert route().model == next(iter(models_of(CHAT)))
