"""From the solver's numbers to a Plan: clean shares, whole replicas and nodes, the bill, each model's part.
It repairs what floating point leaves and decides nothing else."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from motley_solver.packing import Size, nodes_needed, size_of
from motley_solver.plan import Allocation, Assignment, ModelSummary, Plan, PoolNodes, Unserved
from motley_solver.problem import Capacity, Configuration, ModelDemand, Problem
from motley_solver.reasons import hopeless, room_in, scarce
from motley_solver.workload import Bucket

_SHARE = 1e-9  # below this a share is noise
_ROUNDING = 5e-7  # relative overload that is the solver's tolerance: shaved off the shares, not given a replica


@dataclass(frozen=True)
class Solution:
    """Raw values: share per (model, bucket, configuration), replicas per (model, configuration, pool), nodes."""

    shares: Mapping[tuple[str, Bucket, str], float]
    replicas: Mapping[tuple[str, str, str], float]
    nodes: Mapping[str, float]


def usable_capacity(model: ModelDemand, capacity: Capacity) -> tuple[float, bool]:
    """(requests per second of one replica, within the SLO?); outside it only where inside is impossible."""
    if capacity.rate > 0:
        return capacity.rate, True
    return (capacity.best_effort if model.attainment < 1 else 0.0), False


def plan_of(problem: Problem, solution: Solution, lower_bound: float, proven: bool, seconds: float) -> Plan:
    shares = _clean(problem, solution.shares)
    loads = _loads(problem, shares)
    replicas = _whole_replicas(problem, solution.replicas, loads)
    _shave(shares, loads, replicas)
    nodes = _whole_nodes(problem, solution, replicas)
    prices = {pool.name: pool.price_per_node_hour for pool in problem.pools}
    cost = sum(prices[name] * count for name, count in nodes.items())
    allocations = tuple(_allocations(problem, replicas))
    assignment = tuple(_assignment(problem, shares, replicas))
    return Plan(
        allocations=allocations,
        nodes=tuple(PoolNodes(p.name, nodes.get(p.name, 0), p.price_per_node_hour) for p in problem.pools),
        cost_per_hour=cost,
        objective=cost,
        lower_bound=min(lower_bound, cost),
        proven=proven,
        assignment=assignment,
        unserved=tuple(_unserved(problem, shares, replicas, nodes, cost)),
        models=tuple(_summaries(problem, assignment, allocations, nodes)),
        solve_seconds=seconds,
    )


_Shares = dict[tuple[str, Bucket, str], float]
_Replicas = dict[tuple[str, str, str], int]


def _clean(problem: Problem, raw: Mapping[tuple[str, Bucket, str], float]) -> _Shares:
    """Without noise; the shares of a bucket that is served but for rounding add up to 1."""
    kept = {key: min(1.0, value) for key, value in raw.items() if value > _SHARE}
    totals: dict[tuple[str, Bucket], float] = defaultdict(float)
    for (model, bucket, _), value in kept.items():
        totals[model, bucket] += value
    whole = {key: total if total > 1 - 1e-7 else 1.0 for key, total in totals.items()}
    return {key: value / whole[key[0], key[1]] for key, value in kept.items()}


def _loads(problem: Problem, shares: _Shares) -> dict[tuple[str, str], float]:
    """Replicas' worth of work per (model, configuration)."""
    loads: dict[tuple[str, str], float] = defaultdict(float)
    for model in problem.models:
        rates = {load.bucket: load.rate * (1 + problem.headroom) for load in model.buckets}
        for configuration in model.configurations:
            capacities = {c.bucket: usable_capacity(model, c)[0] for c in configuration.capacities}
            for bucket, rate in rates.items():
                share = shares.get((model.name, bucket, configuration.key), 0.0)
                if share > 0:
                    loads[model.name, configuration.key] += rate * share / capacities[bucket]
    return loads


def _whole_replicas(
    problem: Problem, raw: Mapping[tuple[str, str, str], float], loads: Mapping[tuple[str, str], float]
) -> _Replicas:
    """Rounded; a configuration that is used has at least what its load needs, so at least one."""
    replicas = {key: round(value) for key, value in raw.items() if round(value) > 0}
    placed: Counter[tuple[str, str]] = Counter()
    for (model, configuration, _), count in replicas.items():
        placed[model, configuration] += count
    pools = {pool.name: pool for pool in problem.pools}
    configurations = {(m.name, c.key): c for m in problem.models for c in m.configurations}
    needed = {key: max(1, ceil(load * (1 - _ROUNDING) - 1e-12)) for key, load in loads.items()}
    for key, count in needed.items():
        missing = count - placed[key]
        if missing > 0:
            rooms = [pool.name for pool in room_in(configurations[key], pools)]
            best = max(rooms, key=lambda name: (replicas.get((*key, name), 0), name))
            replicas[*key, best] = replicas.get((*key, best), 0) + missing
    exactly = {key: max(1, ceil(load * (1 - 1e-9))) for key, load in loads.items()}
    return _without_surplus(problem, replicas, exactly)


def _without_surplus(problem: Problem, replicas: _Replicas, needed: Mapping[tuple[str, str], int]) -> _Replicas:
    """Replicas have no price of their own, so the solver may leave more than the load needs on a node already paid."""
    kept = dict(replicas)
    prices = {pool.name: pool.price_per_node_hour for pool in problem.pools}
    totals: Counter[str] = Counter()
    placed: Counter[tuple[str, str]] = Counter()
    for (model, configuration, _), count in replicas.items():
        totals[model] += count
        placed[model, configuration] += count
    least = {model.name: model.min_replicas for model in problem.models}
    for key in sorted(replicas, key=lambda k: (-prices[k[2]], k)):
        model, configuration, _ = key
        surplus = placed[model, configuration] - needed.get((model, configuration), 0)
        drop = max(0, min(kept[key], surplus, totals[model] - least[model]))
        kept[key] -= drop
        totals[model] -= drop
        placed[model, configuration] -= drop
    return {key: count for key, count in kept.items() if count}


def _shave(shares: _Shares, loads: Mapping[tuple[str, str], float], replicas: _Replicas) -> None:
    """Take the solver's tolerance off the shares, so that no replica is overloaded."""
    placed: Counter[tuple[str, str]] = Counter()
    for (model, configuration, _), count in replicas.items():
        placed[model, configuration] += count
    for key, value in shares.items():
        load, count = loads.get((key[0], key[2]), 0.0), placed[key[0], key[2]]
        if load > count:
            shares[key] = value * count / load


def _whole_nodes(problem: Problem, solution: Solution, replicas: _Replicas) -> dict[str, int]:
    """As many as first-fit decreasing needs; the solver's own number where it knows a tighter packing."""
    configurations = {(m.name, c.key): c for m in problem.models for c in m.configurations}
    nodes: dict[str, int] = {}
    for pool in problem.pools:
        here = {key: count for key, count in replicas.items() if key[2] == pool.name}
        sizes: Counter[Size] = Counter()
        for (model, key, _), count in here.items():
            sizes[size_of(configurations[model, key])] += count
        needed = nodes_needed(sizes, pool)
        solved = round(solution.nodes.get(pool.name, 0.0))
        as_solved = all(count == round(solution.replicas.get(key, 0.0)) for key, count in here.items())
        used = solved if as_solved and needed > solved else int(needed)
        if used:
            nodes[pool.name] = used
    return nodes


def _allocations(problem: Problem, replicas: _Replicas) -> Iterator[Allocation]:
    for model in problem.models:
        for c in model.configurations:
            for pool in problem.pools:
                count = replicas.get((model.name, c.key, pool.name), 0)
                if count:
                    yield Allocation(
                        model=model.name,
                        pool=pool.name,
                        gpu=c.gpu,
                        tensor_parallel=c.tensor_parallel,
                        role=c.role,
                        replicas=count,
                        configuration=c.key,
                        settings=c.settings,
                        gpus=c.gpus,
                        estimated=c.estimated,
                    )


def _assignment(problem: Problem, shares: _Shares, replicas: _Replicas) -> Iterator[Assignment]:
    running = {(model, configuration) for model, configuration, _ in replicas}
    for model in problem.models:
        here = [c for c in model.configurations if (model.name, c.key) in running]
        for load in model.buckets:
            for c in here:
                share = shares.get((model.name, load.bucket, c.key), 0.0)
                if share > 0:
                    within = c.capacity(load.bucket).rate > 0
                    yield Assignment(model.name, load.bucket, c.key, share, within)
            if load.rate == 0:
                yield from _idle_route(model, load.bucket, here)


def _idle_route(model: ModelDemand, bucket: Bucket, running: list[Configuration]) -> Iterator[Assignment]:
    """Sizes without traffic go to the replicas that serve them best, so that a first request finds a way."""
    able = [(c.capacity(bucket).rate, c.capacity(bucket).best_effort, c.key) for c in running]
    best = max(able, default=(0.0, 0.0, ""))
    if best[0] > 0 or best[1] > 0:
        yield Assignment(model.name, bucket, best[2], 1.0, best[0] > 0)


def _unserved(
    problem: Problem, shares: _Shares, replicas: _Replicas, nodes: Mapping[str, int], cost: float
) -> Iterator[Unserved]:
    for model in problem.models:
        count = sum(n for (name, _, _), n in replicas.items() if name == model.name)
        complete = True
        for load in model.buckets:
            served = sum(shares.get((model.name, load.bucket, c.key), 0.0) for c in model.configurations)
            left = load.rate * (1 - served)
            if load.rate > 0 and 1 - served > 1e-6:
                reason = hopeless(problem, model, load.bucket)
                reason = reason or scarce(problem, model, load.bucket, nodes, cost, count)
                complete = False
                yield Unserved(model.name, load.bucket, left, reason)
        if complete and model.min_replicas > count:
            bucket = model.buckets[0].bucket if model.buckets else Bucket(0, 0)
            reason = hopeless(problem, model, bucket) or scarce(problem, model, bucket, nodes, cost, count)
            said = f"minReplicas is {model.min_replicas}, planned are {count}: {reason}"
            yield Unserved(model.name, bucket, 0.0, said)


def _weight(allocation: Allocation, configuration: Configuration) -> float:
    """A replica's part of the node it stands on."""
    return float(allocation.replicas * (allocation.gpus or configuration.cpus or 1))


def _summaries(
    problem: Problem,
    assignment: tuple[Assignment, ...],
    allocations: tuple[Allocation, ...],
    nodes: Mapping[str, int],
) -> Iterator[ModelSummary]:
    configurations = {(m.name, c.key): c for m in problem.models for c in m.configurations}
    weights = {a: _weight(a, configurations[a.model, a.configuration]) for a in allocations}
    in_pool: dict[str, float] = defaultdict(float)
    for a, weight in weights.items():
        in_pool[a.pool] += weight
    bills = {pool.name: pool.price_per_node_hour * nodes.get(pool.name, 0) for pool in problem.pools}
    for model in problem.models:
        rates = {load.bucket: load.rate for load in model.buckets}
        mine = [a for a in allocations if a.model == model.name]
        routes = [a for a in assignment if a.model == model.name]
        yield ModelSummary(
            model=model.name,
            replicas=sum(a.replicas for a in mine),
            rate=model.rate,
            served=sum(rates[a.bucket] * a.share for a in routes),
            within_slo=sum(rates[a.bucket] * a.share for a in routes if a.within_slo),
            cost_per_hour=sum(bills[a.pool] * weights[a] / in_pool[a.pool] for a in mine),
            estimated=any(a.estimated for a in mine),
        )
