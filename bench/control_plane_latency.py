"""How soon a Model has Deployments."""

import os
import time
from statistics import median

from bench.control_plane_start import GPUS, Bench, model, verdict
from e2e.waiting import wait_for

TARGET_SECONDS = 2.0
LATENCIES = 20


def latency(bench: Bench) -> tuple[list[float], list[float]]:
    """Seconds from the start of `kubectl apply` until a Deployment of the Model is listed, and those in kubectl."""
    taken, kubectl = [], []
    for number in range(LATENCIES):
        name = f"late-{number}"
        began = time.perf_counter()
        bench.cluster.apply([model(name, number, replicas=1)])
        kubectl.append(time.perf_counter() - began)

        def deployed(name: str = name) -> float | None:
            return time.perf_counter() if bench.deployments(name) else None

        taken.append(wait_for(deployed, f"Deployments of {name}", 180, every=0.02) - began)
        bench.delete_model(name)
    return taken, kubectl


def latency_table(bench: Bench) -> None:
    with bench.operator() as operator:
        operator.await_pass(0)
        taken, kubectl = latency(bench)
    print(f"\nFrom `kubectl apply` of a Model to its Deployments, {LATENCIES} times, {len(GPUS)} pools, no other Model")
    print(f"  median {verdict(median(taken), TARGET_SECONDS)} s, max {verdict(max(taken), TARGET_SECONDS)} s")
    print(
        f"  of which the command itself: median {median(kubectl):.2f} s; load now {os.getloadavg()[0]:.1f}", flush=True
    )
