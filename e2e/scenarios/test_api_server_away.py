"""The API server away for a while: the operator waits, and goes on by itself."""

import time
from typing import Any

import httpx

from e2e import made, operators, stack
from e2e.api import Api
from e2e.cluster import Cluster
from e2e.waiting import wait_for

SAMPLE_SECONDS, SOAK_SECONDS = 10, 30


def test_the_operator_goes_on_by_itself_after_the_api_server_was_away(
    motley: Cluster, api: Api, make_pool: Any, namespace: str, soak: bool
) -> None:
    make_pool("away")
    motley.apply([made.model("before", namespace, ["away"])])
    stack.await_model(motley, "before", namespace, 90)
    pods, restarts = operators.ready(api), operators.restarts(api)
    before = api.list("Deployment", namespace)

    motley.kill("kube-apiserver")
    try:
        until = time.monotonic() + (SOAK_SECONDS if soak else SAMPLE_SECONDS)
        while time.monotonic() < until:
            for pod in pods:  # alive all the time, as its probes ask
                assert httpx.get(f"http://{pod['status']['podIP']}:8080/healthz", trust_env=False).status_code == 200
            time.sleep(1)
    finally:
        motley.start("kube-apiserver")

    motley.apply([made.model("after", namespace, ["away"])])
    wait_for(
        lambda: api.list("Deployment", namespace, "motley.dev/model=after"),
        "a Deployment for the Model made afterwards",
        20,
        lambda: stack.state(motley, namespace),
    )
    assert operators.restarts(api) == restarts
    after = {one["metadata"]["name"]: one for one in api.list("Deployment", namespace)}
    for one in before:
        assert after[one["metadata"]["name"]]["metadata"]["generation"] == one["metadata"]["generation"]
    wait_for(
        lambda: sum(operators.metrics(pod)["motley_leader"] for pod in pods) == 1,
        "one of the operators to act",
        30,
        lambda: stack.state(motley, namespace),
    )
