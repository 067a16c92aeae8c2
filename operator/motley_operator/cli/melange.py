"""`motley solve --melange`: the input of Mélange's released solver → the ordinary optimisation → its counts, proven.
One model, one replica per instance; Kubernetes and the operator have no part in it."""

import json
import sys
from collections.abc import Iterator, Mapping
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
    """One pool per GPU type, one pack of instances per node, and as many nodes as pay at all or `max` allows."""
    buckets = {cell: Bucket(*cell) for cell in config.rates}
    highest = _highest_bill(config)
    configurations, pools = [], []
    for name, gpu in config.gpus.items():
        pack = packs.get(name, 1)
        useful = min(_needed(config, gpu), highest / gpu.cost if gpu.cost else inf)
        most = ceil(useful / pack) + 1 if _endless(config, gpu) else gpu.most or 0
        pools.append(Pool(name, name, 1, 0.0, 0.0, gpu.cost * pack, most))
        able = {cell: gpu.tputs[cell] * pack for cell in config.rates if _serves(config, gpu, cell)}
        capacities = tuple(Capacity(buckets[cell], tput, tput) for cell, tput in able.items())
        configurations.append(Configuration(name, name, 1, (name,), capacities, EngineSettings(0, 0, 0), gpus=1))
    loads = tuple(BucketLoad(buckets[cell], rate) for cell, rate in config.rates.items())
    return Problem((ModelDemand("melange", loads, tuple(configurations)),), tuple(pools), headroom=config.headroom)


def _packs(config: Config) -> Mapping[str, int]:
    """How many instances of a type are bought at a time, where bills are of so many that it makes no difference.
    Whole numbers beyond some 10⁸ are beyond the solver's tolerances."""
    spare = PACKED / 2 * _highest_bill(config) / len(config.gpus)
    able = {name: gpu for name, gpu in config.gpus.items() if gpu.cost and _endless(config, gpu)}
    return {name: floor(spare / gpu.cost) for name, gpu in able.items() if spare >= 2 * gpu.cost}


def _highest_bill(config: Config) -> float:
    """Some mix costs no more: every bucket that may at its cheapest type without a cap, and all that caps allow."""
    loads: dict[str, float] = {}
    for cell in config.rates:
        bills = {name: bill for name, bill in _bills(config, cell).items() if _endless(config, config.gpus[name])}
        if bills:
            best = min(bills, key=lambda name: bills[name])
            loads[best] = loads.get(best, 0.0) + _instances(config, config.gpus[best], cell)
    capped = [gpu for gpu in config.gpus.values() if not _endless(config, gpu)]
    everything = fsum(ceil(load) * config.gpus[name].cost for name, load in loads.items())
    return everything + fsum((gpu.most or 0) * gpu.cost for gpu in capped)


def _bills(config: Config, cell: Cell) -> dict[str, float]:
    """What one bucket costs at each type that serves it."""
    able = {name: gpu for name, gpu in config.gpus.items() if _serves(config, gpu, cell)}
    return {name: _instances(config, gpu, cell) * gpu.cost for name, gpu in able.items()}


def _needed(config: Config, gpu: GpuType) -> float:
    """What all load that it can serve takes of one GPU type."""
    return fsum(_instances(config, gpu, cell) for cell in config.rates if _serves(config, gpu, cell))


def _endless(config: Config, gpu: GpuType) -> bool:
    """No cap, or one that is never reached."""
    return gpu.most is None or gpu.most > _needed(config, gpu)


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
        case Plan(complete=False, proven=True):
            return _without_plan("infeasible", _too_small_caps(config, outcome), started)
        case Plan(complete=False):
            return _without_plan("unsolved", "no plan that serves all load was found in time: allow more", started)
    counts = {name: _count(config, outcome, name, packs.get(name, 1)) for name in config.gpus}
    cost = fsum(count * config.gpus[name].cost for name, count in counts.items())
    return {
        "status": "optimal" if outcome.proven else "feasible",
        "cost": cost,
        "lower_bound": min(cost, outcome.lower_bound - waste),
        "counts": counts,
        "assignment": list(_assignment(outcome)),
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


def _count(config: Config, plan: Plan, name: str, pack: int) -> int:
    """All packs, without what the last one has to spare."""
    packed = pack * sum(allocation.replicas for allocation in plan.allocations if allocation.pool == name)
    routes = [route for route in plan.assignment if route.configuration == name]
    cells = [(route.bucket.input_tokens, route.bucket.output_tokens) for route in routes]
    load = fsum(
        route.share * _instances(config, config.gpus[name], cell) for route, cell in zip(routes, cells, strict=True)
    )
    return packed - max(0, min(pack - 1, floor(packed - load)))


def _assignment(plan: Plan) -> Iterator[Json]:
    """Shares that add up to 1 in every bucket, without the solver's tolerance."""
    totals: dict[Bucket, float] = {}
    for route in plan.assignment:
        totals[route.bucket] = totals.get(route.bucket, 0.0) + route.share
    for route in sorted(plan.assignment, key=lambda one: one.bucket):
        cell = [route.bucket.input_tokens, route.bucket.output_tokens]
        yield {"bucket": cell, "gpu": route.configuration, "share": route.share / totals[route.bucket]}


def _hopeless(config: Config) -> Iterator[str]:
    """Why no number of instances would do."""
    without: list[Cell] = []
    forbidden: dict[str, list[Cell]] = {}
    for cell in config.rates:
        able = [name for name, gpu in config.gpus.items() if _serves(config, gpu, cell)]
        if not able:
            without.append(cell)
        elif all(config.gpus[name].most == 0 for name in able):
            forbidden.setdefault(" and ".join(map(shown, able)), []).append(cell)
    if without:
        beyond = any(gpu.tputs[cell] for cell in without for gpu in config.gpus.values())
        limit = f" with {MOST_INSTANCES:g} instances or fewer" if beyond else ": its tputs are 0 everywhere"
        yield f"no GPU type serves {_listed(without)}{limit}"
    for names, cells in forbidden.items():
        yield f"only {names} may serve {_listed(cells)}, and max is 0"


def _too_small_caps(config: Config, plan: Plan) -> str:
    left = {(one.bucket.input_tokens, one.bucket.output_tokens): one.rate for one in plan.unserved}
    able = {name: gpu for name, gpu in config.gpus.items() if any(gpu.tputs[cell] > 0 for cell in left)}
    caps = ", ".join(f"{shown(name)} {gpu.most}" for name, gpu in able.items() if gpu.most is not None)
    return f"the caps (max: {caps}) leave {sum(left.values()):.4g} requests/s of {_listed(list(left))} unserved"


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
