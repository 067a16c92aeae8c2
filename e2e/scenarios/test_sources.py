"""Where weights may come from, as far as the inspection Job, which reads a model's config.json there: hub and bucket
(small servers on this machine), a claim, a folder of the node. These Models ask for no replica; engines that start from
a folder and from a bucket are in test_serving and test_drain."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_bucket import FakeBucket
from fake_hub import FakeHub
from loopback import running

from e2e import stack
from e2e.cluster import Cluster
from e2e.waiting import wait_for

NAMESPACE = "sources"
TOKEN = "hf_fleet"

READ = {
    "hub": {"uri": "hf://fleet/tiny", "secretName": "hub"},
    "hub-revision": {"uri": "hf://fleet/tiny", "secretName": "hub", "revision": "main"},
    "bucket": {"uri": "s3://models/ships/tiny", "secretName": "bucket"},
    "claim": {"uri": "pvc://weights/tiny"},
}
NOT_READ = {
    "no-token": ({"uri": "hf://fleet/tiny", "secretName": "hub-address"}, ["refused (401)", "HF_TOKEN"]),
    "no-repository": ({"uri": "hf://fleet/absent", "secretName": "hub"}, ["hf://fleet/absent: not found"]),
    "no-revision": (
        {"uri": "hf://fleet/tiny", "secretName": "hub", "revision": "v9"},
        ["no revision 'v9'"],
    ),
    "no-key": (
        {"uri": "s3://models/ships/tiny", "secretName": "bucket-address"},
        ["no credentials", "AWS_ACCESS_KEY_ID"],
    ),
    "no-bucket": ({"uri": "s3://absent/tiny", "secretName": "bucket"}, ["s3://absent/tiny: not found"]),
    "no-prefix": ({"uri": "s3://models/absent", "secretName": "bucket"}, ["s3://models/absent", "config.json"]),
    "no-claim": ({"uri": "pvc://absent/tiny"}, ["cannot start", 'persistentvolumeclaim "absent" not found']),
    "no-folder": ({"uri": "pvc://weights/absent"}, ["pvc://weights/absent", "No such file or directory"]),
    "no-secret": ({"uri": "hf://fleet/tiny", "secretName": "absent"}, ["cannot start", 'secret "absent" not found']),
}


@pytest.fixture(scope="module")
def servers(motley: Cluster) -> Iterator[tuple[FakeHub, FakeBucket]]:
    files = {file.name: file.read_bytes() for file in (stack.MODELS / "tiny").iterdir()}
    with running(FakeHub(motley.host_address)) as hub, running(FakeBucket(host=motley.host_address)) as bucket:
        hub.token = TOKEN
        hub.repositories["fleet/tiny"] = files
        bucket.objects = {f"ships/tiny/{name}": body for name, body in files.items()}
        yield hub, bucket


@pytest.fixture(scope="module")
def sources(motley: Cluster, servers: tuple[FakeHub, FakeBucket]) -> Iterator[Cluster]:
    """A Model for every source, all at once."""
    hub, bucket = servers
    aws = {"AWS_ENDPOINT_URL": bucket.url, "AWS_DEFAULT_REGION": "local-1"}
    motley.kubectl("create", "namespace", NAMESPACE)
    motley.apply(
        [
            *stack.claimed_folder(NAMESPACE, "weights", stack.MODELS),
            secret("hub", HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN),
            secret("hub-address", HF_ENDPOINT=hub.url),
            secret("bucket", **aws, AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret"),
            secret("bucket-address", **aws, AWS_EC2_METADATA_DISABLED="true"),
            *(model(name, source) for name, source in READ.items()),
            *(model(name, source) for name, (source, _) in NOT_READ.items()),
        ]
    )
    yield motley
    motley.kubectl("delete", "models", "--all", "-n", NAMESPACE, "--timeout=60s")
    motley.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")
    motley.kubectl("delete", "persistentvolume", f"{NAMESPACE}-weights", "--timeout=60s")


def secret(name: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def model(name: str, source: dict[str, str], namespace: str = NAMESPACE) -> dict[str, Any]:
    return {
        "apiVersion": "motley.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "source": source,
            "servedName": f"{namespace}-{name}",
            "contextLength": 512,
            "slo": {"ttft": "10s", "tpot": "1s", "attainment": "0.9"},
            "traffic": {"rate": "0", "sizes": [{"inputTokens": 100, "outputTokens": 50}]},
            "placement": {"pools": ["cpu"]},
            "scaling": {"minReplicas": 0},
        },
    }


def shape_read(cluster: Cluster, name: str, seconds: float) -> dict[str, Any]:
    return wait_for(
        lambda: stack.model(cluster, name, NAMESPACE).get("status", {}).get("shape"),
        f"the shape of Model {name}",
        seconds,
        lambda: stack.state(cluster, NAMESPACE),
    )


@pytest.mark.parametrize("name", READ)
def test_the_shape_is_read(sources: Cluster, name: str) -> None:
    found = shape_read(sources, name, 90)
    config = json.loads((stack.MODELS / "tiny" / "config.json").read_text())
    assert (found["layers"], found["hiddenSize"]) == (config["num_hidden_layers"], config["hidden_size"])
    assert (found["kvHeads"], found["vocabSize"]) == (config["num_key_value_heads"], config["vocab_size"])


@pytest.mark.parametrize("name", NOT_READ)
def test_what_cannot_be_read_is_said_with_what_to_do(sources: Cluster, name: str) -> None:
    def told() -> str | None:
        found = stack.condition(stack.model(sources, name, NAMESPACE), "Accepted")
        said = found.get("status") == "False" and found["reason"] == "InspectionFailed"
        return found["message"] if said else None

    message = wait_for(told, f"Model {name} to say why", 120, lambda: stack.state(sources, NAMESPACE))
    assert "mend spec.source, or give spec.shape" in message
    for words in NOT_READ[name][1]:
        assert words in message


def test_a_mended_source_is_read_at_once(sources: Cluster) -> None:
    mended = json.dumps({"spec": {"source": {"secretName": "hub"}}})
    sources.kubectl("-n", NAMESPACE, "patch", "model", "no-token", "--type=merge", "-p", mended)
    assert shape_read(sources, "no-token", 40)


def test_an_inspection_downloads_one_small_file(sources: Cluster, servers: tuple[FakeHub, FakeBucket]) -> None:
    hub, bucket = servers
    assert hub.asked("GET", "config.json") and bucket.asked("GET", "config.json")
    assert not hub.asked("GET", "model.safetensors") and not bucket.asked("GET", "model.safetensors")


def test_a_folder_that_the_fleet_does_not_allow_is_never_mounted(motley: Cluster, namespace: str) -> None:
    motley.apply([model("nosy", {"uri": "file:///etc"}, namespace)])

    def refused() -> str | None:
        found = stack.condition(stack.model(motley, "nosy", namespace), "Accepted")
        return found["message"] if found.get("reason") == "HostPathNotAllowed" else None

    message = wait_for(refused, "HostPathNotAllowed", 30, lambda: stack.state(motley, namespace))
    assert "/etc" in message and "allowedHostPaths" in message
    assert not motley.kubectl("-n", namespace, "get", "pods,jobs,deployments", "-o", "name")
