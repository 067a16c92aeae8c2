"""The same question made easier for a solver, without a dearer answer: equal types as one, types that another replaces
left out, and instances without number bought in packs."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from motley_operator.cli.melange.config import Config, Floats
from motley_operator.cli.melange.mix import Mix, needed

PACKED = 5e-7
"""Of the bill: what packs may cost more than single instances."""

Group = tuple[int, ...]  # indices of equal types


def groups_of(config: Config) -> list[Group]:
    """Of the types that are needed, those that are equal but for their caps."""
    found: dict[tuple[float, bytes], Group] = {}
    for k in _needed(config):
        alike = (float(config.costs[k]), config.work[k].tobytes())
        found[alike] = (*found.get(alike, ()), k)
    return list(found.values())


def _needed(config: Config) -> Iterator[int]:
    endless = np.flatnonzero(config.caps > needed(config))
    for k in range(len(config.names)):
        no_dearer = endless[(config.costs[endless] <= config.costs[k]) & (endless != k)]
        as_fast = no_dearer[(config.work[no_dearer] <= config.work[k]).all(axis=1)]
        equal = (config.costs[as_fast] == config.costs[k]) & (config.work[as_fast] == config.work[k]).all(axis=1)
        if config.caps[k] >= 1 and not (~equal | (as_fast < k)).any():
            yield k


def united(config: Config, groups: list[Group]) -> Config:
    """One type per group, with the caps of all its members together."""
    first = [group[0] for group in groups]
    return replace(
        config,
        names=tuple(config.names[k] for k in first),
        costs=config.costs[first],
        caps=np.array([config.caps[list(group)].sum() for group in groups]),
        tputs=config.tputs[first],
    )


def parted(config: Config, groups: list[Group], mix: Mix) -> Mix:
    """The mix of `united` types with each member's own count, the first as many as its cap has."""
    counts, shares = np.zeros(len(config.names)), np.zeros(config.work.shape)
    for index, group in enumerate(groups):
        left = mix.counts[index]
        for k in group:
            counts[k] = min(left, config.caps[k])
            shares[k] = mix.shares[index] * (counts[k] / max(1.0, mix.counts[index]))
            left -= counts[k]
    return Mix(mix.cost, counts, shares)


def packs_for(config: Config, bill: float) -> Floats:
    """Instances of each type that are bought at a time: more than one only where `bill` is of so many that it makes no
    difference. Whole numbers beyond some 10⁸ are beyond a solver's tolerances."""
    spare = PACKED / 2 * bill / len(config.names)
    packs = np.floor(np.divide(spare, config.costs, out=np.ones(len(config.costs)), where=config.costs > 0))
    found: Floats = np.where(config.caps > needed(config), np.maximum(packs, 1.0), 1.0)
    return found


def packed(config: Config, packs: Floats) -> Config:
    """One instance is a whole pack; those that come in packs have no cap that is ever reached."""
    caps = np.where(packs > 1, np.inf, config.caps)
    return replace(config, costs=config.costs * packs, caps=caps, tputs=config.tputs * packs[:, None])
