"""A mix: how many instances of each type, and who serves which part of each bucket; and one that is found at once.
It knows no program and no solver: bucket by bucket to the cheapest type, then what fewer instances would do."""

from dataclasses import dataclass

import numpy as np

from motley_operator.cli.melange.config import Config, Floats

ROUNDING = 5e-10
"""Of a load: so much above a whole number is floating point, not work."""
SWEEPS = 3
"""How often every type is asked whether fewer of it would do."""


@dataclass(frozen=True)
class Mix:
    cost: float  # per hour
    counts: Floats  # whole instances of each type
    shares: Floats  # [type, cell]; those of a cell add up to 1


def least_bill(config: Config) -> float:
    """No mix costs less: every bucket at its cheapest type, if parts of instances could be bought; those of a scarce
    type at a price at which no more is asked of it than there is, less what all of it is priced too high (the dual of
    the linear relaxation, which is a bound at whatever prices)."""
    prices, bills = config.costs.copy(), config.bills.copy()
    served = np.isfinite(config.work)
    bills[config.caps < 1] = np.inf
    scarce = np.flatnonzero((config.caps >= 1) & np.isfinite(config.caps))
    for k in np.tile(scarce, SWEEPS):
        cells = np.flatnonzero(served[k])
        worth = np.delete(bills[:, cells], k, axis=0).min(axis=0, initial=np.inf) / config.work[k, cells]
        order = np.argsort(-worth, kind="stable")
        beyond = worth[order][config.work[k, cells][order].cumsum() > config.caps[k]]
        prices[k] = max([config.costs[k], *beyond[np.isfinite(beyond)][:1]])
        bills[k, cells] = prices[k] * config.work[k, cells]
    above = config.caps[scarce] @ (prices[scarce] - config.costs[scarce])
    return max(0.0, float(bills.min(axis=0, initial=np.inf).sum() - above))


def at_once(config: Config) -> Mix | None:
    """A mix within the caps, in milliseconds; None where none was found, which proves nothing.

    Each bucket goes to the type where it costs least, as far as the cap reaches, then to the next. Then, type by type:
    is it cheaper with fewer of its instances than it takes now, down to what it fills?"""
    caps = config.caps
    best = _filled(config, caps)
    for _ in range(SWEEPS if best is not None else 0):
        before = best
        for k in np.argsort(-config.costs, kind="stable"):
            if best is not None and best.counts[k] > 0:
                fewer = np.where(np.arange(len(caps)) == k, best.counts[k] - 1, caps)
                other = _filled(config, fewer)
                if other is not None and other.cost < best.cost:
                    best, caps = other, fewer
        if best is before:
            break
    return best


def _filled(config: Config, caps: Floats) -> Mix | None:
    """Round by round: what is left goes to its cheapest type that has room; a type with too little keeps those for
    which the next best is dearest, by what an instance saves on them, and is full."""
    shares = np.zeros(config.work.shape)
    left = np.ones(len(config.cells))
    room = caps.copy()
    bills = np.where((caps >= 1)[:, None], config.bills, np.inf)
    while (open_cells := np.flatnonzero(left)).size:
        here = bills[:, open_cells]
        if not np.isfinite(here.min(axis=0)).all():
            return None
        chosen = here.argmin(axis=0)
        for k in np.unique(chosen):
            cells = open_cells[chosen == k]
            work = config.work[k, cells] * left[cells]
            part = np.ones(len(cells))
            if work.sum() > room[k] * (1 + ROUNDING):
                others = np.delete(bills[:, cells], k, axis=0).min(axis=0, initial=np.inf)
                order = np.argsort(-(others - bills[k, cells]) / config.work[k, cells], kind="stable")
                cells, work = cells[order], work[order]
                part = (room[k] - (work.cumsum() - work)) / work
                part = np.where(part > 1 - ROUNDING, 1.0, np.where(part < ROUNDING, 0.0, part))
                bills[k] = np.inf
            shares[k, cells] += part * left[cells]
            room[k] -= (part * work).sum()
            left[cells] *= 1 - part
    counts = np.minimum(caps, whole(loads(config, shares)))
    return Mix(float(counts @ config.costs), counts, shares)


def loads(config: Config, shares: Floats) -> Floats:
    """Instances' worth of work at each type."""
    found: Floats = (np.where(shares > 0, config.work, 0.0) * shares).sum(axis=1)
    return found


def needed(config: Config) -> Floats:
    """Instances of each type that would serve all load that it can serve."""
    return loads(config, np.isfinite(config.work).astype(float))


def whole(load: Floats) -> Floats:
    found: Floats = np.ceil(load * (1 - ROUNDING))
    return found


def settled(config: Config, shares: Floats, counts: Floats) -> Mix:
    """A mix of what the solver leaves: shares made to add up to 1 and kept within counts, which its tolerances are not.
    What is too much goes where there is room, else one more instance is bought, at last elsewhere."""
    shares, counts = shares / shares.sum(axis=0), counts.copy()
    served = np.isfinite(config.work)
    for _ in range(2 * len(counts)):
        load = loads(config, shares)
        over = np.flatnonzero(load > counts * (1 + ROUNDING))
        if not over.size:
            break
        k = over[0]
        for h, b in zip(*np.nonzero(served & (shares[k] > 0) & (load < counts)[:, None]), strict=True):
            here, there = config.work[k, b], config.work[h, b]
            part = min(shares[k, b], max(0.0, load[k] - counts[k]) / here, max(0.0, counts[h] - load[h]) / there)
            shares[k, b] -= part
            shares[h, b] += part
            load[k] -= part * here
            load[h] += part * there
        if load[k] > counts[k] * (1 + ROUNDING):
            able = (counts < config.caps) & served[:, shares[k] > 0].any(axis=1)
            if able[k]:
                counts[k] = min(config.caps[k], whole(load)[k])
            elif able.any():
                counts[np.where(able, config.costs, np.inf).argmin()] += 1
    counts = np.minimum(counts, whole(loads(config, shares)))
    return Mix(float(counts @ config.costs), counts, shares)
