"""Types that no cheapest mix needs apart: equal ones are as one, and what another serves as well for no more is left
out. A solver would try them in turn."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from motley_operator.cli.melange.config import Config
from motley_operator.cli.melange.mix import Mix, needed

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
