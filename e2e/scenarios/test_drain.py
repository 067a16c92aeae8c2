"""Replicas that leave, die or are replaced while clients ask. Their weights come from a bucket into one claim that they
share. The tests go from one state of the Model to the next, in order."""

import json
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_bucket import FakeBucket
from loopback import running

from e2e import inside, stack
from e2e.cluster import Cluster
from e2e.load import Load
from e2e.waiting import wait_for

NAMESPACE = "drain"
CACHE = Path("/var/lib/motley/drain-cache")
USER = 65532


@pytest.fixture(scope="module")
def bucket(motley: Cluster) -> Iterator[FakeBucket]:
    with running(FakeBucket(host=motley.host_address)) as server:
        files = (stack.MODELS / "tiny").iterdir()
        server.objects = {f"ships/{file.name}": file.read_bytes() for file in files}
        yield server


@pytest.fixture(scope="module")
def pair(motley: Cluster, bucket: FakeBucket) -> Iterator[str]:
    """Two replicas of one Model. The router's address."""
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir(parents=True)
    shutil.chown(CACHE, USER, USER)
    motley.kubectl("create", "namespace", NAMESPACE)
    motley.apply(
        [
            *stack.claimed_folder(NAMESPACE, "weights", CACHE),
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "bucket", "namespace": NAMESPACE},
                "stringData": {
                    "AWS_ENDPOINT_URL": bucket.url,
                    "AWS_DEFAULT_REGION": "local-1",
                    "AWS_ACCESS_KEY_ID": "key",
                    "AWS_SECRET_ACCESS_KEY": "secret",
                },
            },
            {
                "apiVersion": "motley.dev/v1alpha1",
                "kind": "Model",
                "metadata": {"name": "pair", "namespace": NAMESPACE},
                "spec": {
                    "source": {"uri": "s3://models/ships", "secretName": "bucket"},
                    "cache": {"persistentVolumeClaim": "weights"},
                    "contextLength": 512,
                    "slo": {"ttft": "10s", "tpot": "1s", "attainment": "0.9"},
                    "traffic": {"rate": "0.1", "sizes": [{"inputTokens": 100, "outputTokens": 50}]},
                    "placement": {"pools": ["cpu"]},
                    "scaling": {"minReplicas": 2},
                    "resources": {"cpu": "100m", "memory": "1Gi"},
                },
            },
        ]
    )
    stack.await_model(motley, "pair", NAMESPACE, seconds=420)
    yield stack.router_url(motley)
    motley.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")
    motley.kubectl("delete", "persistentvolume", f"{NAMESPACE}-weights", "--timeout=60s")
    shutil.rmtree(CACHE)


@pytest.fixture
def load(motley: Cluster, pair: str) -> Callable[[], Load]:
    return lambda: Load(pair, "pair", lambda: stack.state(motley, NAMESPACE))


def pods_of(cluster: Cluster) -> list[dict[str, Any]]:
    return stack.engine_pods(cluster, "pair", NAMESPACE)


def pod_named(cluster: Cluster, name: str) -> dict[str, Any] | None:
    text = cluster.kubectl("-n", NAMESPACE, "get", "pod", name, "--ignore-not-found", "-o", "json")
    return json.loads(text) if text else None


def patch(cluster: Cluster, spec: dict[str, Any]) -> None:
    cluster.kubectl("-n", NAMESPACE, "patch", "model", "pair", "--type=merge", "-p", json.dumps({"spec": spec}))


def served(address: str) -> float:
    """Requests that the engine has finished; -1 while it does not answer."""
    try:
        text = httpx.get(f"http://{address}:8000/metrics", trust_env=False).raise_for_status().text
    except httpx.HTTPError:
        return -1
    return sum(float(value) for value in re.findall(r"^vllm:request_success_total{.*} (\S+)$", text, re.MULTILINE))


def test_replicas_that_share_a_cache_download_the_weights_once(motley: Cluster, pair: str, bucket: FakeBucket) -> None:
    assert len(pods_of(motley)) == 2
    assert len(bucket.asked("GET", "/ships/model.safetensors")) == 1
    weights = [path.read_bytes() for path in CACHE.glob("*/model.safetensors")]
    assert weights == [(stack.MODELS / "tiny" / "model.safetensors").read_bytes()]


def test_no_request_that_had_not_begun_fails_when_an_engine_is_killed(
    motley: Cluster, load: Callable[[], Load], randomness: random.Random
) -> None:
    stack.await_model(motley, "pair", NAMESPACE)
    victim = randomness.choice(pods_of(motley))

    def told() -> bool:
        ready = stack.condition(stack.model(motley, "pair", NAMESPACE), "Ready")
        return (
            ready["reason"] == "EngineFailing" and "exit code 68: EngineDied: vLLM ended (signal 9)" in ready["message"]
        )

    with load() as clients:
        clients.await_more(8)
        inside.kill(victim, "vllm.entrypoints.openai.api_server")
        wait_for(told, "the Model to say why", 60, lambda: stack.state(motley, NAMESPACE))
        clients.await_more(8)
        began = time.monotonic()
        stack.await_model(motley, "pair", NAMESPACE)
        print(f"started again {time.monotonic() - began:.0f} s after the Model said so")
        wait_for(
            lambda: served(victim["status"]["podIP"]) > 1,
            "the restarted engine to take requests",
            60,
            lambda: stack.state(motley, NAMESPACE),
        )
    assert [outcome for outcome in clients.failures if not outcome.began] == []
    assert len(clients.failures) <= 2, "more than the streams that were at the killed engine"
    (container,) = (pod_named(motley, victim["metadata"]["name"]) or {})["status"]["containerStatuses"]
    assert container["restartCount"] == 1


def test_no_request_fails_when_a_replica_is_deleted(
    motley: Cluster, load: Callable[[], Load], randomness: random.Random
) -> None:
    stack.await_model(motley, "pair", NAMESPACE)
    victim = randomness.choice(pods_of(motley))["metadata"]["name"]
    with load() as clients:
        clients.await_more(8)
        began = time.monotonic()
        motley.kubectl("-n", NAMESPACE, "delete", "pod", victim, "--wait=false")
        wait_for(
            lambda: pod_named(motley, victim) is None,
            f"pod {victim} to be gone",
            stack.values()["engine"]["drainSeconds"] + 30,
            lambda: stack.state(motley, NAMESPACE),
        )
        print(f"drained in {time.monotonic() - began:.1f} s")
        clients.await_more(8)
    assert clients.failures == []
    # The replacement is on its way: taking it back, too, disturbs nobody, and one replica is left for what follows.
    patch(motley, {"scaling": {"minReplicas": 1}})
    wait_for(lambda: len(pods_of(motley)) == 1, "one replica", 60, lambda: stack.state(motley, NAMESPACE))


def test_a_changed_model_is_up_before_the_old_one_goes(motley: Cluster, load: Callable[[], Load]) -> None:
    stack.await_model(motley, "pair", NAMESPACE)
    (old,) = (pod["metadata"]["name"] for pod in pods_of(motley))

    def new_ready() -> bool:
        return any(
            pod["metadata"]["name"] != old and stack.condition(pod, "Ready").get("status") == "True"
            for pod in pods_of(motley)
        )

    def replaced() -> bool:
        """Fails where the old one is on its way out and the new one not yet in."""
        leaving = pod_named(motley, old)
        if leaving is None or "deletionTimestamp" in leaving["metadata"]:
            assert new_ready(), stack.state(motley, NAMESPACE)
        return leaving is None

    with load() as clients:
        clients.await_more(8)
        patch(motley, {"contextLength": 384})
        wait_for(replaced, f"pod {old} to be replaced", 300, lambda: stack.state(motley, NAMESPACE))
        clients.await_more(8)
    assert clients.failures == []
    (new,) = pods_of(motley)
    card = httpx.get(f"http://{new['status']['podIP']}:8000/v1/models", trust_env=False).json()
    assert card["data"][0]["max_model_len"] == 384
    stack.await_model(motley, "pair", NAMESPACE, seconds=60)


def test_a_deleted_model_is_not_found_any_more_and_its_pods_go(
    motley: Cluster, pair: str, load: Callable[[], Load]
) -> None:
    stack.await_model(motley, "pair", NAMESPACE)
    with load() as clients:
        clients.await_more(4)
        motley.kubectl("-n", NAMESPACE, "delete", "model", "pair", "--timeout=60s")
        wait_for(
            lambda: any("model_not_found" in outcome.trouble for outcome in clients.failures),
            "the router to forget the model",
            30,
            lambda: stack.state(motley, NAMESPACE),
        )
    odd = [outcome for outcome in clients.failures if not re.match("404 .*model_not_found", outcome.trouble)]
    assert odd == [], "requests that had been taken are finished, later ones are not found"
    answer = httpx.post(f"{pair}/v1/completions", json={"model": "pair", "prompt": "Hello"}, trust_env=False)
    assert answer.status_code == 404
    assert "pair" not in {model["id"] for model in httpx.get(f"{pair}/v1/models", trust_env=False).json()["data"]}
    wait_for(
        lambda: not motley.kubectl("-n", NAMESPACE, "get", "pods", "-o", "name"),
        "its pods to go",
        90,
        lambda: stack.state(motley, NAMESPACE),
    )
