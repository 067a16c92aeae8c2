"""The optimisation on made-up fleets: seconds, proven gap and memory, from one model to three hundred.

    python bench/planner.py                      all cases (some minutes)
    python bench/planner.py --only fleet-10      those whose name begins so

Each solve runs in a process of its own, so that its peak of memory is its own. Capacities are given: they come from a
smooth formula of bandwidth, arithmetic and memory, 0 where a request does not fit. Node prices are AWS us-east-1 on
demand as of 2026-07, Azure for single A100 and H100 and MI300X.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.machine import measured_on
from motley_solver.hardware import CATALOGUE, Gpu
from motley_solver.ilp import solve
from motley_solver.plan import Plan
from motley_solver.problem import Capacity, Configuration, EngineSettings, ModelDemand, Pool, Problem, Role
from motley_solver.workload import Bucket, loads_of

SETTINGS = EngineSettings(8192, 256, 32768)
TTFT_SECONDS = (0.5, 1.0, 3.0)  # and 1 s per 4000 input tokens
TPOT_SECONDS = (0.04, 0.07, 0.12)
FABRICS = ("east", "west", "")

# (pool, GPU, GPUs per node, $ per node-hour, is its stock limited?)
NODES = (
    ("g6.xlarge", "L4", 1, 0.8048, False),
    ("g5.xlarge", "A10G", 1, 1.006, False),
    ("g6e.xlarge", "L40S", 1, 1.861, False),
    ("NC24ads-A100", "A100-80GB", 1, 3.673, True),
    ("NC40ads-H100", "H100", 1, 6.98, True),
    ("p4d.24xlarge", "A100-40GB", 8, 21.957642, False),
    ("p4de.24xlarge", "A100-80GB", 8, 27.44705, True),
    ("p5.48xlarge", "H100", 8, 55.04, False),
    ("g6.12xlarge", "L4", 4, 4.6016, False),
    ("g5.12xlarge", "A10G", 4, 5.672, False),
    ("g6e.12xlarge", "L40S", 4, 10.49264, True),
    ("p5en.48xlarge", "H200", 8, 63.296, True),
    ("g4dn.xlarge", "T4", 1, 0.526, False),
    ("g4dn.12xlarge", "T4", 4, 3.912, False),
    ("g6.48xlarge", "L4", 8, 13.3504, False),
    ("g5.48xlarge", "A10G", 8, 16.288, False),
    ("g6e.48xlarge", "L40S", 8, 30.13118, True),
    ("p3.8xlarge", "V100", 4, 12.24, True),
    ("p6-b200.48xlarge", "B200", 8, 113.9328, False),
    ("ND96isr-MI300X", "MI300X", 8, 48.0, True),
)


# --- the generator ---


def buckets_of(inputs: int, outputs: int) -> tuple[Bucket, ...]:
    """Edges that double, from 50 input and 20 output tokens on."""
    return tuple(Bucket(50 * 2**i, 20 * 2**o) for i, o in product(range(inputs), range(outputs)))


@dataclass(frozen=True)
class Speed:
    """One model on one GPU type at one tensor parallelism, with its SLO."""

    billions: float
    gpu: Gpu
    tensor_parallel: int
    ttft: float
    tpot: float

    def rate(self, bucket: Bucket, role: Role) -> float:
        """Requests per second: 1 / (prefill seconds + decode seconds of one request at the largest batch that fits)."""
        gpu, tp = self.gpu, self.tensor_parallel
        weights = 2.0 * self.billions  # GB
        kv = 1.3e-4 * (self.billions / 8) ** 0.6  # GB per token
        room = 0.9 * gpu.usable_memory_gib * tp - 1.5 * tp - weights
        tokens = bucket.input_tokens + bucket.output_tokens
        if room < tokens * kv:
            return 0.0
        efficiency = float(tp) ** -0.12
        prefill = bucket.input_tokens * 2e9 * self.billions / (gpu.tflops_16bit * 1e12 * 0.5 * tp * efficiency)
        if prefill > self.ttft + bucket.input_tokens / 4000:
            return 0.0
        bandwidth = gpu.bandwidth_gb_s * 0.8 * tp * efficiency
        held = (bucket.input_tokens + bucket.output_tokens / 2) * kv
        fixed, each = 0.004 + weights / bandwidth, held / bandwidth + 2e-5
        batch = min(256.0, room / held, (self.tpot - fixed) / each)
        if batch < 1:
            return 0.0
        decode = bucket.output_tokens * (fixed + each * batch) / batch
        seconds = {"aggregated": prefill + decode, "prefill": prefill, "decode": decode}[role]
        return 0.9 / float(seconds)


def pools_of(count: int, models: int) -> tuple[Pool, ...]:
    found = []
    for index, (name, gpu, gpus, price, limited) in enumerate(NODES[:count]):
        stock = max(1, ceil(models / (6 * gpus))) if limited else 1000
        found.append(Pool(name, gpu, gpus, 24.0 * gpus, 192.0 * gpus, price, stock, fabric=FABRICS[index % 3]))
    return tuple(found)


def configurations_of(billions: float, slo: tuple[float, float], sizes: tuple[Bucket, ...], pools: tuple[Pool, ...],
                      roles: tuple[Role, ...]) -> tuple[Configuration, ...]:  # fmt: skip
    found = []
    for gpu, tp, role in product(dict.fromkeys(pool.gpu for pool in pools), (1, 2, 4, 8), roles):
        speed = Speed(billions, CATALOGUE[gpu], tp, *slo)
        capacities = tuple(Capacity(b, speed.rate(b, role), speed.rate(b, role)) for b in sizes)
        for fabric in [None] if role == "aggregated" else [fabric for fabric in FABRICS if fabric]:
            here = [p for p in pools if p.gpu == gpu and p.gpus_per_node >= tp and fabric in (None, p.fabric)]
            if here:
                key = f"{gpu}-tp{tp}" + ("" if fabric is None else f"-{role}-{fabric}")
                names = tuple(p.name for p in here)
                kv_class = "" if fabric is None else "fp16" if gpu in ("T4", "V100") else "bf16"
                found.append(
                    Configuration(key, gpu, tp, names, capacities, SETTINGS, tp, 4.0 * tp, 24.0 * tp, role, kv_class)
                )
    return tuple(found)


def model_of(draw: random.Random, name: str, sizes: tuple[Bucket, ...], pools: tuple[Pool, ...],
             roles: tuple[Role, ...]) -> ModelDemand:  # fmt: skip
    billions = draw.choice([1.0, 3.0, 8.0, 8.0, 14.0, 32.0, 70.0])
    rate = min(50.0, max(0.2, draw.lognormvariate(1.2, 1.2)))
    middle = draw.uniform(0, 1), draw.uniform(0, 1)
    spread = 0.15 + 0.2 * draw.random()
    at = [(sorted({s.input_tokens for s in sizes}).index(b.input_tokens),
           sorted({s.output_tokens for s in sizes}).index(b.output_tokens)) for b in sizes]  # fmt: skip
    most = [max(1, max(place[axis] for place in at)) for axis in (0, 1)]
    weights = [
        2.0 ** -sum(((place[axis] / most[axis] - middle[axis]) / spread) ** 2 for axis in (0, 1))
        * draw.uniform(0.5, 1.5) + 1e-3
        for place in at
    ]  # fmt: skip
    slo = draw.choice(TTFT_SECONDS), draw.choice(TPOT_SECONDS)
    choices = configurations_of(billions, slo, sizes, pools, roles)
    servable = [b for b in sizes if any(c.capacity(b).rate > 0 for c in choices if c.role == "aggregated")]
    histogram = [(b, w) for b, w in zip(sizes, weights, strict=True) if b in servable]
    return ModelDemand(name, loads_of(histogram, rate), choices)


def fleet(seed: int, models: int, pools: int, sizes: tuple[int, int], disaggregated: bool) -> Problem:
    draw = random.Random(seed)
    nodes, edges = pools_of(pools, models), buckets_of(*sizes)
    roles: tuple[Role, ...] = ("aggregated", "prefill", "decode") if disaggregated else ("aggregated",)
    return Problem(tuple(model_of(draw, f"bench/m{i}", edges, nodes, roles) for i in range(models)), nodes)


def single(seed: int, types: int, cap: int | None) -> Problem:
    """One model, 11 × 11 sizes, one replica per node, as Mélange has it: a tensor-parallel group is a type."""
    draw = random.Random(seed)
    gpus = [
        CATALOGUE[name]
        for name in ("L4", "A10G", "A100-80GB", "H100", "T4", "L40S", "A40", "A100-40GB", "V100", "H200")
    ]
    prices = dict(
        zip((g.name for g in gpus), (0.70, 1.01, 3.67, 7.516, 0.526, 1.861, 0.99, 2.74, 3.06, 7.912), strict=True)
    )
    named = [(gpu, tp) for tp in (1, 2) for gpu in gpus][:types]
    edges = tuple(Bucket(b.input_tokens // 2, b.output_tokens // 2) for b in buckets_of(11, 11))
    choices, pools = [], []
    for gpu, tp in named:
        speed = Speed(8.0, gpu, tp, 8.0, 0.12)
        rates = [(b, speed.rate(b, "aggregated")) for b in edges]
        capacities = tuple(Capacity(b, rate, rate) for b, rate in rates)
        name = f"{gpu.name}x{tp}"
        choices.append(Configuration(name, name, 1, (name,), capacities, SETTINGS, 1))
        pools.append(Pool(name, name, 1, 16.0, 64.0, prices[gpu.name] * tp, 10_000 if cap is None else cap))
    servable = [b for b in edges if any(c.capacity(b).rate > 0 for c in choices)]
    histogram = [(b, draw.lognormvariate(0, 1) / (1 + b.input_tokens * b.output_tokens / 1e6)) for b in servable]
    return Problem((ModelDemand("bench/m", loads_of(histogram, 16.0), tuple(choices)),), tuple(pools))


def with_rate(problem: Problem, factor: float) -> Problem:
    (model,) = problem.models
    loads = tuple(replace(load, rate=load.rate * factor) for load in model.buckets)
    pools = tuple(replace(pool, max_nodes=10**9) for pool in problem.pools)
    return replace(problem, models=(replace(model, buckets=loads),), pools=pools)


def alike(problem: Problem, prices_only: bool) -> Problem:
    """All GPU types at one price; or all of them the same but for their name."""
    (model,) = problem.models
    first = model.configurations[2]
    same = tuple(replace(c, capacities=first.capacities) for c in model.configurations)
    pools = tuple(replace(pool, price_per_node_hour=1.0) for pool in problem.pools)
    sized = tuple(load for load in model.buckets if first.capacity(load.bucket).rate > 0)
    chosen = model if prices_only else replace(model, configurations=same, buckets=sized)
    return replace(problem, models=(chosen,), pools=pools)


def unequal(problem: Problem) -> Problem:
    """Throughputs over six orders of magnitude, prices in proportion to them but for a tenth."""
    (model,) = problem.models
    factors = [10 ** (6 * i / (len(problem.pools) - 1) - 3) for i in range(len(problem.pools))]
    choices = tuple(
        replace(c, capacities=tuple(Capacity(x.bucket, x.rate * f, x.rate * f) for x in c.capacities))
        for c, f in zip(model.configurations, factors, strict=True)
    )
    pools = tuple(
        replace(pool, price_per_node_hour=pool.price_per_node_hour * f**0.9, max_nodes=10**9)
        for pool, f in zip(problem.pools, factors, strict=True)
    )
    return replace(problem, models=(replace(model, configurations=choices),), pools=pools)


# --- cases and their targets, written before the first run ---


@dataclass(frozen=True)
class Case:
    name: str
    seed: int
    gap: float  # asked for, and the target where there is one
    limit: float  # seconds given to `solve`
    target_seconds: float | None = None
    target_mib: float | None = None

    def problem(self) -> Problem:
        kind, *rest = self.name.split("/")
        if kind == "cliff":
            base = single(self.seed, 8, None)
            return {
                "identical types": lambda: alike(base, prices_only=False),
                "equal prices": lambda: alike(base, prices_only=True),
                "six orders": lambda: unequal(base),
                "rate 1e-6": lambda: with_rate(base, 1e-6 / 16),
                "rate 1e6": lambda: with_rate(base, 1e6 / 16),
            }[rest[0]]()
        if kind == "types":
            return single(self.seed, int(rest[0]), 4 if "caps" in rest else None)
        models, pools, sizes = int(kind.removeprefix("fleet-")), int(rest[0]), int(rest[1])
        return fleet(self.seed, models, pools, {12: (4, 3), 60: (10, 6)}[sizes], "disaggregated" in rest)


CASES = (
    *(Case("types/8", seed, 1e-6, 20, 0.3) for seed in (1, 2, 3, 4, 5)),
    *(Case("types/20/caps", seed, 1e-6, 20, 2.0) for seed in (1, 2, 3, 4, 5)),
    *(Case(f"cliff/{what}", 1, 1e-6, 20, 0.3)
      for what in ("identical types", "equal prices", "six orders", "rate 1e-6", "rate 1e6")),
    *(Case("fleet-10/12/12/disaggregated", seed, 1e-3, 20, 3.0) for seed in (1, 2, 3)),
    *(Case("fleet-10/12/60/disaggregated", seed, 1e-3, 20, 3.0) for seed in (1, 2, 3)),
    *(Case("fleet-100/20/60", seed, 1e-2, 30, 30.0, 1536) for seed in (1, 2, 3)),
    Case("fleet-1/20/60", 1, 1e-2, 30),
    Case("fleet-3/20/60", 1, 1e-2, 30),
    Case("fleet-10/20/60", 1, 1e-2, 30),
    Case("fleet-30/20/60", 1, 1e-2, 30),
    Case("fleet-300/20/60", 1, 1e-2, 60),
    Case("fleet-100/20/60/disaggregated", 1, 1e-2, 60),
)  # fmt: skip


def measure(case: Case) -> dict[str, float | str]:
    problem = case.problem()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = solve(problem, case.limit, case.gap)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if not isinstance(outcome, Plan):
        return {"wall": wall, "cpu": cpu, "before": before, "peak": peak, "said": str(outcome)}
    said = "" if outcome.complete else f"{len(outcome.unserved)} sizes unserved"
    found = {"cost": outcome.objective, "bound": outcome.lower_bound}
    return {"wall": wall, "cpu": cpu, "before": before, "peak": peak, "said": said, **found}


def verdict(case: Case, found: dict[str, float | str], gap: float) -> str:
    if case.target_seconds is None:
        return ""
    missed = []
    if float(found["wall"]) > case.target_seconds:
        missed.append(f"{case.target_seconds:g} s")
    if not gap <= case.gap * 1.001:
        missed.append(f"{case.gap:.4%}")
    if case.target_mib is not None and float(found["peak"]) > case.target_mib:
        missed.append(f"{case.target_mib:g} MiB")
    return f"MISSED: {', '.join(missed)}" if missed else f"met ({case.target_seconds:g} s, {case.gap:.4%})"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", default="", help="cases whose name begins so")
    arguments.add_argument("--seed", type=int, help="only this one")
    arguments.add_argument("--case", type=int, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.case is not None:
        print(json.dumps(measure(CASES[chosen.case])))
        return
    print(measured_on())
    print(f"{'case':<32} {'seed':>4} {'wall s':>7} {'cpu s':>7} {'gap':>9} {'$/h':>14} {'bound':>14} {'MiB':>5}")
    for index, case in enumerate(CASES):
        if case.name.startswith(chosen.only) and chosen.seed in (None, case.seed):
            command = [sys.executable, __file__, "--case", str(index)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            cost, bound = found.get("cost", 0.0), found.get("bound", 0.0)
            gap = (cost - bound) / cost if cost else 1.0
            print(
                f"{case.name:<32} {case.seed:>4} {found['wall']:7.2f} {found['cpu']:7.2f} {gap:9.4%} {cost:14.6g} "
                f"{bound:14.6g} {found['peak']:5.0f}  {verdict(case, found, gap)} {found['said']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
