"""The operator against a real API server: how soon a Model has Deployments, what a pass and idling cost.

    python bench/control_plane.py [--only latency|passes] [--keep]

An embedded cluster of its own (control plane, fake nodes) and the operator as a local process, all on this machine."""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

CHECKOUT = Path(__file__).parents[1]
sys.path.insert(0, str(CHECKOUT))

from kubernetes import client, config  # noqa: E402

from e2e.cluster import Cluster, fake_nodes  # noqa: E402
from e2e.cluster.programs import KUBERNETES  # noqa: E402
from e2e.waiting import wait_for  # noqa: E402
from motley_operator.kube import Kube  # noqa: E402

Json = dict[str, Any]

GPUS = ("L4", "A10G", "L40S", "A40", "A100-40GB", "A100-80GB", "H100", "H200", "B200", "MI300X")
NODES_PER_POOL = 20
REPLICAS = 5
FLEETS = (10, 30, 100)
LATENCIES = 20
WARM_PASSES = 10
IDLE_SECONDS = 60
TARGETS = {"latency": 2.0, "pass": 3.0, "memory": 400.0, "idle": 2.0}
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

    def alive(self) -> bool:
        return self.process.poll() is None


class Bench:
    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        configuration = client.Configuration()
        config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
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

    def await_pass(self, operator: Operator, after: int, seconds: float = 180) -> tuple[int, float, float]:
        """The counters once there were more passes than `after`."""

        def over() -> tuple[int, float, float] | None:
            try:
                passes = operator.passes()
            except OSError:
                return None
            return passes if passes[0] > after else None

        return wait_for(over, "a pass", seconds, lambda: tail(operator), every=0.05)

    def deployments(self, names: str = "") -> list[Json]:
        found = self.kube.listed("Deployment", "default", "app.kubernetes.io/managed-by=motley")
        return [one for one in found if one["metadata"]["labels"]["motley.dev/model"].startswith(names)]

    def settled(self, models: int) -> bool:
        """All replicas are ready, and no pass with news is under way."""
        ready = [one.get("status", {}).get("readyReplicas", 0) for one in self.deployments()]
        return sum(ready) == models * REPLICAS

    def apply(self, manifests: list[Json]) -> None:
        self.cluster.apply(manifests)

    def delete_model(self, name: str) -> None:
        self.cluster.kubectl("delete", "model", name, "--wait=false")
        wait_for(lambda: not self.deployments(name), f"the Deployments of {name} to go", 120)


def tail(operator: Operator) -> str:
    return operator.log.read_text(errors="replace")[-2000:]


def prepare(bench: Bench) -> None:
    bench.cluster.kubectl("apply", "--server-side", "-f", str(CHECKOUT / "crds"))
    bench.cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    bench.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "motley-system"}}])
    bench.apply([pool(number) for number in range(len(GPUS))])
    for number in range(len(GPUS)):
        labels = {"motley.dev/pool": f"pool-{number}"}
        bench.apply(fake_nodes(f"pool-{number}", NODES_PER_POOL, labels=labels, gpus=8, cpu="128", memory="1024Gi"))


def verdict(value: float, target: float, digits: int = 2) -> str:
    return f"{value:.{digits}f} (target < {target:g}: {'met' if value < target else 'MISSED'})"


def latency(bench: Bench, prefix: str, count: int) -> list[float]:
    """Seconds from the start of `kubectl apply` until a Deployment of the Model is listed."""
    taken = []
    for number in range(count):
        name = f"{prefix}-{number}"
        began = time.perf_counter()
        bench.apply([model(name, number, replicas=1)])

        def deployed(name: str = name) -> float | None:
            return time.perf_counter() if bench.deployments(name) else None

        taken.append(wait_for(deployed, f"Deployments of {name}", 180, every=0.02) - began)
        bench.delete_model(name)
    return taken


def latency_table(bench: Bench) -> None:
    with bench.operator() as operator:
        bench.await_pass(operator, 0)
        taken = latency(bench, "late", LATENCIES)
    print(f"\nFrom `kubectl apply` of a Model to its Deployments, {LATENCIES} times, {len(GPUS)} pools, no other Model:")
    print(f"  median {verdict(median(taken), TARGETS['latency'])} s, max {verdict(max(taken), TARGETS['latency'])} s")


@dataclass(frozen=True)
class Row:
    models: int
    pods: int
    cold: float
    warm: float
    worst: float
    peak: float
    peak_planning: float
    planning: float


def grown(bench: Bench, have: int, models: int) -> tuple[float, float]:
    """Applies the next Models; the seconds until all replicas are ready, and the operator's peak memory, solve included."""
    with bench.operator() as operator:
        bench.await_pass(operator, 0)
        began = time.perf_counter()
        bench.apply([model(f"m{number:03}", number) for number in range(have, models)])
        wait_for(lambda: bench.settled(models), f"{models} models to be ready", 600, lambda: tail(operator), every=1)
        took = time.perf_counter() - began
        quiet(bench, operator)
        return took, operator.peak_mib()


def quiet(bench: Bench, operator: Operator) -> None:
    """Until no pass has begun for a while: statuses and roll-outs are written."""
    last, since = -1, time.monotonic()

    def still() -> bool:
        nonlocal last, since
        count = operator.passes()[0]
        if count != last:
            last, since = count, time.monotonic()
        return time.monotonic() - since > 6

    wait_for(still, "the operator to be quiet", 300, lambda: tail(operator), every=0.5)


def passes(bench: Bench, have: int, models: int) -> Row:
    planning, peak_planning = grown(bench, have, models)
    pods = len(bench.kube.listed("Pod", "default"))
    with bench.operator() as operator:
        count, total, solve = bench.await_pass(operator, 0)
        assert count == 1 and solve == 0, "the first pass after a restart must not solve"
        cold = total
        quiet(bench, operator)
        seconds = []
        for number in range(WARM_PASSES):
            count, before, _ = operator.passes()
            bench.cluster.kubectl("annotate", "gpupool", "pool-0", f"bench={number}", "--overwrite")
            after = bench.await_pass(operator, count)
            seconds.append((after[1] - before) / (after[0] - count))
        assert operator.passes()[2] == 0, "no pass of these may solve"
        return Row(models, pods, cold, median(seconds), max(seconds), operator.peak_mib(), peak_planning, planning)


def idle(bench: Bench) -> dict[str, float]:
    """Per cent of a core: alone; then with a second replica that stands by."""

    def share(*operators: Operator) -> list[float]:
        before = [one.cpu() for one in operators]
        time.sleep(IDLE_SECONDS)
        return [100 * (one.cpu() - b) / IDLE_SECONDS for one, b in zip(operators, before, strict=True)]

    with bench.operator() as leader:
        bench.await_pass(leader, 0)
        quiet(bench, leader)
        alone = share(leader)[0]
        with bench.operator() as standby:
            wait_for(lambda: not standby.alive() or _answers(standby), "the second replica", 60)
            time.sleep(10)
            both = share(leader, standby)
    return {"alone": alone, "leader of two": both[0], "the one standing by": both[1]}


def _answers(operator: Operator) -> bool:
    try:
        operator.metric("motley_leader")
    except OSError:
        return False
    return True


def passes_table(bench: Bench) -> None:
    rows, have = [], 0
    for models in FLEETS:
        rows.append(passes(bench, have, models))
        have = models
        print(f"  {rows[-1]}", flush=True)
    print(f"\nOne pass without a solve, {len(GPUS)} pools, {len(GPUS) * NODES_PER_POOL} nodes, {REPLICAS} pods per Model:")
    print(f"{'models':>7} {'pods':>5} {'cold, s':>8} {'warm, s':>8} {'warm max':>9} {'peak MiB':>9}"
          f" {'peak MiB planning':>18} {'apply to all ready, s':>22}")  # fmt: skip
    for r in rows:
        print(f"{r.models:>7} {r.pods:>5} {r.cold:>8.2f} {r.warm:>8.2f} {r.worst:>9.2f} {r.peak:>9.0f}"
              f" {r.peak_planning:>18.0f} {r.planning:>22.1f}")  # fmt: skip
    last = rows[-1]
    print(f"  {last.models} models: cold {verdict(last.cold, TARGETS['pass'])} s, "
          f"warm {verdict(last.warm, TARGETS['pass'])} s, "
          f"peak memory {verdict(last.peak, TARGETS['memory'], 0)} MiB")  # fmt: skip
    print(f"\nIdle for {IDLE_SECONDS} s with that fleet, per cent of a core:")
    for name, share in idle(bench).items():
        print(f"  {name:<20} {verdict(share, TARGETS['idle'])}", flush=True)


def described() -> str:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores {cpu[1] if cpu else platform.machine()}, "
        f"{memory:.0f} GiB, load {load}, Python {platform.python_version()}, Kubernetes {KUBERNETES}, "
        f"kubernetes client {client.__version__}; API server, etcd and operator share the machine"
    )


TABLES = {"latency": latency_table, "passes": passes_table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TABLES)
    parser.add_argument("--name", default="bench", help="of the cluster")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    chosen = parser.parse_args()
    print(json.dumps(described())[1:-1])
    cluster = Cluster(chosen.name)
    with tempfile.TemporaryDirectory() as folder:
        try:
            cluster.up(without_node=True)
            bench = Bench(cluster, Path(folder))
            prepare(bench)
            for name in [chosen.only] if chosen.only else TABLES:
                TABLES[name](bench)
        finally:
            if not chosen.keep:
                cluster.down()


if __name__ == "__main__":
    main()
