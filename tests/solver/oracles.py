"""Slow and simple ways to the same answers: complete enumeration, and slices as in Mélange's paper."""

from itertools import product
from math import inf

import pulp
from melange_slices import sliced

from motley_solver.problem import ModelDemand, Pool, Problem


def cheapest_by_enumeration(problem: Problem) -> float:
    """One GPU per node and replica: try every node count, ask a transport problem whether the load fits."""
    best = inf
    for counts in product(*(range(pool.max_nodes + 1) for pool in problem.pools)):
        cost = sum(n * pool.price_per_node_hour for n, pool in zip(counts, problem.pools, strict=True))
        if cost < best and _serves(problem, dict(zip((p.name for p in problem.pools), counts, strict=True))):
            best = cost
    return best


def _serves(problem: Problem, nodes: dict[str, int]) -> bool:
    """Every split of the nodes among the models."""
    pools = list(nodes)

    def split(models: tuple[ModelDemand, ...], left: dict[str, int]) -> bool:
        if not models:
            return True
        for mine in product(*(range(left[pool] + 1) for pool in pools)):
            given = dict(zip(pools, mine, strict=True))
            if _fits(models[0], given, problem):
                if split(models[1:], {pool: left[pool] - given[pool] for pool in pools}):
                    return True
        return False

    return split(problem.models, nodes)


def _fits(model: ModelDemand, nodes: dict[str, int], problem: Problem) -> bool:
    """Is there a flow of every bucket to these nodes? A prefilled share needs as large a decoded one."""
    program = pulp.LpProblem("fits", pulp.LpMinimize)
    work: dict[str, list[tuple[pulp.LpVariable, float]]] = {c.key: [] for c in model.configurations}
    fabrics = {pool.name: pool.fabric for pool in problem.pools}
    for i, load in enumerate(model.buckets):
        sums: dict[tuple[str, ...], list[tuple[pulp.LpVariable, float]]] = {}
        for j, c in enumerate(model.configurations):
            rate = c.capacity(load.bucket).rate
            if rate > 0:
                share = program.add_variable(f"s{i}_{j}", 0, 1)
                work[c.key].append((share, load.rate * (1 + problem.headroom) / rate))
                if c.role != "decode":
                    sums.setdefault((), []).append((share, 1.0))
                if c.role != "aggregated":
                    group = (fabrics[c.pools[0]], c.kv_class)
                    sums.setdefault(group, []).append((share, 1.0 if c.role == "prefill" else -1.0))
        if () not in sums:
            return False
        for ends, parts in sums.items():
            program += pulp.LpAffineExpression(parts) == (0 if ends else 1)
    for c in model.configurations:
        if work[c.key]:
            program += pulp.LpAffineExpression(work[c.key]) <= sum(nodes[pool] for pool in c.pools)
    program.solve(pulp.getSolver("HiGHS", msg=False))
    return bool(program.status == pulp.LpStatusOptimal)


def cheapest_by_slices(model: ModelDemand, pools: tuple[Pool, ...], slices: int) -> float:
    found = sliced(model, pools, slices)
    assert found.status == "optimal"
    return found.cost
