"""What a mix of GPUs saves, in the shape of Mélange's tables: cost against each single GPU type, the best of them,
greedy and slices, at rates from 1 to 32 requests/s under a loose and a tight SLO.

    python bench/savings.py                          every workload, model and price list
    python bench/savings.py --only sharegpt --models Llama-2-7b --prices AWS
    python bench/savings.py --outputs unknown --models Llama-2-7b --prices AWS
    python bench/savings.py --data PATH              where the traces are; default: ../shared/data of this repository

Without the traces it says where they come from and ends. Capacities are estimates from spec sheets (`motley_solver`'s),
the same for every method, so that costs can be compared; request sizes count as the upper edges of their buckets. As in
the paper, outputs count as known: each (input, output) bucket has shares of its own. With `--outputs unknown` the mix
is planned as the operator plans, with the same shares for all outputs of one input; greedy and slices stay as they are.
The fleets of the headline's model and prices are replayed as well, each with its assignment: Poisson arrivals, the
lengths in the trace's order from a seeded place on, the same step times, and routed by input size, for a router knows
no more. A fleet that misses its SLO has saved nothing.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice, product
from math import inf
from pathlib import Path
from random import Random
from statistics import fmean

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from melange_slices import Sliced, sliced  # noqa: E402

from bench.fleet_replay import Fleet, arrivals, attainment, group_of, shares_by_input  # noqa: E402
from bench.machine import measured_on  # noqa: E402
from bench.savings_data import (  # noqa: E402
    HEADLINE,
    MODELS,
    ORIGINALS,
    PRICES,
    PUBLISHED,
    RATES,
    SLOS,
    TRACES,
    WORKLOADS,
    Traces,
    Workload,
    histogram_of,
    lengths,
    published_rate,
)
from motley_operator.cli.terminal import standard_output_kept_clean  # noqa: E402
from motley_solver.baselines import Greedy, greedy  # noqa: E402
from motley_solver.capacity import Engine, configuration_of, engine_of  # noqa: E402
from motley_solver.comparisons import on_one_type  # noqa: E402
from motley_solver.hardware import CATALOGUE  # noqa: E402
from motley_solver.ilp import solve  # noqa: E402
from motley_solver.plan import Assignment, Outcome, Plan  # noqa: E402
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem  # noqa: E402
from motley_solver.replay import Request  # noqa: E402
from motley_solver.steptime import roofline  # noqa: E402
from motley_solver.workload import BucketLoad, loads_of  # noqa: E402

SLICES, SLICES_LIMIT, TIME_LIMIT = 8, 10.0, 20.0
STOCK = 2000  # nodes of each type: no limit
REPLAY_SECONDS, REPLAY_REQUESTS, WARM_UP, SEED = 300, 1000, 0.1, 4  # the longer of the first two; a part of the time


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", choices=WORKLOADS, action="append", help="a workload; may be repeated")
    arguments.add_argument("--models", choices=(*MODELS, PUBLISHED), action="append")
    arguments.add_argument("--prices", choices=PRICES, action="append")
    arguments.add_argument("--outputs", choices=("known", "unknown"), default="known", help="when the mix is planned")
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    chosen = arguments.parse_args()
    if not (chosen.data / "traces").is_dir():
        print(f"no traces in {chosen.data}; they are columns of\n{ORIGINALS}")
        return 0
    print(f"{measured_on()}, outputs {chosen.outputs}")
    known = chosen.outputs == "known"
    traces = {name: lengths(chosen.data / "traces" / file, *columns) for name, (file, *columns) in TRACES.items()}
    tables = [
        Table(name, slo, model, prices, tuple(_rows(name, traces, slo, model, prices, known)))
        for model, prices, name, slo in _printed(
            product(chosen.models or (*MODELS, PUBLISHED), chosen.prices or PRICES, chosen.only or WORKLOADS, SLOS)
        )
    ]
    _summary(tables, known)
    return 0


# --- the question ---


def problem_of(loads: tuple[BucketLoad, ...], fleet: Sequence[Configuration], prices: Mapping[str, float]) -> Problem:
    """One replica per GPU and node, BF16, no tensor parallelism: Mélange's setting."""
    pools = tuple(Pool(gpu, gpu, 1, 16.0, 64.0, price, STOCK) for gpu, price in prices.items())
    return Problem((ModelDemand("model", loads, tuple(fleet)),), pools)


def configurations(workload: str, traces: Traces, slo: str, model: str) -> list[Configuration]:
    if model != PUBLISHED:
        return _estimated(workload, traces, slo, model)
    arena = _scales("sharegpt", traces, slo)
    scales = arena | _scales(workload, traces, slo)
    return [_scaled(c, scales[c.gpu]) for c in _estimated(workload, traces, "loose", HEADLINE[0])]


def _estimated(workload: str, traces: Traces, slo: str, model: str) -> list[Configuration]:
    loads = loads_of(histogram_of(WORKLOADS[workload], traces).items(), 1.0)
    return [
        configuration_of(gpu, gpu, 1, (gpu,), engine(gpu, model), SLOS[slo], loads, gpus=1) for gpu in PRICES["paper"]
    ]


def engine(gpu: str, model: str) -> Engine:
    step_time = roofline(MODELS[model], CATALOGUE[gpu], 1, "bfloat16", "bfloat16")
    assert step_time is not None
    found = engine_of(MODELS[model], CATALOGUE[gpu], 1, "bfloat16", "bfloat16", step_time)
    assert isinstance(found, Engine)
    return found


def _scales(workload: str, traces: Traces, slo: str) -> dict[str, float]:
    """By what each type's estimated (loose) capacities are to be multiplied, so that it alone serves what the paper
    says; sizes keep their proportions. Types without a count there scale as for the short requests."""
    loads = loads_of(histogram_of(WORKLOADS[workload], traces).items(), 1.0)
    scales = {}
    for c in _estimated(workload, traces, "loose", HEADLINE[0]):
        published = published_rate(workload, slo, c.gpu)
        if published:
            able = [load for load in loads if c.capacity(load.bucket).rate > 0]
            scales[c.gpu] = published * sum(load.rate / c.capacity(load.bucket).rate for load in able)
    return scales


def _scaled(configuration: Configuration, scale: float) -> Configuration:
    capacities = tuple(replace(c, rate=c.rate * scale, best_effort=c.rate * scale) for c in configuration.capacities)
    return replace(configuration, capacities=capacities)


# --- the answers ---


@dataclass(frozen=True)
class Row:
    """Costs per hour at one rate; inf where a method cannot serve everything."""

    rate: float
    plan: Plan
    alone: dict[str, float]
    greedy: float
    slices: float
    proven: bool  # the slices
    attained: tuple[float, ...] = ()  # replayed: the plan, the best single type, greedy, slices

    @property
    def best(self) -> float:
        return min(self.alone.values())

    @property
    def saving(self) -> float:
        """Against the best single type, as a fraction; 0 where none can serve everything."""
        return 1 - self.plan.cost_per_hour / self.best if self.best < inf else 0.0


@dataclass(frozen=True)
class Table:
    workload: str
    slo: str
    model: str
    prices: str
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        return f"{self.workload}, {self.slo}, {self.model}, {self.prices} prices"

    @property
    def published(self) -> float | None:
        return WORKLOADS[self.workload].published.get(self.slo)

    @property
    def saving(self) -> float:
        return fmean(row.saving for row in self.rows)

    @property
    def attaining(self) -> str:
        """How many of the replayed mixes are within the SLO."""
        replayed = [row.attained[0] for row in self.rows if row.attained]
        return f"{sum(a >= SLOS[self.slo].attainment for a in replayed)} of {len(replayed)}" if replayed else "-"


METHODS = ("mix", "single", "greedy", "slices")


def _rows(workload: str, traces: Traces, slo: str, model: str, prices: str, known: bool) -> Iterator[Row]:
    fleet = configurations(workload, traces, slo, model)
    histogram = histogram_of(WORKLOADS[workload], traces)
    _head(PRICES[prices])
    for rate in RATES:
        problem = problem_of(loads_of(histogram.items(), rate), fleet, PRICES[prices])
        row, placements = _row(problem, rate, known)
        if (model, prices) == HEADLINE:
            requests = requests_of(WORKLOADS[workload], traces, rate)
            row = replace(row, attained=tuple(_attained(one, problem, requests, slo, model) for one in placements))
        _line(row, PRICES[prices])
        yield row


Placement = tuple[dict[str, int], Iterable[Assignment]]
"""Replicas by GPU type, and who serves what."""


def _row(problem: Problem, rate: float, known: bool) -> tuple[Row, list[Placement]]:
    """Costs and fleets of the methods. Raises where no mix serves everything: such a workload is not for this."""
    [model] = problem.models
    with standard_output_kept_clean():
        plan = solve(replace(problem, models=(replace(model, outputs_known=known),)), TIME_LIMIT, 1e-6)
        assert isinstance(plan, Plan) and plan.complete and plan.proven, plan
        alone = {pool.gpu: solve(on_one_type(problem, pool.gpu), TIME_LIMIT) for pool in problem.pools}
        cut = sliced(model, problem.pools, SLICES, "HiGHS", SLICES_LIMIT)
    costs = {gpu: _cost(outcome) for gpu, outcome in alone.items()}
    best = alone[min(costs, key=lambda gpu: costs[gpu])]
    by_hand = greedy(problem)
    row = Row(rate, plan, costs, inf if by_hand.unserved else by_hand.cost_per_hour, cut.cost, cut.status == "optimal")
    placements = [_placement(plan), _placement(best), _greedily(by_hand), _in_slices(problem, cut)]
    return row, placements


def _cost(outcome: Outcome) -> float:
    return outcome.cost_per_hour if isinstance(outcome, Plan) and outcome.complete else inf


# --- the replay ---


def requests_of(workload: Workload, traces: Traces, rate: float) -> list[Request]:
    """Poisson arrivals; each trace in its own order, round and round, of a mixture one drawn for each request."""
    random = Random(SEED)
    places = {name: random.randrange(len(traces[name])) for name, _ in workload.parts}
    going = {name: islice(cycle(traces[name]), place, None) for name, place in places.items()}
    names, parts = zip(*workload.parts, strict=True)
    count = max(REPLAY_REQUESTS, round(REPLAY_SECONDS * rate))
    sizes = [next(going[random.choices(names, parts)[0]]) for _ in range(count)]
    return list(arrivals(sizes, rate, Random(SEED)))


def _placement(outcome: Outcome) -> Placement:
    assert isinstance(outcome, Plan)
    return {a.gpu: a.replicas for a in outcome.allocations}, outcome.assignment


def _greedily(found: Greedy) -> Placement:
    return {gpu: count for _, gpu, _, count in found.replicas}, found.assignment


def _in_slices(problem: Problem, found: Sliced) -> Placement:
    buckets = [load.bucket for load in problem.models[0].buckets]
    routes = [Assignment("model", buckets[i], gpu, count / SLICES) for (i, gpu), count in found.slices.items()]
    return found.counts, routes


def _attained(placement: Placement, problem: Problem, requests: Sequence[Request], slo: str, model: str) -> float:
    replicas, assignment = placement
    [demand] = problem.models
    groups = {
        c.gpu: group_of(engine(c.gpu, model), c.settings, replicas[c.gpu])
        for c in demand.configurations
        if replicas.get(c.gpu)
    }
    return attainment(Fleet(groups, shares_by_input(assignment, demand.buckets)), requests, SLOS[slo], WARM_UP)


# --- the tables ---


def _printed(cases: Iterable[tuple[str, str, str, str]]) -> Iterator[tuple[str, str, str, str]]:
    for case in cases:
        model, prices, name, slo = case
        if model == PUBLISHED and not WORKLOADS[name].counts:
            continue
        target = SLOS[slo]
        print(f"\n{name}, {slo} SLO (TPOT {1000 * target.tpot_seconds:.0f} ms, TTFT {target.ttft_seconds_base:g} s + "
              f"{target.ttft_seconds_per_1k_input:g} s per 1000 input tokens, {target.attainment:.0%}), {model}, "
              f"{prices} prices")  # fmt: skip
        yield case


def _head(types: dict[str, float]) -> None:
    columns = ["cost/h", *(f"{gpu.partition('-')[0]} only" for gpu in types), "greedy", "slices", "saving"]
    attained = "   SLO attained: " + " ".join(f"{name:>7}" for name in METHODS)
    print(f"{'rate/s':>6}  {'mix: ' + '/'.join(types):<26}" + "".join(f"{name:>10}" for name in columns) + attained)


def _line(row: Row, types: dict[str, float]) -> None:
    counts = {a.gpu: a.replicas for a in row.plan.allocations}
    mix = "/".join(str(counts.get(gpu, 0)) for gpu in types)
    costs = [row.plan.cost_per_hour, *row.alone.values(), row.greedy]
    print(f"{row.rate:>6}  {mix:<26}" + "".join(f"{_money(cost):>10}" for cost in costs), end="")
    print(f"{_money(row.slices) + ('' if row.proven else '*'):>10}{row.saving:>10.1%}", end="")
    print(" " * 17 + " ".join(f"{attained:>7.1%}" for attained in row.attained), flush=True)


def _money(cost: float) -> str:
    return f"{cost:.2f}" if cost < inf else "-"


def _summary(tables: Sequence[Table], known: bool) -> None:
    """`published` is the mean over the same rates of the paper's dataset that the workload resembles."""
    print("\n-: cannot serve every size within the SLO   *: the best within "
          f"{SLICES_LIMIT:g} s, not proven")  # fmt: skip
    attained = [row.attained for table in tables for row in table.rows if row.attained]
    if attained:
        means = (
            f"{name} {fmean(values):.2%} (least {min(values):.1%})"
            for name, values in zip(METHODS, zip(*attained, strict=True), strict=True)
        )
        print(f"mean attainment in the replay, {len(attained)} fleets each: {', '.join(means)}")
    print(f"\n{'mean saving against':<48}{'best single':>12}{'published':>18}{'greedy':>9}{'slices':>9}"
          "  mixes that attain")  # fmt: skip
    for table in tables:
        paper = table.published and f"{WORKLOADS[table.workload].dataset} {table.published:.1%}"
        against = [_mean_saving(table, "greedy"), _mean_saving(table, "slices")]
        print(f"{table.title:<48}{table.saving:>12.1%}{paper or '-':>18}{against[0]:>9.1%}{against[1]:>9.1%}"
              f"{table.attaining:>19}")  # fmt: skip
    print()
    if known:  # as the slices do
        rows = [row for table in tables for row in table.rows]
        dearer = sum(row.plan.cost_per_hour > row.slices * (1 + 1e-6) for row in rows)
        print(f"{'MISSED' if dearer else 'met   '}  never dearer than slices: {len(rows) - dearer} of {len(rows)}")
    for table in tables:
        if table.published and (table.model, table.prices) in (HEADLINE, (PUBLISHED, "paper")):
            verdict = "met   " if table.saving > table.published else "MISSED"
            print(f"{verdict}  {table.title}: {table.saving:.1%} saved against the best single type, in the paper "
                  f"{table.published:.1%}")  # fmt: skip


def _mean_saving(table: Table, other: str) -> float:
    costs = [(row.plan.cost_per_hour, row.greedy if other == "greedy" else row.slices) for row in table.rows]
    return fmean(1 - cost / theirs for cost, theirs in costs if theirs < inf)


if __name__ == "__main__":
    sys.exit(main())
