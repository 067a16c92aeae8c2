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
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.machine import measured_on  # noqa: E402
from bench.savings_data import ORIGINALS  # noqa: E402
from bench.savings_fleets_cases import PARTS, Case, Data  # noqa: E402
from bench.savings_fleets_data import MEASURED_ORIGIN, RATES, REPLAYED  # noqa: E402
from motley_operator.cli.terminal import standard_output_kept_clean  # noqa: E402
from motley_solver.baselines import greedy  # noqa: E402
from motley_solver.comparisons import on_one_type  # noqa: E402
from motley_solver.ilp import solve  # noqa: E402
from motley_solver.plan import Outcome, Plan, Unsolved  # noqa: E402
from motley_solver.problem import Problem  # noqa: E402

TIME_LIMIT, GAP = 20.0, 1e-3


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated")
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    chosen = arguments.parse_args()
    if not (chosen.data / "traces").is_dir():
        print(f"no traces in {chosen.data}; they are columns of\n{ORIGINALS}\n{MEASURED_ORIGIN}")
        return 0
    print(measured_on())
    data = Data(chosen.data)
    tables = [_told(case) for name, part in PARTS.items() if name in (chosen.only or PARTS) for case in part(data)]
    _summary(tables)
    return 0


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


def _attained(
    replay: Callable[[Problem, Plan, float], float], problem: Problem, mix: Plan, single: Outcome | None, rate: float
) -> dict[str, float]:
    placed = {"mix": mix, "single": single}
    return {name: replay(problem, plan, rate) for name, plan in placed.items() if isinstance(plan, Plan)}


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
