"""What a pass costs that has nothing to solve, and what idling costs."""

import os
import time
from dataclasses import dataclass
from statistics import median

from bench.control_plane_start import GPUS, NODES_PER_POOL, REPLICAS, SPARE_NODES, Bench, Operator, model, verdict
from e2e.waiting import wait_for

TARGETS = {"pass": 3.0, "memory": 400.0, "idle": 2.0}
FLEETS = (10, 30, 100)
WARM_PASSES = 10
IDLE_SECONDS = 60


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
        operator.await_pass(0)
        began = time.perf_counter()
        bench.cluster.apply([model(f"m{number:03}", number) for number in range(have, models)])
        wait_for(
            lambda: bench.ready() == models * REPLICAS, f"{models} models to be ready", 600, operator.tail, every=1
        )
        took = time.perf_counter() - began
        operator.await_quiet()
        return took, operator.peak_mib()


def passes(bench: Bench, have: int, models: int) -> Row:
    planning, peak_planning = grown(bench, have, models)
    pods = len(bench.kube.listed("Pod", "default"))
    with bench.operator() as operator:
        wait_for(operator.answers, "the operator to answer", 60, every=0.02)
        started = operator.cpu()
        count, cold, solve = operator.await_pass(0)
        cold_cpu = operator.cpu() - started
        assert count == 1 and solve == 0, "the first pass after a restart must not solve"
        operator.await_quiet()
        wall, cpu = [], []
        some = bench.deployments()[0]["metadata"]["name"]
        for number in range(WARM_PASSES):
            (count, before, _), began = operator.passes(), operator.cpu()
            bench.cluster.kubectl("annotate", "deployment", some, f"bench={number}", "--overwrite")
            after = operator.await_pass(count)
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
        leader.await_pass(0)
        leader.await_quiet()
        alone = share(leader)[0]
        with bench.operator() as standby:
            wait_for(standby.answers, "the second replica", 60)
            time.sleep(10)
            both = share(leader, standby)
    return {"alone": alone, "leader of two": both[0], "the one standing by": both[1]}


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
