"""Two operators, one acts: when it falls silent the other takes over, and what comes back late writes nothing."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e import inside, made, operators, stack
from e2e.api import Api
from e2e.cluster import Cluster
from e2e.waiting import wait_for

TAKEOVER_SECONDS = 20.0


@pytest.fixture
def two(motley: Cluster, api: Api) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The operator pod that acts, and the other one. Two are there again after the scenario."""

    def both() -> tuple[dict[str, Any], dict[str, Any]] | None:
        pods, holder = operators.ready(api), operators.lease_holder(api)
        acting = [pod for pod in pods if pod["metadata"]["name"] == holder]
        return (acting[0], next(pod for pod in pods if pod not in acting)) if len(pods) == 2 and acting else None

    def found() -> tuple[dict[str, Any], dict[str, Any]]:
        return wait_for(both, "two operators, one with the Lease", 120, lambda: stack.state(motley))

    yield found()
    found()


def act(cluster: Cluster, api: Api, namespace: str, name: str, seconds: float) -> None:
    """A Model becomes a Deployment: somebody acts."""
    cluster.apply([made.model(name, namespace, ["lead"])])
    wait_for(
        lambda: api.list("Deployment", namespace, f"motley.dev/model={name}"),
        f"a Deployment for Model {name}",
        seconds,
        lambda: stack.state(cluster, namespace),
    )


def leaders(pods: list[dict[str, Any]]) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods if operators.metrics(pod)["motley_leader"]]


def test_one_of_two_operators_holds_the_lease_and_acts(
    motley: Cluster, api: Api, make_pool: Any, namespace: str, two: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    make_pool("lead")
    act(motley, api, namespace, "first", 30)
    assert leaders(list(two)) == [two[0]["metadata"]["name"]]
    passes = [operators.metrics(pod)["motley_pass_duration_seconds_count"] for pod in two]
    act(motley, api, namespace, "second", 30)

    def counted() -> list[float] | None:
        """A pass is counted when it is over, a little after the Deployment that it makes."""
        more = [operators.metrics(pod)["motley_pass_duration_seconds_count"] for pod in two]
        return more if more[0] > passes[0] else None

    more = wait_for(counted, "the leader's pass to be counted", 30, lambda: stack.state(motley))
    assert more[1] == passes[1], "the other one made no pass"


def test_a_leader_that_freezes_is_replaced_and_writes_nothing_when_it_thaws(
    motley: Cluster, api: Api, make_pool: Any, namespace: str, two: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    make_pool("lead")
    acting, waiting = two
    process = inside.process(acting, "motley_operator")
    os.kill(process, signal.SIGSTOP)
    began = time.monotonic()
    try:
        motley.apply([made.model("frozen", namespace, ["lead"])])
        wait_for(
            lambda: operators.lease_holder(api) == waiting["metadata"]["name"],
            "the other operator to hold the Lease",
            60,
            lambda: stack.state(motley),
        )
        took = time.monotonic() - began
        act(motley, api, namespace, "frozen", 30)
    finally:
        os.kill(process, signal.SIGCONT)
    assert took < TAKEOVER_SECONDS, f"the other operator took over after {took:.1f} s"
    act(motley, api, namespace, "thawed", 30)
    assert leaders([acting, waiting]) == [waiting["metadata"]["name"]]
    assert operators.lease_holder(api) == waiting["metadata"]["name"]


def test_a_killed_leader_is_replaced(
    motley: Cluster, api: Api, make_pool: Any, namespace: str, two: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    make_pool("lead")
    acting, _ = two
    name = acting["metadata"]["name"]
    inside.kill(acting, "motley_operator")
    api.delete("Pod", name, stack.NAMESPACE, gracePeriodSeconds="0")
    began = time.monotonic()
    motley.apply([made.model("killed", namespace, ["lead"])])
    wait_for(
        lambda: operators.lease_holder(api) not in (name, ""),
        "another operator to hold the Lease",
        60,
        lambda: stack.state(motley),
    )
    took = time.monotonic() - began
    act(motley, api, namespace, "killed", 30)
    assert took < TAKEOVER_SECONDS, f"another operator took over after {took:.1f} s"


@pytest.mark.usefixtures("two")
def test_a_deleted_lease_is_made_anew(motley: Cluster, api: Api, make_pool: Any, namespace: str) -> None:
    make_pool("lead")
    api.delete("Lease", "motley-operator", stack.NAMESPACE)
    wait_for(lambda: operators.lease_holder(api), "a holder of the Lease", 30, lambda: stack.state(motley))
    act(motley, api, namespace, "anew", 30)
    assert len(leaders(operators.ready(api))) == 1
