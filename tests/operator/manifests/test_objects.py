"""Deployment, routing table and policies: whom they select, how load is shared, who is let in."""

import pytest
from fleets import Json, model, models_of, plan
from groups import group_of, job_of
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_operator.api.plan import PlannedAssignment, PlannedBucket, Share
from motley_operator.labels import CONFIGURATION
from motley_operator.manifests import Group, deployment, model_objects, routing_table, service
from motley_operator.settings import Settings


def test_the_deployment_selects_its_own_pods_and_no_others() -> None:
    group = group_of()
    made = deployment(group, 3)
    labels, selector = made["spec"]["template"]["metadata"]["labels"], made["spec"]["selector"]["matchLabels"]
    assert selector.items() <= labels.items() and selector[CONFIGURATION] == group.fingerprint
    assert service(group)["spec"]["selector"] == selector
    assert made["spec"]["replicas"] == 3
    other = group_of({"engine": {"args": ["--x"]}})
    assert not selector.items() <= deployment(other, 1)["spec"]["template"]["metadata"]["labels"].items()


# Routing


def table(shares: list[tuple[str, float]], *groups: Group, leaving: tuple[str, ...] = ()) -> Json:
    bucket = PlannedBucket(
        input_tokens=500,
        output_tokens=200,
        rate=1,
        shares=tuple(Share(pool=name, tensor_parallel=1, share=share) for name, share in shares),
    )
    made = plan(1, assignment=(PlannedAssignment(model="team/chat", buckets=(bucket,)),))
    (chat,) = models_of(model()).values()
    found: Json = routing_table(chat, groups, leaving, made)["spec"]
    return found


L4, T4 = group_of(on="l4", replicas=3), group_of(on="t4", replicas=1)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([("l4", 0.25), ("t4", 0.75)], [0.25, 0.75]),
        ([("l4", 0.2), ("t4", 0.2)], [0.5, 0.5]),  # the rest is left out by the plan, and tried all the same
        ([("t4", 1.0)], [0.0, 1.0]),
        ([], [0.75, 0.25]),  # nothing is planned for it: by replicas
        ([("gone", 1.0)], [0.75, 0.25]),
        ([("gone", 0.5), ("t4", 0.5)], [0.0, 1.0]),
    ],
)
def test_shares_follow_the_plan_and_sum_to_one(shares: list[tuple[str, float]], expected: list[float]) -> None:
    (size,) = table(shares, L4, T4)["sizes"]
    assert size["shares"] == pytest.approx(expected)


def test_a_size_that_is_not_served_goes_where_its_input_goes() -> None:
    """The router cannot tell it from the others of its input."""
    share = Share(pool="t4", tensor_parallel=1, share=1.0)
    buckets = (
        PlannedBucket(input_tokens=1000, output_tokens=100, rate=3.0, shares=(share,)),
        PlannedBucket(input_tokens=1000, output_tokens=90_000, rate=0.1, shares=()),
        PlannedBucket(input_tokens=90_000, output_tokens=100, rate=0.1, shares=()),
    )
    made = plan(1, assignment=(PlannedAssignment(model="team/chat", buckets=buckets),))
    (chat,) = models_of(model()).values()
    sizes = routing_table(chat, (L4, T4), (), made)["spec"]["sizes"]
    assert [size["shares"] for size in sizes] == [[0.0, 1.0], [0.0, 1.0], [0.75, 0.25]]


def test_leaving_groups_stay_listed_without_a_share() -> None:
    spec = table([("l4", 1.0)], L4, leaving=("old-1", "old-2"))
    assert [one["service"] for one in spec["backends"]] == [L4.name, "old-1", "old-2"]
    assert spec["sizes"][0]["shares"] == [1.0, 0.0, 0.0]


def test_a_model_with_nothing_running_still_has_its_table() -> None:
    """So that its name is known, and the answer is 503 and not 404."""
    spec = table([("l4", 1.0)])
    assert (spec["servedName"], spec["backends"], spec["sizes"]) == ("chat", [], [])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=2))
def test_shares_sum_to_one_whatever_the_plan_left_out(shares: list[float]) -> None:
    (size,) = table([("l4", shares[0]), ("t4", shares[1])], L4, T4)["sizes"]
    assert sum(size["shares"]) == pytest.approx(1, abs=1e-5) and min(size["shares"]) >= 0


# Policies


def test_engines_admit_the_router_and_nobody_else() -> None:
    (chat,) = models_of(model()).values()
    policy, budget = model_objects(chat, Settings(namespace="serving", router_labels={"app": "router"}))
    (rule,) = policy["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "serving"}
    assert peer["podSelector"]["matchLabels"] == {"app": "router"}
    assert [port["port"] for port in rule["ports"]] == [8000]
    labels = group_of().template["metadata"]["labels"]
    for selector in (policy["spec"]["podSelector"]["matchLabels"], budget["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels.items(), "it selects the engines"
        assert not selector.items() <= job_of()["spec"]["template"]["metadata"]["labels"].items()


def test_scraping_is_let_in_where_it_is_asked_for() -> None:
    (chat,) = models_of(model()).values()
    policy, _ = model_objects(chat, Settings(scrape_namespaces=("monitoring",)))
    _, rule = policy["spec"]["ingress"]
    assert rule["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
