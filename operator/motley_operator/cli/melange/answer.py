"""The answer to Mélange's question: the cheapest mix, what is proven of it, and why there is none.
A mix found at once comes first: it answers within any time limit, and bounds what the optimisation has to look at."""

from collections.abc import Iterator
from math import inf
from time import monotonic
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from motley_operator.cli.jsoninput import shown
from motley_operator.cli.melange.config import MOST_INSTANCES, Config, Floats
from motley_operator.cli.melange.mix import Mix, at_once, least_bill, needed, settled
from motley_operator.cli.melange.question import bucket_of, problem_of
from motley_operator.cli.melange.simpler import PACKED, groups_of, packed, packs_for, parted, united
from motley_solver.ilp import solve
from motley_solver.plan import Infeasible, Unsolved

Json = dict[str, Any]
Cells: TypeAlias = NDArray[np.bool_]

RELATIVE_GAP = 1e-6
NO_LIMIT = 86_400.0
"""Seconds, where no time limit is given: exact, or it was a day."""
LEFT_OUT = 1e-5
"""Of a bucket: so much left out by a solver in trouble with large numbers is served all the same."""
LISTED = 20
"""Buckets that a reason names."""


def answer_of(config: Config, time_limit: float | None) -> Json:
    """The JSON object of `-o json`."""
    started = monotonic()
    mix, bound, why = _cheapest(config, started + (time_limit or NO_LIMIT))
    if mix is None:
        status = "infeasible" if bound == inf else "unsolved"
    else:
        status = "optimal" if _closed(mix, bound) else "feasible"
    return {
        "status": status,
        "cost": None if mix is None else mix.cost,
        "lower_bound": None if mix is None else min(mix.cost, bound),
        "counts": {} if mix is None else dict(zip(config.names, mix.counts.astype(int).tolist(), strict=True)),
        "assignment": [] if mix is None else list(_assignment(config, mix)),
        "reason": why,
        "solve_seconds": monotonic() - started,
    }


def _cheapest(config: Config, deadline: float) -> tuple[Mix | None, float, str]:
    """A mix, a cost that none is below (infinite: there is none), and why there is no mix."""
    if reasons := list(_hopeless(config)):
        return None, inf, "; ".join(reasons)
    groups = groups_of(config)
    fewer = united(config, groups)
    start, bound = at_once(fewer), least_bill(fewer)
    seconds = deadline - monotonic()
    if start is not None and (_closed(start, bound) or seconds <= 0):
        return parted(config, groups, start), bound, ""
    mix, proven, left = _solved(fewer, start, max(seconds, 1e-3))
    mixes = [parted(config, groups, one) for one in (mix, start) if one is not None]
    if not mixes:
        return None, proven, left if isinstance(left, str) else _too_small_caps(config, left)
    best = min(mixes, key=lambda one: one.cost)
    # A bound above a mix that is there is none: the solver's tolerances have misled it.
    return best, max(bound, proven if proven <= best.cost * (1 + RELATIVE_GAP) else 0.0), ""


def _closed(mix: Mix, bound: float) -> bool:
    return mix.cost - bound <= 1.001 * RELATIVE_GAP * mix.cost


def _solved(config: Config, start: Mix | None, seconds: float) -> tuple[Mix | None, float, Floats | str]:
    """By the planner: a mix, a cost that none is below, and the requests per second of each bucket that are left out;
    or why there is no answer."""
    packs = packs_for(config, 0.0 if start is None else start.cost)
    waste = float((packs * config.costs)[packs > 1].sum())
    most = inf if start is None else start.cost + waste
    outcome = solve(problem_of(packed(config, packs), most), seconds, RELATIVE_GAP - (PACKED if waste else 0.0))
    match outcome:
        case Infeasible(reasons=found):
            return None, inf, "; ".join(found)
        case Unsolved(reason=reason):
            return None, 0.0, reason
    columns = {bucket_of(cell): b for b, cell in enumerate(config.cells)}
    left = np.zeros(len(columns))
    for one in outcome.unserved:
        left[columns[one.bucket]] += one.rate
    if (left > LEFT_OUT * config.rates).any():
        if outcome.proven:
            return None, inf, left
        return None, 0.0, "no plan that serves all load was found in time: allow more with --time-limit"
    shares, counts = np.zeros(config.work.shape), np.zeros(len(config.names))
    for route in outcome.assignment:
        shares[int(route.configuration), columns[route.bucket]] = route.share
    for allocation in outcome.allocations:
        counts[int(allocation.pool)] = allocation.replicas
    return settled(config, shares, counts * packs), outcome.lower_bound - waste, left


def _assignment(config: Config, mix: Mix) -> Iterator[Json]:
    for b, k in np.argwhere(mix.shares.T > 0).tolist():
        share = min(1.0, float(mix.shares[k, b]))
        yield {"bucket": list(config.cells[b]), "gpu": config.names[k], "share": share}


# --- why there is none ---


def _hopeless(config: Config) -> Iterator[str]:
    """As far as that is plain without solving."""
    served = np.isfinite(config.work)
    without = np.logical_not(served.any(axis=0))
    if without.any():
        beyond = (config.tputs[:, without] > 0).any()
        limit = f" with {MOST_INSTANCES:g} instances or fewer" if beyond else ": its tputs are 0 everywhere"
        yield f"no GPU type serves {_listed(config, without)}{limit}"
    forbidden: Cells = ~without & ~served[config.caps > 0].any(axis=0)
    for names in sorted({tuple(np.flatnonzero(served[:, b]).tolist()) for b in np.flatnonzero(forbidden)}):
        cells: Cells = forbidden & (served.T == np.isin(np.arange(len(served)), names)).all(axis=1)
        able = " and ".join(shown(config.names[k]) for k in names)
        yield f"only {able} may serve {_listed(config, cells)}, and max is 0"
    endless = config.caps > needed(config)  # there is no cap, or it is never reached
    capped: Cells = ~without & ~forbidden & ~served[endless].any(axis=0)
    limits = np.where(endless | (config.caps < 1), np.nan, config.caps)[:, None]
    least = np.nanmin(config.work[:, capped] / limits, axis=0) if capped.any() else np.zeros(0)  # of any one cap
    if least.sum() > (~endless).sum() * (1 + LEFT_OUT):
        yield f"the caps ({_caps(config, capped)}) are too small for {_listed(config, capped)}"


def _too_small_caps(config: Config, left: Floats) -> str:
    cells: Cells = left > 0
    return f"the caps ({_caps(config, cells)}) leave {left.sum():.4g} requests/s of {_listed(config, cells)} unserved"


def _caps(config: Config, cells: Cells) -> str:
    """Of the types that serve any of these buckets."""
    able = (config.tputs[:, cells] > 0).any(axis=1) & np.isfinite(config.caps)
    return "max: " + ", ".join(f"{shown(config.names[k])} {config.caps[k]:.0f}" for k in np.flatnonzero(able))


def _listed(config: Config, cells: Cells) -> str:
    chosen = np.flatnonzero(cells).tolist()
    names = ", ".join("[{}, {}]".format(*config.cells[b]) for b in chosen[:LISTED])
    more = f" and {len(chosen) - LISTED} more" if len(chosen) > LISTED else ""
    return f"{'bucket' if len(chosen) == 1 else 'buckets'} {names}{more}"
