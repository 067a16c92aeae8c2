"""The operator against a real API server: how soon a Model has Deployments, what a pass and idling cost.

    python bench/control_plane.py [--only latency|passes] [--keep]

An embedded cluster of its own (control plane, fake nodes) and the operator as a local process, all on this machine."""

import argparse
import os
import platform
import re
import signal
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
SPARE_NODES = 4
"""Of each pool beyond what may be planned, so that nothing waits for a full pool to be repacked."""
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
        return bool(sum(ready) == models * REPLICAS)

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
        count = NODES_PER_POOL + SPARE_NODES
        bench.apply(fake_nodes(f"pool-{number}", count, labels=labels, gpus=8, cpu="128", memory="1024Gi"))


def verdict(value: float, target: float, digits: int = 2) -> str:
    return f"{value:.{digits}f} (target < {target:g}: {'met' if value < target else 'MISSED'})"


def latency(bench: Bench, prefix: str, count: int) -> tuple[list[float], list[float]]:
    """Seconds from the start of `kubectl apply` until a Deployment of the Model is listed, and those in kubectl."""
    taken, kubectl = [], []
    for number in range(count):
        name = f"{prefix}-{number}"
        began = time.perf_counter()
        bench.apply([model(name, number, replicas=1)])
        kubectl.append(time.perf_counter() - began)

        def deployed(name: str = name) -> float | None:
            return time.perf_counter() if bench.deployments(name) else None

        taken.append(wait_for(deployed, f"Deployments of {name}", 180, every=0.02) - began)
        bench.delete_model(name)
    return taken, kubectl


def latency_table(bench: Bench) -> None:
    with bench.operator() as operator:
        bench.await_pass(operator, 0)
        taken, kubectl = latency(bench, "late", LATENCIES)
    print(f"\nFrom `kubectl apply` of a Model to its Deployments, {LATENCIES} times, {len(GPUS)} pools, no other Model")
    print(f"  median {verdict(median(taken), TARGETS['latency'])} s, max {verdict(max(taken), TARGETS['latency'])} s")
    print(
        f"  of which the command itself: median {median(kubectl):.2f} s; load now {os.getloadavg()[0]:.1f}", flush=True
    )


@dataclass(frozen=True)
class Row:
    models: int
    pods: int
    cold: float
    cold_cpu: float
    warm: float
    worst: float
    warm_cpu: float
    peak: float
    peak_planning: float
    planning: float


def grown(bench: Bench, have: int, models: int) -> tuple[float, float]:
    """Applies the next Models; seconds until all replicas are ready, and the operator's peak memory with solves."""
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
        wait_for(lambda: answers(operator), "the operator to answer", 60, every=0.02)
        started = operator.cpu()
        count, cold, solve = bench.await_pass(operator, 0)
        cold_cpu = operator.cpu() - started
        assert count == 1 and solve == 0, "the first pass after a restart must not solve"
        quiet(bench, operator)
        wall, cpu = [], []
        some = bench.deployments()[0]["metadata"]["name"]
        for number in range(WARM_PASSES):
            (count, before, _), began = operator.passes(), operator.cpu()
            bench.cluster.kubectl("annotate", "deployment", some, f"bench={number}", "--overwrite")
            after = bench.await_pass(operator, count)
            wall.append((after[1] - before) / (after[0] - count))
            cpu.append((operator.cpu() - began) / (after[0] - count))
        assert operator.passes()[2] == 0, "no pass of these may solve"
        return Row(
            models=models,
            pods=pods,
            cold=cold,
            cold_cpu=cold_cpu,
            warm=median(wall),
            worst=max(wall),
            warm_cpu=median(cpu),
            peak=operator.peak_mib(),
            peak_planning=peak_planning,
            planning=planning,
        )


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
            wait_for(lambda: answers(standby), "the second replica", 60)
            time.sleep(10)
            both = share(leader, standby)
    return {"alone": alone, "leader of two": both[0], "the one standing by": both[1]}


def answers(operator: Operator) -> bool:
    assert operator.alive(), tail(operator)
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
        print(f"  measured with {models} Models", flush=True)
    print(f"\nOne pass without a solve, {len(GPUS)} pools, {len(GPUS) * (NODES_PER_POOL + SPARE_NODES)} nodes,")
    print("and from the `kubectl apply` of the Models added to all pods ready (solves included)")
    print(f"{'':>12} {'cold pass':>13} {'warm pass':>20} {'peak memory, MiB':>17}")
    print(f"{'models':>6} {'pods':>5} {'wall s':>6} {'cpu s':>6} {'wall s':>6} {'max':>6} {'cpu s':>6}"
          f" {'passes':>8} {'solves':>8} {'added':>6} {'ready, s':>8}")  # fmt: skip
    for r, before in zip(rows, (0, *FLEETS), strict=False):
        print(f"{r.models:>6} {r.pods:>5} {r.cold:>6.2f} {r.cold_cpu:>6.2f} {r.warm:>6.2f} {r.worst:>6.2f}"
              f" {r.warm_cpu:>6.2f} {r.peak:>8.0f} {r.peak_planning:>8.0f} {r.models - before:>6}"
              f" {r.planning:>8.1f}")  # fmt: skip
    last = rows[-1]
    print(f"  {last.models} models: cold {verdict(last.cold, TARGETS['pass'])} s, "
          f"warm {verdict(last.warm, TARGETS['pass'])} s, "
          f"peak memory {verdict(last.peak, TARGETS['memory'], 0)} MiB")  # fmt: skip
    print(f"\nIdle for {IDLE_SECONDS} s with that fleet, per cent of a core; load {os.getloadavg()[0]:.1f}", flush=True)
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
    print(described(), flush=True)
    cluster = Cluster(chosen.name)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up then too
    with tempfile.TemporaryDirectory() as folder:
        try:
            cluster.down()  # what a killed run may have left
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
