"""What the benchmarks of the control plane start from: a cluster with pools and fake nodes, Models for it, the operator
as a local process and what it says of itself."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config

from e2e.cluster import Cluster, fake_nodes
from e2e.stack import CHECKOUT
from e2e.waiting import wait_for
from motley_operator.kube import Kube

Json = dict[str, Any]

GPUS = ("L4", "A10G", "L40S", "A40", "A100-40GB", "A100-80GB", "H100", "H200", "B200", "MI300X")
NODES_PER_POOL = 20
SPARE_NODES = 4
"""Of each pool beyond what may be planned, so that nothing waits for a full pool to be repacked."""
REPLICAS = 5
SHAPES = (  # layers, hidden, heads, KV heads, head dimension, intermediate, vocabulary
    (16, 2048, 32, 8, 64, 8192, 128256),
    (28, 3072, 24, 8, 128, 8192, 128256),
    (32, 4096, 32, 8, 128, 14336, 128256),
    (28, 3584, 28, 4, 128, 18944, 152064),
    (48, 5120, 40, 8, 128, 13824, 152064),
    (64, 5120, 40, 8, 128, 27648, 152064),
    (80, 8192, 64, 8, 128, 28672, 128256),
)
SHAPE = ("layers", "hiddenSize", "attentionHeads", "kvHeads", "headDim", "intermediateSize", "vocabSize")


def pool(number: int) -> Json:
    return {
        "apiVersion": "motley.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": f"pool-{number}"},
        "spec": {
            "gpu": GPUS[number],
            "node": {"gpus": 8, "cpu": "128", "memory": "1024Gi"},
            "pricePerNodeHour": f"{6 + 7 * number}",
            "maxNodes": NODES_PER_POOL,
            "nodeSelector": {"motley.dev/pool": f"pool-{number}"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        },
    }


def model(name: str, number: int, replicas: int = REPLICAS) -> Json:
    """Each has sizes and targets of its own, so that no two share what was calculated."""
    sizes = [(200 + number, 150), (1000 + number, 250), (3000 + number, 400), (10000 + number, 500)]
    return {
        "apiVersion": "motley.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "source": {"uri": f"hf://bench/{name}"},
            "shape": dict(zip(SHAPE, SHAPES[number % len(SHAPES)], strict=True)),
            "contextLength": 16384,
            "slo": {"ttft": "2s", "ttftPerThousandInputTokens": "300ms", "tpot": f"{100 + number}ms"},
            "traffic": {
                "rate": "0.5",
                "sizes": [
                    {"inputTokens": i, "outputTokens": o, "weight": w}
                    for (i, o), w in zip(sizes, ("0.5", "0.3", "0.15", "0.05"), strict=True)
                ],
            },
            "scaling": {"minReplicas": replicas, "maxReplicas": replicas} if replicas > 1 else {},
        },
    }


@dataclass
class Operator:
    """A running operator process and what it says of itself."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def passes(self) -> tuple[int, float, float]:
        """How many there were, and the seconds that they and their solves took."""
        name = "motley_pass_duration_seconds"
        return (
            int(self.metric(f"{name}_count")),
            self.metric(f"{name}_sum"),
            self.metric("motley_solve_duration_seconds_sum"),
        )

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        assert found
        return int(found[1]) / 1024

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def answers(self) -> bool:
        assert self.process.poll() is None, self.tail()
        try:
            self.metric("motley_leader")
        except OSError:
            return False
        return True

    def await_pass(self, after: int, seconds: float = 180) -> tuple[int, float, float]:
        """The counters once there were more passes than `after`."""

        def over() -> tuple[int, float, float] | None:
            try:
                passes = self.passes()
            except OSError:
                return None
            return passes if passes[0] > after else None

        return wait_for(over, "a pass", seconds, self.tail, every=0.05)

    def await_quiet(self) -> None:
        """Until no pass has begun for a while: statuses and roll-outs are written."""
        last, since = -1, time.monotonic()

        def still() -> bool:
            nonlocal last, since
            count = self.passes()[0]
            if count != last:
                last, since = count, time.monotonic()
            return time.monotonic() - since > 6

        wait_for(still, "the operator to be quiet", 300, self.tail, every=0.5)


class Bench:
    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        configuration = client.Configuration()
        config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
        self.kube = Kube(client.ApiClient(configuration))
        self._started = 0

    @contextmanager
    def operator(self) -> Iterator[Operator]:
        self._started += 1
        port, log = 18080 + self._started % 50, self.folder / f"operator-{self._started}.log"
        settings = {
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "MOTLEY_METRICS_PORT": str(port),
            "MOTLEY_IDENTITY": f"bench-{self._started}",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "motley_operator"], env=os.environ | settings, stdout=output, stderr=output
            )
        found = Operator(process, port, log)
        try:
            yield found
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def deployments(self, names: str = "") -> list[Json]:
        found = self.kube.listed("Deployment", "default", "app.kubernetes.io/managed-by=motley")
        return [one for one in found if one["metadata"]["labels"]["motley.dev/model"].startswith(names)]

    def ready(self) -> int:
        """Replicas of all Models."""
        return sum(one.get("status", {}).get("readyReplicas", 0) for one in self.deployments())

    def delete_model(self, name: str) -> None:
        self.cluster.kubectl("delete", "model", name, "--wait=false")
        wait_for(lambda: not self.deployments(name), f"the Deployments of {name} to go", 120)


def prepare(bench: Bench) -> None:
    bench.cluster.kubectl("apply", "--server-side", "-f", str(CHECKOUT / "crds"))
    bench.cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    bench.cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "motley-system"}}])
    bench.cluster.apply([pool(number) for number in range(len(GPUS))])
    for number in range(len(GPUS)):
        labels = {"motley.dev/pool": f"pool-{number}"}
        count = NODES_PER_POOL + SPARE_NODES
        bench.cluster.apply(fake_nodes(f"pool-{number}", count, labels=labels, gpus=8, cpu="128", memory="1024Gi"))


def verdict(value: float, target: float, digits: int = 2) -> str:
    return f"{value:.{digits}f} (target < {target:g}: {'met' if value < target else 'MISSED'})"
