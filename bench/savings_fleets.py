"""What a mix of GPUs saves for whoever rents whole instances: one model and three models on what AWS rents, with and
without limits of stock, and on measured instead of estimated rates.

    python bench/savings_fleets.py                   every part (some minutes)
    python bench/savings_fleets.py --only fleets     or: models, stock, measured
    python bench/savings_fleets.py --data PATH       where the traces are; default: ../shared/data of this repository

Each fleet is compared with the best single GPU type (all its instances, tensor parallelism free), with greedy, with
models that are each planned alone, and with models that each have a best single type of their own. What was not proven
in time counts with its cost for the mix and with its lower bound for single types, so that no saving is overstated.
"""

import argparse
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from math import inf
from pathlib import Path
from random import Random
from statistics import fmean

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.fleet_replay import Fleet, Group, arrivals, attainment  # noqa: E402
from bench.savings import requests_of  # noqa: E402
from bench.savings_data import ORIGINALS, SLOS, TRACES, WORKLOADS, Traces, bucket_of, histogram_of, lengths  # noqa: E402
from bench.savings_fleets_data import (  # noqa: E402
    BEYOND,
    FLEETS,
    GPU_PRICES,
    INSTANCES,
    LIMITED,
    LIMITED_FLEET,
    MEASURED_ORIGIN,
    MEASURED_SIZES,
    MEASURED_SLOS,
    PRECISIONS,
    RATES,
    RENTED,
    REPLAYED,
    SERVED,
    TENSOR_PARALLEL,
    UNLIMITED,
    Part,
    measured,
)
from motley_operator.cli.terminal import standard_output_kept_clean  # noqa: E402
from motley_solver.baselines import greedy  # noqa: E402
from motley_solver.capacity import Engine, Question, configuration_of, engine_of, evaluations  # noqa: E402
from motley_solver.comparisons import on_one_type  # noqa: E402
from motley_solver.hardware import CATALOGUE, DType  # noqa: E402
from motley_solver.ilp import solve  # noqa: E402
from motley_solver.plan import Outcome, Plan, Unsolved  # noqa: E402
from motley_solver.policy.batching import Limits  # noqa: E402
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem  # noqa: E402
from motley_solver.steptime import roofline  # noqa: E402
from motley_solver.workload import Bucket, BucketLoad, loads_of  # noqa: E402

TIME_LIMIT, GAP = 20.0, 1e-3
REPLAY_SECONDS, REPLAY_REQUESTS, WARM_UP, SEED = 300, 1000, 0.1, 4  # the longer of the first two; a part of the time


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated")
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    chosen = arguments.parse_args()
    if not (chosen.data / "traces").is_dir():
        print(f"no traces in {chosen.data}; they are columns of\n{ORIGINALS}\n{MEASURED_ORIGIN}")
        return 0
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, {os.cpu_count()} cores, load {load}, "
          f"Python {platform.python_version()}")  # fmt: skip
    data = Data(chosen.data)
    tables = [_told(case) for name, part in PARTS.items() if name in (chosen.only or PARTS) for case in part(data)]
    _summary(tables)
    return 0


# --- the questions ---


@dataclass(frozen=True)
class Data:
    folder: Path

    @property
    def traces(self) -> Traces:
        return _traces(self.folder)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Of all traces: capacities are asked for once."""
        return tuple(sorted({bucket_of(*size) for sizes in self.traces.values() for size in sizes}))


@cache
def _traces(folder: Path) -> Traces:
    return {name: lengths(folder / "traces" / file, *columns) for name, (file, *columns) in TRACES.items()}


@dataclass(frozen=True)
class Case:
    """One table: a problem for each rate."""

    title: str
    problem: Callable[[float], Problem]
    rates: tuple[int, ...] = RATES
    replay: Callable[[Problem, Plan, float], float] | None = None  # the least attainment of a model


def one_model(data: Data) -> Iterator[Case]:
    for model in ("Llama-2-7b", "Llama-3.1-8B"):
        for workload in WORKLOADS:
            for slo in SLOS:
                yield _case(data, f"{workload}, {slo}, {model}", (Part(model, workload, 1.0),), slo)


def fleets(data: Data) -> Iterator[Case]:
    for name, fleet in FLEETS.items():
        for slo in SLOS:
            case = _case(data, f"{name}, {slo}", fleet, slo)
            replay = _replay(data, fleet, slo) if fleet == FLEETS[LIMITED_FLEET] else None
            yield replace(case, rates=RATES + BEYOND, replay=replay)


def limited_stock(data: Data) -> Iterator[Case]:
    for slo in SLOS:
        case = _case(data, f"{LIMITED_FLEET}, little stock, {slo}", FLEETS[LIMITED_FLEET], slo, limited=True)
        yield replace(case, rates=RATES + BEYOND)


def measured_rates(data: Data) -> Iterator[Case]:
    file = data.folder / "derived" / "silicon_agg_points.csv"
    for precisions in PRECISIONS:
        for name, node in RENTED.items():
            for slo in MEASURED_SLOS:
                ways, pools = _measured(file, slo, precisions, node)
                title = f"measured, {precisions}, {name}, {slo}"
                yield Case(title, partial(_equally, ways, pools))


PARTS: dict[str, Callable[[Data], Iterator[Case]]] = {
    "models": one_model,
    "fleets": fleets,
    "stock": limited_stock,
    "measured": measured_rates,
}


def _case(data: Data, title: str, fleet: tuple[Part, ...], slo: str, limited: bool = False) -> Case:
    pools = tuple(
        Pool(name, i.gpu, i.gpus, 0.0, 0.0, i.price, LIMITED[i.gpus] if limited else UNLIMITED)
        for name, i in INSTANCES.items()
    )
    ways = {part.model: configurations(part.model, slo, data.buckets) for part in fleet}

    def problem(rate: float) -> Problem:
        models = (ModelDemand(p.model, _loads(data, p, rate), ways[p.model]) for p in fleet)
        return Problem(tuple(models), pools)

    return Case(title, problem)


def _loads(data: Data, part: Part, rate: float) -> tuple[BucketLoad, ...]:
    return loads_of(histogram_of(WORKLOADS[part.workload], data.traces).items(), rate * part.part)


def configurations(model: str, slo: str, buckets: tuple[Bucket, ...]) -> tuple[Configuration, ...]:
    """Every GPU type and tensor parallelism on which the model runs, in the instances that have as many GPUs."""
    loads = tuple(BucketLoad(bucket, 1.0) for bucket in buckets)
    engines = {(gpu, tp): e for gpu in _types() for tp in TENSOR_PARALLEL if (e := engine(gpu, tp, model))}
    evaluations([Question(engine, SLOS[slo], buckets) for engine in engines.values()])  # all at once
    return tuple(
        configuration_of(_key(gpu, tp), gpu, tp, pools, engine, SLOS[slo], loads, gpus=tp)
        for (gpu, tp), engine in engines.items()
        if (pools := tuple(name for name, i in INSTANCES.items() if i.gpu == gpu and i.gpus >= tp))
    )


def _types() -> tuple[str, ...]:
    return tuple(dict.fromkeys(instance.gpu for instance in INSTANCES.values()))


def _key(gpu: str, tensor_parallel: int) -> str:
    return f"{gpu}-tp{tensor_parallel}"


def engine(gpu: str, tensor_parallel: int, model: str) -> Engine | None:
    """None where the weights do not fit or cannot run."""
    served, sheet = SERVED[model], CATALOGUE[gpu]
    cache_dtype: DType = "bfloat16" if sheet.bf16 else "float16"
    weights = served.weights if served.weights == "fp8" else cache_dtype
    step_time = roofline(served.shape, sheet, tensor_parallel, weights, cache_dtype)
    found = step_time and engine_of(served.shape, sheet, tensor_parallel, weights, cache_dtype, step_time)
    return found if isinstance(found, Engine) else None


def _measured(
    file: Path, slo: str, precisions: str, node: int | None
) -> tuple[tuple[Configuration, ...], tuple[Pool, ...]]:
    loads, any_slo = tuple(BucketLoad(bucket, 1.0) for bucket in MEASURED_SIZES), SLOS["loose"]
    pools, found = {}, []
    for (gpu, tp), table in measured(file, slo, precisions).items():
        gpus = node or tp
        name = f"{gpu}×{gpus}"
        pools[name] = Pool(name, gpu, gpus, 0.0, 0.0, GPU_PRICES[gpu] * gpus, UNLIMITED)
        found.append(configuration_of(_key(gpu, tp), gpu, tp, (name,), table, any_slo, loads, gpus=tp))
    return tuple(found), tuple(pools.values())


def _equally(ways: tuple[Configuration, ...], pools: tuple[Pool, ...], rate: float) -> Problem:
    loads = loads_of(((bucket, 1.0) for bucket in MEASURED_SIZES), rate)
    return Problem((ModelDemand("Llama-3.1-70B", loads, ways),), pools)


# --- the answers ---


@dataclass(frozen=True)
class Row:
    """Costs per hour at one rate: inf where not everything can be served. `alone` by GPU type; `apart` with each model
    planned for itself, `own_type` with each model on the single type that is best for it."""

    rate: float
    mix: Plan | None  # None where no mix serves everything
    gap: float
    alone: dict[str, float]
    greedy: float
    apart: float
    own_type: float
    unknown: int  # single types of which it is not proven that they cannot serve everything
    attained: dict[str, float] = field(default_factory=dict)

    @property
    def cost(self) -> float:
        return self.mix.cost_per_hour if self.mix else inf

    @property
    def best(self) -> tuple[float, str]:
        return min((cost, gpu) for gpu, cost in self.alone.items())

    def saving(self, other: float) -> float | None:
        """None where one of both cannot serve everything."""
        return 1 - self.cost / other if other < inf and self.mix else None


@dataclass(frozen=True)
class Table:
    title: str
    rows: tuple[Row, ...]

    def mean(self, other: Callable[[Row], float]) -> float | None:
        """Over the rates of the published tables at which both serve everything."""
        savings = [row.saving(other(row)) for row in self.rows if row.rate in RATES]
        known = [saving for saving in savings if saving is not None]
        return fmean(known) if known else None


def _told(case: Case) -> Table:
    print(f"\n{case.title}\n{'rate/s':>6}{'mix/h':>9}{'gap':>7}{'best single type':>20}{'saving':>8}{'greedy':>9}"
          f"{'apart':>9}{'own type':>10}  mix")  # fmt: skip
    rows = []
    for rate in case.rates:
        row = _row(case, rate)
        rows.append(row)
        cost, gpu = row.best
        single = f"{gpu} {cost:.2f}" if cost < inf else "-"
        saving = row.saving(cost)
        attained = ", ".join(f"{name} {value:.2%}" for name, value in row.attained.items())
        print(f"{rate:>6}{_money(row.cost):>9}{row.gap:>7.2%}{single:>20}{_percent(saving):>8}{_money(row.greedy):>9}"
              f"{_money(row.apart):>9}{_money(row.own_type):>10}  {_nodes(row.mix)}"
              f"{'; attained: ' + attained if attained else ''}", flush=True)  # fmt: skip
    return Table(case.title, tuple(rows))


def _row(case: Case, rate: float) -> Row:
    problem = case.problem(rate)
    types = list(dict.fromkeys(pool.gpu for pool in problem.pools))
    single = [replace(problem, models=(model,)) for model in problem.models]
    mix = _solved(problem)
    alone = {gpu: _alone(problem, gpu) for gpu in types}
    if len(single) > 1:  # as far as stock is concerned, each has all of it: nothing is too dear here
        apart = sum(_least(_solved(one)) for one in single)
        own_type = sum(min(_least(_alone(one, gpu)) for gpu in types) for one in single)
    else:
        apart, own_type = _cost(mix), min(map(_least, alone.values()))
    by_hand = greedy(problem)
    costs = {gpu: _least(outcome) for gpu, outcome in alone.items()}
    plan = mix if isinstance(mix, Plan) and mix.complete else None
    row = Row(
        rate,
        plan,
        1 - plan.lower_bound / plan.cost_per_hour if plan else 0.0,
        costs,
        inf if by_hand.unserved else by_hand.cost_per_hour,
        apart,
        own_type,
        sum(isinstance(one, Unsolved) or (isinstance(one, Plan) and not one.complete and not one.proven)
            for one in alone.values()),
    )  # fmt: skip
    if case.replay and plan and rate in REPLAYED:
        row = replace(row, attained=_attained(case.replay, problem, plan, alone[row.best[1]], rate))
    return row


def _solved(problem: Problem) -> Outcome:
    with standard_output_kept_clean():
        return solve(problem, TIME_LIMIT, GAP)


def _alone(problem: Problem, gpu: str) -> Outcome | None:
    """None where some size cannot be served on this type, however many there are."""
    only = on_one_type(problem, gpu)
    able = all(
        any(c.capacity(load.bucket).rate > 0 for c in model.configurations)
        for model in only.models
        for load in model.buckets
    )
    return _solved(only) if able else None


def _cost(outcome: Outcome) -> float:
    return outcome.cost_per_hour if isinstance(outcome, Plan) and outcome.complete else inf


def _least(outcome: Outcome | None) -> float:
    """What it costs where that is proven, and else what it costs at least."""
    if isinstance(outcome, Plan) and outcome.complete:
        return outcome.cost_per_hour if outcome.proven else outcome.lower_bound
    return inf


# --- the replay ---


def _attained(
    replay: Callable[[Problem, Plan, float], float], problem: Problem, mix: Plan, single: Outcome | None, rate: float
) -> dict[str, float]:
    placed = {"mix": mix, "single": single}
    return {name: replay(problem, plan, rate) for name, plan in placed.items() if isinstance(plan, Plan)}


def _replay(data: Data, fleet: tuple[Part, ...], slo: str) -> Callable[[Problem, Plan, float], float]:
    """The least attainment of the fleet's models, each replayed on its own replicas with its trace's lengths."""

    def least(problem: Problem, plan: Plan, rate: float) -> float:
        return min(_model_attained(data, part, plan, rate * part.part, slo) for part in fleet)

    return least


def _model_attained(data: Data, part: Part, plan: Plan, rate: float, slo: str) -> float:
    groups: dict[str, Group] = {}
    for one in plan.allocations:
        if one.model == part.model:
            has = engine(one.gpu, one.tensor_parallel, part.model)
            assert has is not None
            limits = Limits(one.settings.max_num_batched_tokens, one.settings.max_num_seqs, has.kv_tokens)
            before = groups[one.configuration].replicas if one.configuration in groups else 0
            groups[one.configuration] = Group(before + one.replicas, has.step_time, limits)
    shares: dict[Bucket, dict[str, float]] = {}
    for route in plan.assignment:
        if route.model == part.model:
            shares.setdefault(route.bucket, {})[route.configuration] = route.share
    sizes = requests_of(WORKLOADS[part.workload], data.traces, max(REPLAY_REQUESTS, round(REPLAY_SECONDS * rate)))
    requests = list(arrivals(sizes, rate, Random(SEED)))
    return attainment(Fleet(groups, shares), requests, bucket_of, SLOS[slo], WARM_UP * requests[-1].arrival)


# --- the tables ---


def _nodes(plan: Plan | None) -> str:
    counts = Counter({node.pool: node.nodes for node in plan.nodes if node.nodes}) if plan else Counter()
    return " ".join(f"{count} {pool}" for pool, count in counts.items())


def _money(cost: float) -> str:
    return f"{cost:.2f}" if cost < inf else "-"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _summary(tables: Sequence[Table]) -> None:
    print("\n-: cannot serve everything within the SLO (and the stock)")
    rows = [row for table in tables for row in table.rows]
    gaps = [row.gap for row in rows if row.mix]
    print(f"{len(rows)} mixes, {sum(row.mix is None for row in rows)} of them impossible; not proven to be within "
          f"{GAP:.1%}: {sum(gap > GAP * 1.001 for gap in gaps)}, the widest gap {max(gaps):.2%}; single types of which "
          f"it is not known whether they can serve: {sum(row.unknown for row in rows)}")  # fmt: skip
    dearer = sum(row.mix is not None and row.cost > row.best[0] * (1 + GAP) for row in rows)
    print(f"{'MISSED' if dearer else 'met   '}  never dearer than a single type: {len(rows) - dearer} of {len(rows)}")
    print(f"\n{'mean saving over 1 to 32 requests/s, against':<54}{'best single':>12}{'own types':>11}{'apart':>8}"
          f"{'greedy':>8}{'no single type can':>20}")  # fmt: skip
    for table in tables:
        means = [
            table.mean(other)
            for other in (lambda r: r.best[0], lambda r: r.own_type, lambda r: r.apart, lambda r: r.greedy)
        ]
        told = [_percent(mean) for mean in means]
        only = sum(row.best[0] == inf and row.mix is not None for row in table.rows)
        print(f"{table.title:<54}{told[0]:>12}{told[1]:>11}{told[2]:>8}{told[3]:>8}{only:>14} of {len(table.rows)}")


if __name__ == "__main__":
    sys.exit(main())
