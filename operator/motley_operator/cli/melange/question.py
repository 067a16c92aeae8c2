"""Mélange's configuration as the planner's problem: one model, one pool per GPU type, one instance per node."""

from math import inf

import numpy as np

from motley_operator.cli.melange.config import Cell, Config, Floats
from motley_operator.cli.melange.mix import ROUNDING, needed
from motley_solver.problem import Capacity, Configuration, EngineSettings, ModelDemand, Pool, Problem
from motley_solver.workload import Bucket, BucketLoad


def problem_of(config: Config, bill: float = inf) -> Problem:
    """Pools and configurations are named by the index of their type. As there is a mix of this bill, there are no more
    nodes than it would buy; types of which it buys none are left out, for their price would only blur the others'."""
    most = _most_instances(config, bill * (1 + ROUNDING))
    buckets = [bucket_of(cell) for cell in config.cells]
    pools, configurations = [], []
    for k in np.flatnonzero(most >= 1).tolist():
        name = str(k)
        pools.append(Pool(name, name, 1, 0.0, 0.0, float(config.costs[k]), int(most[k])))
        tputs = np.where(np.isfinite(config.work[k]), config.tputs[k], 0.0).tolist()
        able = tuple(Capacity(bucket, tput, tput) for bucket, tput in zip(buckets, tputs, strict=True) if tput > 0)
        configurations.append(Configuration(name, name, 1, (name,), able, EngineSettings(0, 0, 0), gpus=1))
    loads = tuple(BucketLoad(bucket, rate) for bucket, rate in zip(buckets, config.rates.tolist(), strict=True))
    return Problem((ModelDemand("melange", loads, tuple(configurations)),), tuple(pools), headroom=config.headroom)


def bucket_of(cell: Cell) -> Bucket:
    """Named by its place in the table; the planner asks no more of it."""
    return Bucket(*cell)


def _most_instances(config: Config, bill: float) -> Floats:
    """Of each type: its cap, what all load that it can serve takes, and what the bill would buy."""
    affordable = np.divide(bill, config.costs, out=np.full(len(config.names), inf), where=config.costs > 0)
    found: Floats = np.minimum(np.minimum(config.caps, np.ceil(needed(config)) + 1), np.floor(affordable))
    return found
