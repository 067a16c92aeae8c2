"""Motley on an embedded cluster: images, chart, fake GPU nodes, the tiny model. What demo and tests share."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

from e2e.cluster import Cluster, ClusterError, fake_nodes
from e2e.cluster.console import step
from e2e.cluster.state import clusters_folder
from e2e.waiting import wait_for

CHECKOUT = Path(__file__).parents[1]
CHART = CHECKOUT / "charts" / "motley"
NAMESPACE = "motley-system"
RELEASE = "motley"
MODELS = Path("/var/lib/motley/models")
"""Where file:// sources of the examples lie on the node."""

FAKE_NODES = (
    ("l4", 8, "4", "16Gi"),
    ("a10g", 8, "4", "16Gi"),
    ("a100", 4, "24", "220Gi"),
    ("h100", 2, "16", "256Gi"),
)
"""(pool, nodes, CPU, memory) as examples/quickstart/pools.yaml has them."""


def values() -> dict[str, Any]:
    """Of the chart: images that were imported into the node, the engine's environment mounted from this machine."""

    def image(name: str) -> dict[str, str]:
        return {"repository": f"localhost/motley-{name}", "tag": "dev", "pullPolicy": "Never"}

    small = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
    environment = [sys.prefix, sys.base_prefix]
    return {
        "operator": {"image": image("operator"), "resources": small},
        "router": {"image": image("router"), "resources": small, "drainSeconds": 20},
        "engine": {
            "image": image("worker"),
            "python": sys.executable,
            "hostPaths": environment,
            "env": {"VLLM_CPU_KVCACHE_SPACE": "1"},
            "drainSeconds": 30,
        },
    }


def install(cluster: Cluster, *arguments: str) -> None:
    """`helm upgrade --install` of the checkout as it is now, its pods made anew from the images, and ready."""
    with step("images of operator, router and worker"):
        cluster.import_images()
    with step("helm upgrade --install motley"), tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values(), file)
        file.flush()
        known = ["--namespace", NAMESPACE, "--create-namespace", "--values", file.name]
        cluster.helm("upgrade", "--install", RELEASE, str(CHART), *known, *arguments)
    with step("operator and router ready"):
        for name in ("motley-operator", "motley-router"):
            cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=180s")


def restart(cluster: Cluster) -> None:
    """New pods of operator and router, after their images changed under the same tag."""
    for name in ("motley-operator", "motley-router"):
        cluster.kubectl("-n", NAMESPACE, "rollout", "restart", f"deployment/{name}")
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=180s")


def make_fake_nodes(cluster: Cluster) -> None:
    for pool, count, cpu, memory in FAKE_NODES:
        cluster.apply(fake_nodes(pool, count, labels={"motley.dev/pool": pool}, cpu=cpu, memory=memory))


def make_tiny_model() -> Path:
    """On this machine's disk, which is the real node's."""
    subprocess.run([sys.executable, "-m", "e2e.tiny_model", str(MODELS / "tiny")], cwd=CHECKOUT, check=True)
    return MODELS / "tiny"


def remove_tiny_model() -> None:
    """With the last cluster: the others may serve it."""
    if any(clusters_folder().iterdir()):
        return
    shutil.rmtree(MODELS / "tiny", ignore_errors=True)
    for folder in (MODELS, MODELS.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def router_url(cluster: Cluster) -> str:
    """The router's Service, by its cluster address, which this machine reaches."""
    address = cluster.kubectl("-n", NAMESPACE, "get", "service", "motley-router", "-o", "jsonpath={.spec.clusterIP}")
    return f"http://{address}"


class Kubectl(Protocol):
    def kubectl(self, *arguments: str, input: str | None = None) -> str: ...


def claimed_folder(namespace: str, name: str, folder: Path) -> list[dict[str, Any]]:
    """A folder of the real node as a PersistentVolume, and the claim that is bound to it."""
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = f"{namespace}-{name}"
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **common,
                "capacity": {"storage": "1Gi"},
                "hostPath": {"path": str(folder), "type": "Directory"},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {**common, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}},
        },
    ]


def objects(cluster: Kubectl, kind: str, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", kind, "-A", "-o", "json", *arguments))["items"]
    return found


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = obj.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def model(cluster: Kubectl, name: str, namespace: str = "default") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("-n", namespace, "get", "model", name, "-o", "json"))
    return found


def engine_pods(cluster: Kubectl, model: str, namespace: str = "default") -> list[dict[str, Any]]:
    return _staying(cluster, namespace, f"motley.dev/component=engine,motley.dev/model={model}")


def router_pods(cluster: Kubectl) -> list[str]:
    """Addresses of every single router, for their metrics."""
    pods = _staying(cluster, NAMESPACE, "app.kubernetes.io/name=motley-router")
    return [f"http://{pod['status']['podIP']}:8000" for pod in pods if condition(pod, "Ready").get("status") == "True"]


def _staying(cluster: Kubectl, namespace: str, selector: str) -> list[dict[str, Any]]:
    """Pods that are not on their way out."""
    pods = json.loads(cluster.kubectl("-n", namespace, "get", "pods", "-l", selector, "-o", "json"))["items"]
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def await_model(cluster: Kubectl, name: str, namespace: str = "default", seconds: float = 300) -> dict[str, Any]:
    """The Model once it is Ready; fails with its state."""

    def ready() -> dict[str, Any] | None:
        found = model(cluster, name, namespace)
        generation = found["metadata"]["generation"]
        condition_ = condition(found, "Ready")
        is_ready = condition_.get("status") == "True" and condition_.get("observedGeneration") == generation
        return found if is_ready else None

    return wait_for(ready, f"Model {namespace}/{name} to be ready", seconds, lambda: state(cluster, namespace), every=1)


def state(cluster: Kubectl, namespace: str = "default") -> str:
    """What a person would look at first, for messages of failure."""
    parts = []
    for arguments in (
        ("get", "models,gpupools,plans,deployments,jobs", "-A"),
        ("get", "pods", "-A", "-o", "wide"),
        (
            "-n",
            namespace,
            "get",
            "models",
            "-o",
            "jsonpath={range .items[*]}{.metadata.name}: {.status.conditions}{'\\n'}{end}",
        ),
        ("-n", NAMESPACE, "logs", "-l", "app.kubernetes.io/name=motley-operator", "--tail=15", "--prefix"),
    ):
        try:
            parts.append(cluster.kubectl(*arguments))
        except ClusterError as error:
            parts.append(str(error))
    return "\n\n".join(parts)
