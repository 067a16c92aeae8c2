"""From the optimisation's floating-point values to whole replicas, whole nodes and clean shares.
It repairs what tolerances leave and decides nothing else."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from motley_solver.packing import Size, nodes_needed, size_of
from motley_solver.problem import Capacity, Configuration, ModelDemand, Pool, Problem, Role
from motley_solver.reasons import room_in
from motley_solver.workload import Bucket

_SHARE = 1e-9  # below this a share is noise
_ROUNDING = 5e-7  # relative overload that is the solver's tolerance: shaved off the shares, not given a replica

Shares = Mapping[tuple[str, Bucket, str], float]  # of the bucket (model, bucket), to a configuration
Replicas = Mapping[tuple[str, str, str], int]  # (model, configuration, pool)
Group = tuple[str, str]  # fabric and KV class, within which KV caches can be handed on

_Loads = Mapping[tuple[str, str], float]  # replicas' worth of work per (model, configuration)


@dataclass(frozen=True)
class Solution:
    """Raw values. `survivals`: per spot pool, the shares with which the other replicas go on when it is lost."""

    shares: Shares
    replicas: Mapping[tuple[str, str, str], float]
    nodes: Mapping[str, float]
    survivals: Mapping[str, Shares]


@dataclass(frozen=True)
class Rounded:
    shares: Shares
    replicas: Replicas
    nodes: Mapping[str, int]
    survivals: Mapping[str, Shares]


def usable_capacity(model: ModelDemand, capacity: Capacity) -> tuple[float, float]:
    """(requests per second of one replica, part of them outside the SLO); outside only where inside is impossible."""
    if capacity.rate > 0:
        return capacity.rate, 0.0
    return (capacity.best_effort if model.attainment < 1 else 0.0), capacity.outside


def kv_group(configuration: Configuration, pools: Mapping[str, Pool]) -> Group | None:
    """None where no KV cache can be handed on: its pools lie in no fabric, or in several."""
    fabrics = {pools[name].fabric for name in configuration.pools if name in pools}
    return (fabrics.pop(), configuration.kv_class) if len(fabrics) == 1 and "" not in fabrics else None


def answering(model: ModelDemand, replicas: Mapping[str, int], pools: Mapping[str, Pool]) -> int:
    """What minReplicas counts, of so many replicas by configuration: those that can answer a request alone, and in each
    fabric and KV class a prefill and a decode replica as one."""
    alone = 0
    halves: dict[Group | None, Counter[Role]] = defaultdict(Counter)
    for c in model.configurations:
        if c.role == "aggregated":
            alone += replicas.get(c.key, 0)
        else:
            halves[kv_group(c, pools)][c.role] += replicas.get(c.key, 0)
    return alone + sum(min(count["prefill"], count["decode"]) for count in halves.values())


def rounded(problem: Problem, solution: Solution) -> Rounded:
    rounding = _Rounding(problem)
    solved = {key: round(value) for key, value in solution.replicas.items()}
    shares = rounding.clean(solution.shares, placed_of(solved), 1 + problem.headroom)
    survivals = {
        lost: rounding.clean(raw, placed_of(solved, without=lost), 1.0) for lost, raw in solution.survivals.items()
    }
    loads = {"": rounding.loads(shares, 1 + problem.headroom)}
    loads |= {lost: rounding.loads(rest, 1.0) for lost, rest in survivals.items()}
    replicas = _without_surplus(problem, rounding.enough(solution.replicas, loads[""]), loads)
    placed = {lost: placed_of(replicas, without=lost) for lost in loads}
    return Rounded(
        rounding.shaved(shares, loads[""], placed[""]),
        replicas,
        rounding.whole_nodes(solution, replicas),
        {lost: rounding.shaved(rest, loads[lost], placed[lost]) for lost, rest in survivals.items()},
    )


def placed_of(replicas: Replicas, without: str = "") -> Counter[tuple[str, str]]:
    """Replicas per (model, configuration), outside one pool."""
    placed: Counter[tuple[str, str]] = Counter()
    for (model, configuration, pool), count in replicas.items():
        if pool != without:
            placed[model, configuration] += count
    return placed


class _Rounding:
    def __init__(self, problem: Problem) -> None:
        self.pools = {pool.name: pool for pool in problem.pools}
        self.models = {model.name: model for model in problem.models}
        self.configurations = {(m.name, c.key): c for m in problem.models for c in m.configurations}
        self.rates = {(m.name, load.bucket): load.rate for m in problem.models for load in m.buckets}

    def clean(self, raw: Shares, placed: Mapping[tuple[str, str], int], factor: float) -> Shares:
        """Without noise; the shares of a bucket that is served but for rounding add up to 1. What the solver's
        tolerance has left where no replica stands goes to the others of the bucket, if they have room: it would cost a
        replica."""
        kept = self.balanced({key: min(1.0, value) for key, value in raw.items() if value > _SHARE})
        totals = self._totals(kept)
        whole = {here: 1.0 if total > 1 - 1e-7 else total for here, total in totals.items()}
        standing = self.balanced({here: share for here, share in kept.items() if placed.get((here[0], here[2]), 0)})
        found = self._scaled(standing, whole)
        room = all(load <= placed[here] * (1 + _ROUNDING) for here, load in self.loads(found, factor).items())
        return found if room and self._totals(found).keys() == totals.keys() else self._scaled(kept, whole)

    def _totals(self, shares: Shares) -> Mapping[tuple[str, Bucket], float]:
        """The served part of each bucket."""
        totals: dict[tuple[str, Bucket], float] = defaultdict(float)
        for (model, bucket, key), value in shares.items():
            if self.configurations[model, key].role != "decode":
                totals[model, bucket] += value
        return totals

    def _scaled(self, shares: Shares, totals: Mapping[tuple[str, Bucket], float]) -> Shares:
        now = self._totals(shares)
        return {key: value * (totals[key[0], key[1]] / now[key[0], key[1]]) for key, value in shares.items()}

    def balanced(self, shares: Shares) -> Shares:
        """As much is decoded as is prefilled: in each fabric and KV class the larger sum is scaled down."""
        sums: dict[tuple[str, Bucket, Group | None, str], float] = defaultdict(float)
        sides = {}
        for model, bucket, key in shares:
            c = self.configurations[model, key]
            if c.role != "aggregated":
                group = kv_group(c, self.pools)
                sides[model, bucket, key] = [(model, bucket, group, role) for role in ("prefill", "decode")]
                sums[model, bucket, group, c.role] += shares[model, bucket, key]
        factors = dict.fromkeys(shares, 1.0)
        for (model, bucket, key), both in sides.items():
            mine = sums[model, bucket, both[0][2], self.configurations[model, key].role]
            factors[model, bucket, key] = min(sums[side] for side in both) / mine
        return {here: share * factors[here] for here, share in shares.items() if factors[here] > 0}

    def loads(self, shares: Shares, factor: float) -> _Loads:
        loads: dict[tuple[str, str], float] = defaultdict(float)
        for (model, bucket, key), share in shares.items():
            capacity, _ = usable_capacity(self.models[model], self.configurations[model, key].capacity(bucket))
            loads[model, key] += self.rates[model, bucket] * factor * share / capacity
        return loads

    def enough(self, raw: Mapping[tuple[str, str, str], float], loads: _Loads) -> Replicas:
        """Rounded; a configuration that is used has at least what its load needs, so at least one."""
        replicas = {key: round(value) for key, value in raw.items() if round(value) > 0}
        placed = placed_of(replicas)
        for key, load in loads.items():
            missing = max(1, ceil(load * (1 - _ROUNDING) - 1e-12)) - placed[key]
            if missing > 0:
                rooms = [pool.name for pool in room_in(self.configurations[key], self.pools)]
                best = max(rooms, key=lambda name: (replicas.get((*key, name), 0), name))
                replicas[*key, best] = replicas.get((*key, best), 0) + missing
        return replicas

    def shaved(self, shares: Shares, loads: _Loads, placed: Mapping[tuple[str, str], int]) -> Shares:
        """The solver's tolerance is taken off, so that no replica is overloaded."""
        over = {key: placed.get(key, 0) / load for key, load in loads.items() if load > placed.get(key, 0)}
        less = {here: share * over.get((here[0], here[2]), 1.0) for here, share in shares.items()}
        return self.balanced({here: share for here, share in less.items() if share > 0})

    def whole_nodes(self, solution: Solution, replicas: Replicas) -> Mapping[str, int]:
        """As many as first-fit decreasing needs; the solver's own number where it knows a tighter packing."""
        here: dict[str, dict[tuple[str, str, str], int]] = defaultdict(dict)
        for key, count in replicas.items():
            here[key[2]][key] = count
        return {name: self._nodes(pool, solution, here[name]) for name, pool in self.pools.items()}

    def _nodes(self, pool: Pool, solution: Solution, here: Replicas) -> int:
        sizes: Counter[Size] = Counter()
        for (model, key, _), count in here.items():
            sizes[size_of(self.configurations[model, key])] += count
        needed = nodes_needed(sizes, pool)
        solved = round(solution.nodes.get(pool.name, 0.0))
        as_solved = all(count <= round(solution.replicas.get(key, 0.0)) for key, count in here.items())
        return solved if as_solved and needed > solved else int(needed)


def _without_surplus(problem: Problem, replicas: Replicas, loads: Mapping[str, _Loads]) -> Replicas:
    """Replicas have no price of their own, so the solver may leave more than the loads need on a node already paid.
    `loads`: with all pools ("") and when one of them is lost."""
    kept = dict(replicas)
    pools = {pool.name: pool for pool in problem.pools}
    models = {model.name: model for model in problem.models}
    totals: dict[str, Counter[str]] = defaultdict(Counter)  # by configuration
    for (name, configuration, _), count in replicas.items():
        totals[name][configuration] += count
    placed = {lost: placed_of(replicas, without=lost) for lost in loads}
    for key in sorted(replicas, key=lambda k: (-pools[k[2]].price_per_node_hour, k)):
        name, configuration, pool = key
        model, total = models[name], totals[name]
        counted = [lost for lost in loads if lost != pool]
        surplus = min(placed[lost][name, configuration] - _needed(loads[lost], key) for lost in counted)
        drop = max(0, min(kept[key], surplus))
        if model.min_replicas and drop:
            before = answering(model, total, pools)
            after = answering(model, total - Counter({configuration: drop}), pools)
            drop -= max(0, min(before, model.min_replicas) - after)
        kept[key] -= drop
        total[configuration] -= drop
        for lost in counted:
            placed[lost][name, configuration] -= drop
    return {key: count for key, count in kept.items() if count}


def _needed(loads: _Loads, key: tuple[str, str, str]) -> int:
    load = loads.get((key[0], key[1]), 0.0)
    return max(1, ceil(load * (1 - 1e-9))) if load > 0 else 0
