"""Mixes of GPUs: Motley's optimisation against Mélange's own formulation, complete enumeration, and awkward inputs.

    python bench/melange.py                          all parts; CBC may take its 120 s on each of the large instances
    python bench/melange.py --only cliffs

Instances are synthetic, drawn from the seeds below: nothing outside this repository is read. Motley is timed as
`motley solve --melange` works once its input is parsed, and on the large instances also as a process of its own, with
Python's start; the slices with the building of their program through PuLP, as Mélange's released solver has it. Each
uses one thread (CBC's default), and they take turns: what else the machine does falls on both. What a solver had not
ended within its limit is marked.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, inf
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from melange_answers import contradictions  # noqa: E402
from melange_slices import Sliced, Solver, sliced  # noqa: E402

from bench.machine import load, measured_on  # noqa: E402
from motley_operator.cli.melange.answer import answer_of  # noqa: E402
from motley_operator.cli.melange.config import parsed  # noqa: E402
from motley_operator.cli.melange.question import problem_of  # noqa: E402
from motley_operator.cli.terminal import standard_output_kept_clean  # noqa: E402
from tests.solver.oracles import cheapest_by_enumeration  # noqa: E402

SLICES_LIMIT = 120.0
FASTER, SECONDS, CAPPED_SECONDS, CLIFF_SECONDS = 100.0, 0.3, 2.0, 2.0

Json = dict[str, Any]


@dataclass(frozen=True)
class Size:
    inputs: int
    outputs: int
    types: int
    slices: int
    seeds: tuple[int, ...]
    solvers: tuple[Solver, ...] = ("CBC", "HiGHS")

    def __str__(self) -> str:
        return f"{self.inputs}×{self.outputs} buckets, {self.types} types, {self.slices} slices"


BRUTE_FORCE = Size(2, 2, 3, 4, tuple(range(20)))
SMALLER = (
    Size(6, 6, 4, 4, (1, 2, 3, 4, 5)),
    Size(10, 6, 4, 8, (1, 2, 3)),  # the paper's own numbers
    Size(10, 10, 4, 4, (1, 2, 3)),
)
LARGE = Size(11, 11, 8, 4, (1, 3, 5), ("CBC",))
CAPPED = Size(11, 11, 20, 0, (1, 2, 3, 4, 5))


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", choices=PARTS, help="one part")
    only = arguments.parse_args().only
    print(measured_on(), flush=True)
    verdicts = [verdict for name, part in PARTS.items() if only in (None, name) for verdict in part()]
    print(f"\nload at the end {load()}")
    for met, text in verdicts:
        print(f"{'met   ' if met else 'MISSED'}  {text}")
    return 0


# --- instances ---


def instance(size: Size, seed: int, rate: float | None = None, capped: bool = False) -> Json:
    """Types with prices from 0.5 to 10; faster ones cost more, not in proportion, and small ones lack the memory for
    long requests. A request takes input / prefill speed + output / decode speed seconds of one instance, times noise.
    Rates go from 1 to 32 with the seed."""
    random = Random(seed)
    inputs = [round(25 * 2.1**i) for i in range(size.inputs)]
    outputs = [round(25 * 2.0**j) for j in range(size.outputs)]
    gpus = {}
    for index in range(size.types):
        price = 0.5 * 20 ** random.random()
        prefill, decode = 4000 * price ** random.uniform(0.8, 1.2), 400 * price ** random.uniform(0.7, 1.1)
        fits = (inputs[-1] + outputs[-1]) * (1 if index == 0 else min(1.0, price * random.uniform(0.2, 1.5)))
        tputs = [
            [random.uniform(0.85, 1.15) / (i / prefill + o / decode) if i + o <= fits else 0.0 for o in outputs]
            for i in inputs
        ]
        gpus[f"gpu{index}"] = {"cost": round(price, 2), "tputs": tputs}
        if capped and index % 2:
            gpus[f"gpu{index}"]["max"] = random.randint(0, 5)
    weights = [[exp(random.gauss(0, 1)) for _ in outputs] for _ in inputs]
    total = sum(map(sum, weights))
    return {
        "gpu_info": gpus,
        "workload_distribution": [[weight / total for weight in row] for row in weights],
        "total_request_rate": 2.0 ** (seed % 6) if rate is None else rate,
        "slice_factor": size.slices,
    }


@dataclass(frozen=True)
class Timed:
    answer: Json
    seconds: float
    cpu: float  # seconds

    @property
    def cost(self) -> float:
        return inf if self.answer["cost"] is None else float(self.answer["cost"])

    @property
    def proven(self) -> bool:
        return bool(self.answer["status"] == "optimal")


def motley(config: Json) -> Timed:
    """Raises where the answer contradicts its input."""
    given = parsed(config)
    started, cpu = perf_counter(), process_time()
    with standard_output_kept_clean():
        answer = answer_of(given, None)
    seconds, cpu = perf_counter() - started, process_time() - cpu
    return Timed(_consistent(config, answer), seconds, cpu)


def as_process(config: Json) -> Timed:
    """The whole command, from the start of Python to its end."""
    code = "import sys; from motley_operator.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "solve", "--melange", "-", "-o", "json"]
    started, cpu = perf_counter(), _of_children()
    ran = subprocess.run(command, input=json.dumps(config), capture_output=True, text=True, check=True)
    seconds, cpu = perf_counter() - started, _of_children() - cpu
    return Timed(_consistent(config, json.loads(ran.stdout)), seconds, cpu)


def _consistent(config: Json, answer: Json) -> Json:
    if answer["cost"] is not None and (wrong := next(contradictions(config, answer), None)):
        raise AssertionError(wrong)
    return answer


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def in_slices(config: Json, size: Size, solver: Solver) -> tuple[Sliced, float]:
    problem = problem_of(parsed(config))
    started = perf_counter()
    with standard_output_kept_clean():
        found = sliced(problem.models[0], problem.pools, size.slices, solver, SLICES_LIMIT)
    return found, perf_counter() - started


# --- parts ---

Verdicts = Iterator[tuple[bool, str]]


def enumeration() -> Verdicts:
    """Every count of every type up to 4."""
    equal = 0
    for seed in BRUTE_FORCE.seeds:
        config = instance(BRUTE_FORCE, seed, rate=1.0 + seed / 4)
        for gpu in config["gpu_info"].values():
            gpu["max"] = 4
        cost = cheapest_by_enumeration(problem_of(parsed(config)))
        found = motley(config)
        equal += found.cost == cost or abs(found.cost - cost) <= 1e-6 * cost
        print(f"\renumeration: {seed + 1} of {len(BRUTE_FORCE.seeds)}", end="", flush=True)
    print()
    yield equal == len(BRUTE_FORCE.seeds), f"equal to enumeration: {equal} of {len(BRUTE_FORCE.seeds)} ({BRUTE_FORCE})"


def slices() -> Verdicts:
    print(f"\n{'instance':<42} {'seed':>4} {'rate/s':>7} {'Motley: cost/h':>14} {'s':>7}", end="")
    print(f" {'slices: cost/h':>15} {'with':>6} {'s':>8} {'faster':>9}")
    never_dearer, faster, proven, large, whole = [], [], [], [], []
    for size in (*SMALLER, LARGE):
        for seed in size.seeds:
            config = instance(size, seed)
            found = motley(config)
            proven.append(found.proven)
            print(f"{size!s:<42} {seed:>4} {config['total_request_rate']:>7.2f} {found.cost:>14.3f} "
                  f"{found.seconds:>7.3f}", end="", flush=True)  # fmt: skip
            for solver in size.solvers:
                other, took = in_slices(config, size, solver)
                if other.status != "unsolved":  # to be cheaper than nothing is no merit
                    never_dearer.append(found.cost <= other.cost * (1 + 1e-6))
                ended = other.status == "optimal"
                told, times = f"{other.cost:.3f}{'' if ended else '*'}", took / found.seconds
                print(f" {told:>15} {solver:>6} {took:>8.2f} {times:>8.0f}×", end="", flush=True)
                if size is LARGE:
                    faster.append((times, f"{'' if ended else 'at least '}{times:.0f}×"))
            if size is LARGE:
                large.append(found)
                whole.append(as_process(config))
            print(flush=True)
    print(f"* not ended within {SLICES_LIMIT:.0f} s")
    yield all(proven), f"proven to be the cheapest: {sum(proven)} of {len(proven)}"
    yield all(never_dearer), f"cost ≤ slices, where these found a mix: {sum(never_dearer)} of {len(never_dearer)}"
    yield (
        min(times for times, _ in faster) >= FASTER,
        f"{LARGE}: {FASTER:.0f}× faster than slices with CBC: {', '.join(told for _, told in faster)}",
    )
    yield _within(large, SECONDS, str(LARGE))
    yield _within(whole, SECONDS, f"{LARGE}, the whole process")


def caps() -> Verdicts:
    found = []
    for seed in CAPPED.seeds:
        found.append(motley(instance(CAPPED, seed, capped=True)))
        print(f"{CAPPED.types} types with caps, seed {seed}: {found[-1].answer['status']}, {found[-1].seconds:.3f} s",
              flush=True)  # fmt: skip
    proven = [one.proven for one in found]
    yield all(proven), f"{CAPPED.types} types × 121 buckets with caps: {sum(proven)} of {len(proven)} proven"
    yield _within(found, CAPPED_SECONDS, f"{CAPPED.types} types × 121 buckets with caps")


def _within(found: list[Timed], limit: float, what: str) -> tuple[bool, str]:
    wall, cpu = (
        ", ".join(f"{s:.3f}" for s in seconds) for seconds in zip(*((f.seconds, f.cpu) for f in found), strict=True)
    )
    return max(f.seconds for f in found) < limit, f"{what}: under {limit} s: {wall} (CPU: {cpu})"


def _identical(config: Json) -> Json:
    first = next(iter(config["gpu_info"].values()))
    return {**config, "gpu_info": {name: first for name in config["gpu_info"]}}


def _equal_prices(config: Json) -> Json:
    return {**config, "gpu_info": {name: {**gpu, "cost": 1.0} for name, gpu in config["gpu_info"].items()}}


def _six_orders(config: Json) -> Json:
    """Type k is 10^k times as fast as type 0, and about as much dearer."""
    gpus = {}
    for k, (name, gpu) in enumerate(config["gpu_info"].items()):
        factor = 10.0 ** (k * 6 / (len(config["gpu_info"]) - 1) - 3)
        tputs = [[cell * factor for cell in row] for row in gpu["tputs"]]
        gpus[name] = {"cost": gpu["cost"] * factor, "tputs": tputs}
    return {**config, "gpu_info": gpus}


CLIFFS: dict[str, tuple[Callable[[Json], Json], float | None]] = {
    "as the large instances": (lambda config: config, None),
    "identical types": (_identical, None),
    "equal prices": (_equal_prices, None),
    "throughputs over six orders of magnitude": (_six_orders, None),
    "rate 1e-6": (lambda config: config, 1e-6),
    "rate 1e6": (lambda config: config, 1e6),
    "identical types, rate 1e6": (_identical, 1e6),
    "six orders, rate 1e-6": (_six_orders, 1e-6),
    "six orders, rate 1e6": (_six_orders, 1e6),
}


def cliffs() -> Verdicts:
    print(f"\n{'11×11 buckets, 8 types, seeds 1 to 5':<42} {'median s':>9} {'worst s':>9}  status")
    worst = 0.0
    optimal = True
    for name, (change, rate) in CLIFFS.items():
        found = [motley(change(instance(LARGE, seed, rate))) for seed in range(1, 6)]
        seconds = [one.seconds for one in found]
        statuses = {one.answer["status"] for one in found}
        worst, optimal = max(worst, *seconds), optimal and statuses == {"optimal"}
        print(f"{name:<42} {median(seconds):>9.3f} {max(seconds):>9.3f}  {', '.join(sorted(statuses))}", flush=True)
    yield optimal and worst < CLIFF_SECONDS, f"no cliffs: every one proven, and within {CLIFF_SECONDS} s: {worst:.3f} s"


PARTS: dict[str, Callable[[], Verdicts]] = {
    "enumeration": enumeration,
    "slices": slices,
    "caps": caps,
    "cliffs": cliffs,
}

if __name__ == "__main__":
    sys.exit(main())
