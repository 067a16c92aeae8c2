"""A poor plan in no time: one model after the other, each size to the replicas that take it for the least money more.
Prefill and decode apart, and what may be outside the SLO, are left to the programs."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from motley_solver.ilp.serving import Kind
from motley_solver.packing import Size, nodes_needed, per_node, size_of
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem
from motley_solver.rounding import Solution
from motley_solver.workload import Bucket

_SLACK = 1e-9  # replicas


class Room:
    """What stands in the pools, and how much more does."""

    def __init__(self, problem: Problem) -> None:
        self.pools, self.budget = problem.pools, problem.budget_per_hour
        self.placed: dict[str, Counter[Size]] = {pool.name: Counter() for pool in problem.pools}
        self.nodes: dict[str, float] = {pool.name: 0 for pool in problem.pools}

    def place(self, size: Size, pool: Pool, count: int) -> None:
        self.placed[pool.name][size] += count
        self.nodes[pool.name] = max(self.nodes[pool.name], nodes_needed(self.placed[pool.name], pool))

    def most(self, size: Size, pool: Pool, wanted: int) -> int:
        """How many of so many wanted replicas there is room for, by bisection."""
        if self._fits(size, pool, wanted):
            return wanted
        fits, too_many = 0, wanted
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            fits, too_many = (middle, too_many) if self._fits(size, pool, middle) else (fits, middle)
        return fits

    def _fits(self, size: Size, pool: Pool, count: int) -> bool:
        needed = nodes_needed(self.placed[pool.name] + Counter({size: count}), pool)
        if self.budget is None or needed <= self.nodes[pool.name]:
            return needed <= pool.max_nodes
        nodes = {**self.nodes, pool.name: needed}
        bill = sum(p.price_per_node_hour * max(nodes[p.name], p.reserved_nodes) for p in self.pools)
        return needed <= pool.max_nodes and bill <= self.budget


@dataclass
class _Chosen:
    """One model's possible replicas, an entry per place, and what is planned of them."""

    places: list[tuple[Configuration, Pool]]
    work: NDArray[np.float64]  # replicas that a size takes, by place and size; inf where it cannot be served
    prices: NDArray[np.float64]  # of a replica: its part of a node's
    counts: NDArray[np.int_]
    held: NDArray[np.float64]  # replicas that are busy
    shares: dict[tuple[int, int], float] = field(default_factory=dict)  # (place, size)

    def add(self, room: Room, at: int, wanted: int, most: float) -> int:
        """As many replicas in this place as there is room for."""
        c, pool = self.places[at]
        wanted = int(min(wanted, most - self.counts.sum()))
        count = room.most(size_of(c), pool, wanted) if wanted > 0 else 0
        if count:
            room.place(size_of(c), pool, count)
            self.counts[at] += count
        return count


def greedily(
    problem: Problem, models: Iterable[tuple[ModelDemand, tuple[Kind, ...]]], room: Room
) -> tuple[Solution, bool]:
    """These models, with what they may run, in turn on what is left in the pools; is everything served?"""
    shares: dict[tuple[str, Bucket, str], float] = defaultdict(float)
    replicas: dict[tuple[str, str, str], float] = {}
    complete = True
    for model, kinds in models:
        chosen, whole = _planned(problem, model, kinds, room)
        complete = complete and whole
        loads = [load for load in model.buckets if load.rate > 0]
        for (at, size), share in chosen.shares.items():
            shares[model.name, loads[size].bucket, chosen.places[at][0].key] += share
        for (c, pool), count in zip(chosen.places, chosen.counts, strict=True):
            replicas[model.name, c.key, pool.name] = int(count)
    return Solution(shares, replicas, room.nodes, {}), complete


def _planned(problem: Problem, model: ModelDemand, kinds: tuple[Kind, ...], room: Room) -> tuple[_Chosen, bool]:
    chosen = _choices(problem, model, kinds)
    most = inf if model.max_replicas is None else model.max_replicas
    least = (chosen.work * chosen.prices[:, None]).min(axis=0, initial=inf)
    complete = all([_serve(chosen, room, int(size), most) for size in np.argsort(-least, kind="stable")])
    for at in np.argsort(chosen.prices, kind="stable"):
        missing = model.min_replicas - int(chosen.counts.sum())
        chosen.add(room, int(at), missing, most)
    return chosen, complete and chosen.counts.sum() >= model.min_replicas


def _serve(chosen: _Chosen, room: Room, size: int, most: float) -> bool:
    """The whole size where that costs least; as far as there is room, the rest where it costs least then."""
    work, left = chosen.work[:, size], 1.0
    after = np.ceil(chosen.held + work - _SLACK) - chosen.counts
    costs = np.where(np.isfinite(work), np.maximum(after, 0) * chosen.prices + _SLACK * work, inf)
    for at in (int(at) for at in np.argsort(costs, kind="stable") if costs[at] < inf):
        wanted = ceil(chosen.held[at] + work[at] * left - _SLACK) - int(chosen.counts[at])
        chosen.add(room, at, max(wanted, 1 - int(chosen.counts[at])), most)
        share = min(left, max(0.0, chosen.counts[at] - chosen.held[at]) / work[at])
        if share > 0:
            chosen.shares[at, size] = share
            chosen.held[at] += share * work[at]
            left -= share
        if left <= _SLACK:
            return True
    return False


def _choices(problem: Problem, model: ModelDemand, kinds: tuple[Kind, ...]) -> _Chosen:
    """A model that must survive the loss of a spot pool stays away from them."""
    loads = np.array([load.rate for load in model.buckets if load.rate > 0]) * (1 + problem.headroom)
    places, work = [], []
    for kind in (kind for kind in kinds if kind.role == "aggregated"):
        rates = np.array([0.0 if outside else rate for rate, outside in kind.rates])
        needed = np.divide(loads, rates, out=np.full(len(loads), inf), where=rates > 0)
        for c, pools in kind.members:
            here = [(c, pool) for pool in pools if not (pool.spot and model.survivability > 0)]
            places += here
            work += [needed] * len(here)
    prices = np.array([pool.price_per_node_hour / per_node(size_of(c), pool) for c, pool in places])
    nothing = np.zeros(len(places))
    return _Chosen(places, np.array(work).reshape(len(places), len(loads)), prices, nothing.astype(int), nothing)
