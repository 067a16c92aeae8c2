"""Replicas that leave, die or are replaced while clients ask. Their weights come from a bucket into one claim that they
share. The tests go from one state of the Model to the next, in order."""

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
from e2e.api import Api
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
def served_pair(motley: Cluster, bucket: FakeBucket) -> Iterator[str]:
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


class Pair:
    """The Model as the API server has it."""

    def __init__(self, cluster: Cluster, api: Api, router: str) -> None:
        self._cluster, self._api, self.router = cluster, api, router

    @property
    def pods(self) -> list[dict[str, Any]]:
        """Those that stay."""
        return [pod for pod in self.pods_and_leaving if "deletionTimestamp" not in pod["metadata"]]

    @property
    def pods_and_leaving(self) -> list[dict[str, Any]]:
        return self._api.list("Pod", NAMESPACE, "motley.dev/component=engine")

    def pod(self, name: str) -> dict[str, Any] | None:
        return self._api.get("Pod", name, NAMESPACE)

    def condition(self) -> dict[str, Any]:
        return stack.condition(self._api.get("Model", "pair", NAMESPACE) or {}, "Ready")

    def patch(self, spec: dict[str, Any]) -> None:
        self._api.patch("Model", "pair", {"spec": spec}, NAMESPACE)

    def delete(self, kind: str, name: str) -> None:
        self._api.delete(kind, name, NAMESPACE)

    def await_ready(self, seconds: float = 300) -> None:
        stack.await_model(self._cluster, "pair", NAMESPACE, seconds)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        wait_for(condition, what, seconds, self.state)

    def state(self) -> str:
        return stack.state(self._cluster, NAMESPACE)

    def load(self, clients: int = 4) -> Load:
        return Load(self.router, "pair", self.state, clients)


@pytest.fixture
def pair(served_pair: str, motley: Cluster, api: Api) -> Pair:
    return Pair(motley, api, served_pair)


def restarts(pod: dict[str, Any]) -> int:
    (container,) = pod["status"]["containerStatuses"]
    return int(container["restartCount"])


def served(address: str) -> float:
    """Requests that the engine has finished; -1 while it does not answer."""
    try:
        text = httpx.get(f"http://{address}:8000/metrics", trust_env=False).raise_for_status().text
    except httpx.HTTPError:
        return -1
    return sum(float(value) for value in re.findall(r"^vllm:request_success_total{.*} (\S+)$", text, re.MULTILINE))


def test_replicas_that_share_a_cache_download_the_weights_once(pair: Pair, bucket: FakeBucket) -> None:
    assert len(pair.pods) == 2
    assert len(bucket.asked("GET", "/ships/model.safetensors")) == 1
    weights = [path.read_bytes() for path in CACHE.glob("*/model.safetensors")]
    assert weights == [(stack.MODELS / "tiny" / "model.safetensors").read_bytes()]


def test_no_request_that_had_not_begun_fails_when_an_engine_is_killed(pair: Pair, randomness: random.Random) -> None:
    pair.await_ready()
    victim = randomness.choice(pair.pods)
    before = restarts(victim)

    def told() -> bool:
        ready = pair.condition()
        why = "exit code 68: EngineDied: vLLM ended (signal 9): killed from outside"
        return ready["reason"] == "EngineFailing" and why in ready["message"]

    with pair.load() as clients:
        clients.await_more(8)
        inside.kill(victim, "vllm.entrypoints.openai.api_server")
        pair.wait(told, "the Model to say why", 60)
        clients.await_more(8)
        began = time.monotonic()
        pair.await_ready()
        print(f"started again {time.monotonic() - began:.0f} s after the Model said so")
        pair.wait(lambda: served(victim["status"]["podIP"]) > 1, "the restarted engine to take requests", 60)
    assert [outcome for outcome in clients.failures if not outcome.began] == []
    assert len(clients.failures) <= 2, "more than the streams that were at the killed engine"
    assert restarts(pair.pod(victim["metadata"]["name"]) or {}) == before + 1


def test_no_request_fails_when_a_replica_is_deleted(pair: Pair, randomness: random.Random) -> None:
    pair.await_ready()
    victim = randomness.choice(pair.pods)["metadata"]["name"]
    with pair.load() as clients:
        clients.await_more(8)
        began = time.monotonic()
        pair.delete("Pod", victim)
        longest = stack.values()["engine"]["drainSeconds"] + 30
        pair.wait(lambda: pair.pod(victim) is None, f"pod {victim} to be gone", longest)
        print(f"drained in {time.monotonic() - began:.1f} s")
        clients.await_more(8)
    assert clients.failures == []
    # The replacement is on its way: taking it back disturbs nobody, and one replica is left for what follows.
    pair.patch({"scaling": {"minReplicas": 1}})
    pair.wait(lambda: len(pair.pods) == 1, "one replica", 60)


def test_a_changed_model_is_up_before_the_old_one_goes(pair: Pair) -> None:
    pair.await_ready()
    old = {pod["metadata"]["name"] for pod in pair.pods}

    def new_ready() -> bool:
        others = (pod for pod in pair.pods if pod["metadata"]["name"] not in old)
        return any(stack.condition(pod, "Ready").get("status") == "True" for pod in others)

    def replaced() -> bool:
        """Fails where an old one is on its way out and the new one not yet in."""
        staying = old & {pod["metadata"]["name"] for pod in pair.pods}
        if staying != old:
            assert new_ready(), pair.state()
        return not old & {pod["metadata"]["name"] for pod in pair.pods_and_leaving}

    with pair.load(clients=2) as clients:
        clients.await_more(4)
        pair.patch({"contextLength": 384, "scaling": {"minReplicas": 1}})
        pair.wait(replaced, f"{', '.join(old)} to be replaced", 420)
        clients.await_more(8)
    assert clients.failures == []
    (new,) = pair.pods
    card = httpx.get(f"http://{new['status']['podIP']}:8000/v1/models", trust_env=False).json()
    assert card["data"][0]["max_model_len"] == 384
    pair.await_ready(60)


def test_a_deleted_model_is_not_found_any_more_and_its_pods_go(pair: Pair) -> None:
    pair.await_ready()
    with pair.load() as clients:
        clients.await_more(4)
        pair.delete("Model", "pair")
        pair.wait(
            lambda: any("model_not_found" in outcome.trouble for outcome in clients.failures),
            "the router to forget the Model",
            30,
        )
    # Kubernetes removes what a Model owns in no promised order: its endpoints may be gone a moment before its table.
    refusals = "404 .*model_not_found|503 .*no_ready_endpoint"
    odd = [outcome for outcome in clients.failures if not re.match(refusals, outcome.trouble)]
    assert odd == [], "requests that had been taken are finished, later ones are refused"
    answer = httpx.post(f"{pair.router}/v1/completions", json={"model": "pair", "prompt": "Hello"}, trust_env=False)
    assert answer.status_code == 404
    listed = httpx.get(f"{pair.router}/v1/models", trust_env=False).json()["data"]
    assert "pair" not in {model["id"] for model in listed}
    pair.wait(lambda: not pair.pods_and_leaving, "its pods to go", 90)
