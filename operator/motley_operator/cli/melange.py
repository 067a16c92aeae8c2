"""`motley solve --melange`: the input of Mélange's released solver → the ordinary optimisation → its counts, proven.
One model, one replica per instance; Kubernetes and the operator have no part in it."""

import json
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil, floor, fsum, inf
from time import monotonic
from types import MappingProxyType
from typing import Any

from motley_operator.cli import INCOMPLETE, INVALID, PLANNED, UNSOLVED
from motley_operator.cli.jsoninput import (
    BadInput,
    key,
    mapping,
    matrix,
    number,
    object_in,
    required,
    said,
    shown,
    whole,
)
from motley_operator.cli.render import Table, aligned
from motley_operator.cli.terminal import progress, standard_output_kept_clean
from motley_solver.ilp import solve
from motley_solver.plan import Infeasible, Outcome, Plan, Unsolved
from motley_solver.problem import Capacity, Configuration, EngineSettings, ModelDemand, Pool, Problem
from motley_solver.workload import Bucket, BucketLoad

Json = dict[str, Any]

RELATIVE_GAP = 1e-6
NO_LIMIT = 86_400.0
"""Seconds, where no time limit is given: exact, or it was a day."""
MOST_INSTANCES = 1e12
"""For one bucket; a GPU type that needs more does not serve it."""
PACKED = 5e-7
"""Of the bill: what it may cost in all that instances without number are bought in packs."""
EACH: Mapping[str, int] = MappingProxyType({})
"""No packs."""
SUM_TOLERANCE = 1e-6
ROUNDING = 1e-5
"""Of a bucket: so much left out by a solver in trouble with large numbers is served all the same."""
LISTED = 20
"""Buckets that a reason names."""

_KEYS = ("gpu_info", "workload_distribution", "total_request_rate", "slice_factor", "headroom")
_GPU_KEYS = ("cost", "tputs", "max")
_EXIT = {"optimal": PLANNED, "feasible": PLANNED, "infeasible": INCOMPLETE, "unsolved": UNSOLVED}

Cell = tuple[int, int]


@dataclass(frozen=True)
class GpuType:
    cost: float  # per hour and instance
    tputs: Mapping[Cell, float]  # requests per second of one instance, 0 where a bucket does not fit
    most: int | None  # instances


@dataclass(frozen=True)
class Config:
    gpus: Mapping[str, GpuType]
    rates: Mapping[Cell, float]  # requests per second; only of buckets with load
    headroom: float


def run(path: str, output: str, time_limit: float | None) -> int:
    try:
        given = object_in(path)
        config = parsed(given)
    except BadInput as error:
        print(said(path, error), file=sys.stderr)
        return INVALID
    for warning in warnings(given):
        print(f"warning: {warning}", file=sys.stderr)
    with progress() as tell, standard_output_kept_clean():
        tell("Looking for the cheapest mix")
        found = answer(config, time_limit)
    print(json.dumps(found, indent=2) if output == "json" else "\n".join(_lines(found, config)), flush=True)
    return _EXIT[found["status"]]


# --- the input ---


def parsed(given: Mapping[str, Any]) -> Config:
    """BadInput names the first key that is wrong."""
    info = mapping(required(given, "gpu_info"), "gpu_info")
    if not info:
        raise BadInput("gpu_info: must hold at least one GPU type")
    shares = matrix(required(given, "workload_distribution"), "workload_distribution")
    total = fsum(share for row in shares for share in row)
    if total <= 0:
        raise BadInput("workload_distribution: at least one share must be above 0")
    rate = number(required(given, "total_request_rate"), "total_request_rate")
    if given.get("slice_factor") is not None:
        whole(given["slice_factor"], "slice_factor")
    headroom = number(given["headroom"], "headroom") if given.get("headroom") is not None else 0.0
    size = (len(shares), len(shares[0]))
    rates = {(i, j): rate * (share / total) for i, row in enumerate(shares) for j, share in enumerate(row)}
    return Config(
        {name: _gpu_type(name, value, size) for name, value in info.items()},
        {cell: rate for cell, rate in rates.items() if rate > 0},
        headroom,
    )


def _gpu_type(name: str, value: Any, size: tuple[int, int]) -> GpuType:
    where = ("gpu_info", name)
    value = mapping(value, *where)
    tputs = matrix(required(value, "tputs", *where), *where, "tputs")
    if (len(tputs), len(tputs[0])) != size:
        message = f"is {len(tputs)} by {len(tputs[0])}, workload_distribution is {size[0]} by {size[1]}"
        raise BadInput(f"{key(*where, 'tputs')}: {message}")
    return GpuType(
        cost=number(required(value, "cost", *where), *where, "cost"),
        tputs={(i, j): tput for i, row in enumerate(tputs) for j, tput in enumerate(row)},
        most=whole(value["max"], *where, "max") if value.get("max") is not None else None,
    )


def warnings(given: Mapping[str, Any]) -> Iterator[str]:
    """What was understood all the same. The input is known to be right."""
    total = fsum(share for row in given["workload_distribution"] for share in row)
    if abs(total - 1) > SUM_TOLERANCE:
        yield f"workload_distribution: adds up to {total:g}; divided by that"
    yield from _unknown(given, _KEYS)
    for name, value in given["gpu_info"].items():
        yield from _unknown(value, _GPU_KEYS, "gpu_info", name)


def _unknown(value: Mapping[str, Any], known: tuple[str, ...], *where: str) -> Iterator[str]:
    for name in value:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"{key(*where, name)}: unknown key, ignored{hint}"


# --- the question ---


def problem_of(config: Config, packs: Mapping[str, int] = EACH) -> Problem:
    """One pool per GPU type, one pack of instances per node, and as many nodes as may pay; types that never do are left
    out, for their price would only blur the others'."""
    buckets = {cell: Bucket(*cell) for cell in config.rates}
    most = _most_instances(config)
    configurations, pools = [], []
    for name, gpu in config.gpus.items():
        pack = packs.get(name, 1)
        if most[name] < 1:
            continue
        pools.append(Pool(name, name, 1, 0.0, 0.0, gpu.cost * pack, ceil(most[name] / pack)))
        able = {cell: gpu.tputs[cell] * pack for cell in config.rates if _serves(config, gpu, cell)}
        capacities = tuple(Capacity(buckets[cell], tput, tput) for cell, tput in able.items())
        configurations.append(Configuration(name, name, 1, (name,), capacities, EngineSettings(0, 0, 0), gpus=1))
    loads = tuple(BucketLoad(buckets[cell], rate) for cell, rate in config.rates.items())
    return Problem((ModelDemand("melange", loads, tuple(configurations)),), tuple(pools), headroom=config.headroom)


def _most_instances(config: Config) -> Mapping[str, int]:
    """Of each type: what all load takes, what no more than the highest bill buys, and `max`."""
    highest = _highest_bill(config) * (1 + 1e-9)
    return {
        name: min(
            [
                ceil(_needed(config, gpu)) + 1,
                *([floor(highest / gpu.cost)] if gpu.cost else []),
                *([] if gpu.most is None else [gpu.most]),
            ]
        )
        for name, gpu in config.gpus.items()
    }


def _packs(config: Config) -> Mapping[str, int]:
    """How many instances of a type are bought at a time, where bills are of so many that it makes no difference.
    Whole numbers beyond some 10⁸ are beyond the solver's tolerances."""
    spare = PACKED / 2 * _highest_bill(config) / len(config.gpus)
    able = {name: config.gpus[name].cost for name in _endless(config)}
    return {name: floor(spare / cost) for name, cost in able.items() if cost and spare >= 2 * cost}


def _highest_bill(config: Config) -> float:
    """If all load can be served, then by some mix that costs no more: every bucket at its cheapest type without a cap;
    and where there is none for it, all instances of those with a cap that serve it."""
    loads: dict[str, float] = {}
    capped: set[str] = set()
    endless = _endless(config)
    for cell in config.rates:
        bills = _bills(config, cell)
        free = [name for name in bills if name in endless]
        if free:
            best = min(free, key=lambda name: bills[name])
            loads[best] = loads.get(best, 0.0) + _instances(config, config.gpus[best], cell)
        else:
            capped |= bills.keys()
    whole = fsum(ceil(load) * config.gpus[name].cost for name, load in loads.items())
    return whole + fsum((config.gpus[name].most or 0) * config.gpus[name].cost for name in capped)


def _bills(config: Config, cell: Cell) -> dict[str, float]:
    """What one bucket costs at each type that serves it."""
    able = {name: gpu for name, gpu in config.gpus.items() if _serves(config, gpu, cell)}
    return {name: _instances(config, gpu, cell) * gpu.cost for name, gpu in able.items()}


def _needed(config: Config, gpu: GpuType) -> float:
    """What all load that it can serve takes of one GPU type."""
    return fsum(_instances(config, gpu, cell) for cell in config.rates if _serves(config, gpu, cell))


def _endless(config: Config) -> list[str]:
    """The types without a cap, or with one that is never reached."""
    return [name for name, gpu in config.gpus.items() if gpu.most is None or gpu.most > _needed(config, gpu)]


def _serves(config: Config, gpu: GpuType, cell: Cell) -> bool:
    return _instances(config, gpu, cell) <= MOST_INSTANCES


def _instances(config: Config, gpu: GpuType, cell: Cell) -> float:
    """What all load of one bucket takes of one GPU type."""
    tput = gpu.tputs[cell]
    load = config.rates[cell] * (1 + config.headroom)
    return load / tput if tput > load / (2 * MOST_INSTANCES) else inf


# --- the answer ---


def answer(config: Config, time_limit: float | None) -> Json:
    """The JSON object of `-o json`."""
    started = monotonic()
    if reasons := list(_hopeless(config)):
        return _without_plan("infeasible", "; ".join(reasons), started)
    outcome, packs, waste = _solved(config, time_limit or NO_LIMIT)
    match outcome:
        case Infeasible(reasons=found):
            return _without_plan("infeasible", "; ".join(found), started)
        case Unsolved(reason=reason):
            return _without_plan("unsolved", reason, started)
    left = {_cell(one.bucket): one.rate for one in outcome.unserved}
    if any(rate > ROUNDING * config.rates[cell] for cell, rate in left.items()):
        if outcome.proven:
            return _without_plan("infeasible", _too_small_caps(config, left), started)
        return _without_plan("unsolved", "no plan that serves all load was found in time: allow more", started)
    assignment = list(_assignment(outcome))
    counts = {name: _count(config, outcome, assignment, name, packs.get(name, 1)) for name in config.gpus}
    cost = fsum(count * config.gpus[name].cost for name, count in counts.items())
    bound = min(cost, outcome.lower_bound - waste)
    exact = cost - bound <= 1.001 * RELATIVE_GAP * cost
    return {
        "status": "optimal" if exact else "feasible",
        "cost": cost,
        "lower_bound": bound,
        "counts": counts,
        "assignment": assignment,
        "reason": "",
        "solve_seconds": monotonic() - started,
    }


def _solved(config: Config, time_limit: float) -> tuple[Outcome, Mapping[str, int], float]:
    """In packs where there are any and their possible waste is within PACKED of the bill. Last comes that waste."""
    packs = _packs(config)
    if packs:
        outcome = solve(problem_of(config, packs), time_limit, RELATIVE_GAP - PACKED)
        waste = fsum(pack * config.gpus[name].cost for name, pack in packs.items())
        if not isinstance(outcome, Plan) or waste <= PACKED * outcome.lower_bound:
            return outcome, packs, waste
    return solve(problem_of(config), time_limit, RELATIVE_GAP), EACH, 0.0


def _without_plan(status: str, reason: str, started: float) -> Json:
    return {
        "status": status,
        "cost": None,
        "lower_bound": None,
        "counts": {},
        "assignment": [],
        "reason": reason,
        "solve_seconds": monotonic() - started,
    }


def _count(config: Config, plan: Plan, assignment: list[Json], name: str, pack: int) -> int:
    """All packs, without what the last one has to spare; more where rounding left some load out."""
    packed = pack * sum(allocation.replicas for allocation in plan.allocations if allocation.pool == name)
    mine = [route for route in assignment if route["gpu"] == name]
    load = fsum(route["share"] * _instances(config, config.gpus[name], tuple(route["bucket"])) for route in mine)
    return ceil(load) if load > packed * (1 + ROUNDING / 10) else packed - min(pack - 1, max(0, floor(packed - load)))


def _assignment(plan: Plan) -> Iterator[Json]:
    """Shares that add up to 1 in every bucket, without the solver's tolerance."""
    totals: dict[Bucket, float] = {}
    for route in plan.assignment:
        totals[route.bucket] = totals.get(route.bucket, 0.0) + route.share
    for route in sorted(plan.assignment, key=lambda one: one.bucket):
        share = route.share / totals[route.bucket]
        yield {"bucket": list(_cell(route.bucket)), "gpu": route.configuration, "share": share}


def _cell(bucket: Bucket) -> Cell:
    return bucket.input_tokens, bucket.output_tokens


def _hopeless(config: Config) -> Iterator[str]:
    """Why no mix would do, as far as that is plain without solving."""
    without: list[Cell] = []
    forbidden: dict[str, list[Cell]] = {}
    used: dict[Cell, float] = {}  # of buckets that depend on caps: the least part of any one cap
    endless = _endless(config)
    for cell in config.rates:
        able = {name: gpu for name, gpu in config.gpus.items() if _serves(config, gpu, cell)}
        if not able:
            without.append(cell)
        elif all(gpu.most == 0 for gpu in able.values()):
            forbidden.setdefault(" and ".join(map(shown, able)), []).append(cell)
        elif not able.keys() & endless:
            used[cell] = min(_instances(config, gpu, cell) / gpu.most for gpu in able.values() if gpu.most)
    if without:
        beyond = any(gpu.tputs[cell] for cell in without for gpu in config.gpus.values())
        limit = f" with {MOST_INSTANCES:g} instances or fewer" if beyond else ": its tputs are 0 everywhere"
        yield f"no GPU type serves {_listed(without)}{limit}"
    for names, cells in forbidden.items():
        yield f"only {names} may serve {_listed(cells)}, and max is 0"
    if fsum(used.values()) > (len(config.gpus) - len(endless)) * (1 + ROUNDING):
        yield f"the caps ({_caps(config, used)}) are too small for {_listed(list(used))}"


def _too_small_caps(config: Config, left: Mapping[Cell, float]) -> str:
    return (
        f"the caps ({_caps(config, left)}) leave {fsum(left.values()):.4g} requests/s of {_listed(list(left))} unserved"
    )


def _caps(config: Config, cells: Collection[Cell]) -> str:
    """Of the types that serve any of these buckets."""
    able = {name: gpu.most for name, gpu in config.gpus.items() if any(gpu.tputs[cell] > 0 for cell in cells)}
    return "max: " + ", ".join(f"{shown(name)} {most}" for name, most in able.items() if most is not None)


def _listed(cells: list[Cell]) -> str:
    names = ", ".join(f"[{i}, {j}]" for i, j in cells[:LISTED])
    more = f" and {len(cells) - LISTED} more" if len(cells) > LISTED else ""
    return f"{'bucket' if len(cells) == 1 else 'buckets'} {names}{more}"


# --- for people ---


def _lines(found: Json, config: Config) -> Iterator[str]:
    if found["cost"] is None:
        yield f"{found['status']}: {found['reason']}"
        return
    yield f"{found['status']}: {found['cost']:.6g} per hour (lower bound {found['lower_bound']:.6g})"
    yield ""
    rows = [
        (shown(name), str(count), f"{count * config.gpus[name].cost:.6g}")
        for name, count in found["counts"].items()
        if count
    ]
    yield from aligned(Table(("GPU", "INSTANCES", "COST/H"), tuple(rows), frozenset({"INSTANCES", "COST/H"})))
    if found["assignment"]:
        yield ""
        yield from aligned(_routes(found["assignment"], config))


def _routes(assignment: list[Json], config: Config) -> Table:
    """One row per bucket, one column per GPU type that serves any."""
    used = [name for name in config.gpus if any(route["gpu"] == name for route in assignment)]
    shares: dict[Cell, dict[str, float]] = {}
    for route in assignment:
        shares.setdefault(tuple(route["bucket"]), {})[route["gpu"]] = route["share"]
    rows = tuple(
        (f"[{cell[0]}, {cell[1]}]", f"{config.rates[cell]:.4g}", *(_percent(served.get(name)) for name in used))
        for cell, served in shares.items()
    )
    columns = ("BUCKET", "REQUESTS/S", *map(shown, used))
    return Table(columns, rows, frozenset(columns[1:]))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.3g}%"
