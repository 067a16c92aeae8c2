"""The quickstart's tiny Model, through the router as a client's program sees it, and the pod that serves it."""

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import openai
import pytest

from e2e import inside, stack
from e2e.cluster import Cluster
from e2e.waiting import wait_for

GREEDY = {"model": "tiny", "prompt": "The captain looks at the map", "temperature": 0, "max_tokens": 32}


@pytest.fixture
def client(tiny: str) -> Iterator[openai.OpenAI]:
    with (
        openai.DefaultHttpxClient(timeout=120, trust_env=False) as http,
        openai.OpenAI(base_url=f"{tiny}/v1", api_key="none", max_retries=0, http_client=http) as found,
    ):
        yield found


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=120, trust_env=False) as found:
        yield found


@pytest.fixture
def pod(motley: Cluster, tiny: str) -> dict[str, Any]:
    (found,) = stack.engine_pods(motley, "tiny")
    return found


def samples(text: str, name: str) -> list[float]:
    """Values of a Prometheus metric, over all labels."""
    return [float(value) for value in re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", text, re.MULTILINE)]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text))


def test_a_model_is_ready_only_after_its_engine_generated_a_token(motley: Cluster, pod: dict[str, Any]) -> None:
    lines = motley.kubectl("-n", "default", "logs", pod["metadata"]["name"], "--timestamps").splitlines()
    (token, *_) = (instant(line.split()[0]) for line in lines if "POST /v1/completions" in line and "200" in line)
    pod_ready = instant(stack.condition(pod, "Ready")["lastTransitionTime"])
    model = stack.model(motley, "tiny")
    model_ready = instant(stack.condition(model, "Ready")["lastTransitionTime"])
    assert token.replace(microsecond=0) <= pod_ready <= model_ready


def test_the_shape_was_read_by_a_job_where_the_weights_are(motley: Cluster, tiny: str) -> None:
    model = stack.model(motley, "tiny")
    assert "shape" not in model["spec"]
    config = json.loads((stack.MODELS / "tiny" / "config.json").read_text())
    shape = model["status"]["shape"]
    assert (shape["layers"], shape["hiddenSize"]) == (config["num_hidden_layers"], config["hidden_size"])
    assert model["status"]["shapeSource"] == model["spec"]["source"]["uri"]


def test_the_columns_say_where_it_runs_and_what_it_costs(motley: Cluster, tiny: str) -> None:
    head, *rows = motley.kubectl("-n", "default", "get", "models").splitlines()
    assert head.split() == [
        "NAME",
        "READY",
        "REASON",
        "REPLICAS",
        "DESIRED",
        "ON",
        "COST/H",
        "SLO-MET",
        "PREDICTED",
        "AGE",
    ]
    (row,) = (row for row in rows if row.startswith("tiny "))
    assert row.split()[1:6] == ["True", "Ready", "1", "1", "1×CPU"]
    assert float(row.split()[6]) > 0, "its share of the node"


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert {"tiny", "chat"} <= {model.id for model in client.models.list()}


def test_a_chat_completion_is_streamed_while_it_is_made(
    client: openai.OpenAI, http: httpx.Client, pod: dict[str, Any]
) -> None:
    stream = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "Hello, how are you today?"}],
        max_tokens=400,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    next(stream)
    metrics = http.get(f"http://{pod['status']['podIP']}:8000/metrics").text
    assert sum(samples(metrics, "vllm:num_requests_running")) == 1, "the first chunk came when all was made"
    chunks = list(stream)
    assert len(chunks) > 50
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 400


def test_a_chat_completion_is_answered_whole_with_its_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "Which ships are fast?"}],
        max_tokens=16,
        extra_body={"ignore_eos": True},
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 16 and answer.usage.prompt_tokens > 5


def test_greedy_output_through_the_router_is_the_engines_own(
    client: openai.OpenAI, http: httpx.Client, pod: dict[str, Any]
) -> None:
    direct = http.post(f"http://{pod['status']['podIP']}:8000/v1/completions", json=GREEDY).json()
    routed = client.completions.create(**GREEDY)  # type: ignore[call-overload]
    assert routed.choices[0].text == direct["choices"][0]["text"] != ""
    assert routed.usage.to_dict() == direct["usage"]


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="`nobody` does not exist") as caught:
        client.completions.create(model="nobody", prompt="Hello")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"prompt": "Hello"}', b'{"model": "tiny", "prompt": 7}'])
def test_a_bad_body_is_refused_in_openais_shape(tiny: str, http: httpx.Client, body: bytes) -> None:
    answer = http.post(f"{tiny}/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert {"message", "type", "param", "code"} <= answer.json()["error"].keys()
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/load_lora_adapter", "/health", "/v1/models/"])
def test_what_is_not_offered_is_not_found(tiny: str, http: httpx.Client, path: str) -> None:
    answer = http.post(tiny + path, json={"model": "tiny", "input": "Hello"})
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_router_and_engine_count_what_was_served(
    motley: Cluster, client: openai.OpenAI, http: httpx.Client, pod: dict[str, Any]
) -> None:
    def served() -> tuple[float, float]:
        texts = [http.get(f"{url}/metrics").text for url in stack.router_pods(motley)]
        line = 'motley_router_requests_total{code="200",model="default/tiny"}'
        engine = http.get(f"http://{pod['status']['podIP']}:8000/metrics").text
        router = sum(float(row.split()[-1]) for text in texts for row in text.splitlines() if row.startswith(line))
        return router, sum(samples(engine, "vllm:request_success_total"))

    before = served()
    client.completions.create(model="tiny", prompt="Hello", max_tokens=4)
    wait_for(
        lambda: served() == (before[0] + 1, before[1] + 1),
        "one more request in the metrics of router and engine",
        20,
        lambda: f"{before} → {served()}",
    )


def test_after_traffic_the_model_says_whether_its_slo_is_met(motley: Cluster, client: openai.OpenAI) -> None:
    for _ in range(3):
        client.completions.create(model="tiny", prompt="Hello", max_tokens=8)
    began = time.time()

    def told() -> dict[str, Any] | None:
        found = stack.condition(stack.model(motley, "tiny"), "SLOMet")
        return found if found.get("status") in ("True", "False") else None

    found = wait_for(told, "SLOMet to be known", 90, lambda: stack.state(motley))
    print(f"known after {time.time() - began:.0f} s: {found['message']}")
    match = re.fullmatch(r"([\d.]+)% of about (\d+) requests attained it, the target is ([\d.]+)%", found["message"])
    assert match, found["message"]
    assert int(match[2]) >= 3
    assert (float(match[1]) >= float(match[3])) == (found["status"] == "True")


def test_the_engine_runs_without_rights(pod: dict[str, Any]) -> None:
    pid = inside.process(pod, "vllm.entrypoints.openai.api_server")
    status = inside.status(pid)
    assert status["Uid"] == ["65532"] * 4
    assert status["Gid"] == ["65532"] * 4
    assert {int(status[name][0], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"], "a filter"
    mounts = inside.mount_options(pid)
    assert "ro" in mounts["/"]
    assert "ro" in mounts[str(stack.MODELS / "tiny")]
    assert not [path for path in mounts if path.startswith(("/var/run/secrets", "/run/secrets"))]


def test_the_engine_is_given_time_to_drain(motley: Cluster, pod: dict[str, Any]) -> None:
    drain = stack.values()["engine"]["drainSeconds"]
    (engine,) = pod["spec"]["containers"]
    (config,) = (json.loads(env["value"]) for env in engine["env"] if env["name"] == "MOTLEY_WORKER_CONFIG")
    assert config["drainSeconds"] == drain
    assert pod["spec"]["terminationGracePeriodSeconds"] > drain + engine["lifecycle"]["preStop"]["sleep"]["seconds"]
