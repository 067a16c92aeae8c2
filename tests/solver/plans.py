"""Plans made by hand: a test says replicas, nodes and routes; the figures follow."""

from collections import defaultdict
from collections.abc import Mapping

from motley_solver.plan import Allocation, Assignment, ModelSummary, Plan, PoolNodes, Survival, Unserved
from motley_solver.problem import Problem

Places = Mapping[tuple[str, str, str], int]
"""Replicas by (model, configuration, pool)."""


def plan_by_hand(
    problem: Problem,
    replicas: Places,
    nodes: Mapping[str, int],
    routes: tuple[Assignment, ...],
    unserved: tuple[Unserved, ...] = (),
    survivals: tuple[Survival, ...] = (),
) -> Plan:
    """One size of replica per pool, so that a model's part of a pool is its part of the replicas."""
    pools = {pool.name: pool for pool in problem.pools}
    bought = tuple(
        PoolNodes(p.name, nodes.get(p.name, 0), p.price_per_node_hour, p.reserved_nodes) for p in pools.values()
    )
    bill = sum(max(n.nodes, n.reserved) * n.price_per_node_hour for n in bought)
    risk = sum(n.nodes * n.price_per_node_hour * pools[n.pool].interruptions_per_hour for n in bought)
    risk *= problem.start_hours
    switching = _switching(problem, replicas) * problem.start_hours / problem.horizon_hours
    return Plan(
        allocations=tuple(_allocation(problem, *place, count) for place, count in replicas.items()),
        nodes=bought,
        cost_per_hour=bill,
        objective=bill + risk + switching,
        lower_bound=0.9 * bill,
        proven=False,
        assignment=routes,
        unserved=unserved,
        models=tuple(_summary(problem, model.name, replicas, nodes, routes) for model in problem.models),
        solve_seconds=0.1,
        switching_per_hour=switching,
        risk_per_hour=risk,
        survivals=survivals,
    )


def _allocation(problem: Problem, model: str, key: str, pool: str, count: int) -> Allocation:
    c = next(c for m in problem.models for c in m.configurations if (m.name, c.key) == (model, key))
    return Allocation(model, pool, c.gpu, c.tensor_parallel, c.role, count, key, c.settings, c.gpus, c.estimated)


def _switching(problem: Problem, replicas: Places) -> float:
    running = {(r.model, r.configuration, r.pool): r.replicas for r in problem.running}
    pools = {pool.name: pool for pool in problem.pools}
    gpus = {(m.name, c.key): c.gpus for m in problem.models for c in m.configurations}
    cost = 0.0
    for place, count in replicas.items():
        pool = pools[place[2]]
        per_node = pool.gpus_per_node // max(1, gpus[place[:2]])  # on a CPU pool: as if one
        cost += max(0, count - running.get(place, 0)) * pool.price_per_node_hour / per_node
    return cost


def _summary(
    problem: Problem, name: str, replicas: Places, nodes: Mapping[str, int], routes: tuple[Assignment, ...]
) -> ModelSummary:
    model = next(m for m in problem.models if m.name == name)
    rates = {load.bucket: load.rate for load in model.buckets}
    mine = [route for route in routes if route.model == name]
    served = sum(rates[r.bucket] * r.share for r in mine if r.role != "decode")
    outside = sum(rates[r.bucket] * r.share for r in mine if not r.within_slo)
    in_pool: dict[str, int] = defaultdict(int)
    for place, count in replicas.items():
        in_pool[place[2]] += count
    prices = {pool.name: pool.price_per_node_hour for pool in problem.pools}
    places = {place: count for place, count in replicas.items() if place[0] == name}
    estimated = {c.key for c in model.configurations if c.estimated}
    return ModelSummary(
        model=name,
        replicas=sum(places.values()),
        rate=sum(rates.values()),
        served=served,
        within_slo=served - outside,
        cost_per_hour=sum(prices[p] * nodes[p] * n / in_pool[p] for (_, _, p), n in places.items()),
        estimated=any(key in estimated for _, key, _ in places),
    )
