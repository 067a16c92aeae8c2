"""The figures of a plan: bill, objective, each model's part, comparisons."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from math import isfinite

from motley_solver.check.asked import Asked, same, twice
from motley_solver.check.packing import times_in
from motley_solver.check.replicas import need_of, room_of
from motley_solver.check.routes import outside_of, served_of
from motley_solver.plan import Plan


def bill(asked: Asked, plan: Plan) -> Iterator[str]:
    cost = 0.0
    for node in plan.nodes:
        pool = asked.pools[node.pool]
        if node.price_per_node_hour != pool.price_per_node_hour:
            yield f"pool {node.pool}: the price is not the problem's"
        if node.reserved != pool.reserved_nodes:
            yield f"pool {node.pool}: {node.reserved} nodes are said to be reserved, {pool.reserved_nodes} are"
        cost += pool.price_per_node_hour * max(node.nodes, pool.reserved_nodes)
    if not same(cost, plan.cost_per_hour):
        yield f"the nodes cost {cost:.6f} per hour, the plan says {plan.cost_per_hour:.6f}"
    budget = asked.problem.budget_per_hour
    if budget is not None and not (cost <= budget or same(cost, budget)):
        yield f"the plan costs {cost:.6f} per hour, the budget is {budget:.6f}"


def objective(asked: Asked, plan: Plan) -> Iterator[str]:
    switching, risk = _switching(asked, plan), _risk(asked, plan)
    if not same(switching, plan.switching_per_hour):
        yield f"switching costs {switching:.6f} per hour, the plan says {plan.switching_per_hour:.6f}"
    if not same(risk, plan.risk_per_hour):
        yield f"the risk costs {risk:.6f} per hour, the plan says {plan.risk_per_hour:.6f}"
    objective = plan.cost_per_hour + switching + risk
    if not same(objective, plan.objective):
        yield f"bill, switching and risk are {objective:.6f}, the plan's objective is {plan.objective:.6f}"
    if not (plan.lower_bound <= plan.objective or same(plan.lower_bound, plan.objective)):
        yield f"the lower bound {plan.lower_bound:.6f} is above the objective {plan.objective:.6f}"


def _switching(asked: Asked, plan: Plan) -> float:
    """Σ over started replicas: their part of a node × its price × start hours / horizon hours."""
    running: Counter[tuple[str, str, str]] = Counter()
    for r in asked.problem.running:
        running[r.model, r.configuration, r.pool] += r.replicas
    parts = 0.0
    for a in plan.allocations:
        started = max(0, a.replicas - running[a.model, a.configuration, a.pool])
        pool = asked.pools[a.pool]
        need = need_of(asked.configurations[a.model, a.configuration])
        parts += started * pool.price_per_node_hour / times_in(need, room_of(pool))
    return parts * asked.problem.start_hours / asked.problem.horizon_hours


def _risk(asked: Asked, plan: Plan) -> float:
    """Σ over nodes: price × interruptions per hour × start hours."""
    per_hour = 0.0
    for node in plan.nodes:
        pool = asked.pools[node.pool]
        per_hour += node.nodes * pool.price_per_node_hour * pool.interruptions_per_hour
    return per_hour * asked.problem.start_hours


def summaries(asked: Asked, plan: Plan) -> Iterator[str]:
    served, outside, costs = served_of(plan.assignment), outside_of(asked, plan.assignment), _cost_parts(asked, plan)
    rates: dict[str, float] = defaultdict(float)
    for here, share in served.items():
        rates[here[0]] += asked.rates[here] * share
    for part in plan.models:
        mine = [a for a in plan.allocations if a.model == part.model]
        if part.replicas != sum(a.replicas for a in mine) or part.estimated != any(a.estimated for a in mine):
            yield f"{part.model}: {part.replicas} replicas, estimated {part.estimated}, is not what is allocated"
        within = max(0.0, rates[part.model] - outside[part.model])
        for name, said, found in (
            ("rate", part.rate, asked.models[part.model].rate),
            ("served", part.served, rates[part.model]),
            ("within the SLO", part.within_slo, within),
            ("cost per hour", part.cost_per_hour, costs[part.model]),
        ):
            if not same(said, found):
                yield f"{part.model}: {name} is {found:.6g}, the plan says {said:.6g}"


def _cost_parts(asked: Asked, plan: Plan) -> dict[str, float]:
    """Each model's part of the nodes that it stands on, by GPUs (CPUs without)."""
    weights: dict[tuple[str, str], float] = defaultdict(float)
    for a in plan.allocations:
        c = asked.configurations[a.model, a.configuration]
        weights[a.pool, a.model] += a.replicas * float(c.gpus or c.cpus or 1)
    totals: dict[str, float] = defaultdict(float)
    for (pool, _), weight in weights.items():
        totals[pool] += weight
    bills = {node.pool: node.nodes * asked.pools[node.pool].price_per_node_hour for node in plan.nodes}
    parts: dict[str, float] = defaultdict(float)
    for (pool, model), weight in weights.items():
        parts[model] += bills[pool] * weight / totals[pool]
    return parts


def comparisons(asked: Asked, plan: Plan) -> Iterator[str]:
    types = {pool.gpu for pool in asked.problem.pools if pool.gpus_per_node > 0}
    yield from (f"{gpu} is compared twice" for gpu in twice(one.gpu for one in plan.comparisons))
    for one in plan.comparisons:
        if one.gpu not in types:
            yield f"a comparison with an unknown {one.gpu}"
        if one.cost_per_hour is None and not one.reason:
            yield f"the comparison with {one.gpu} has neither a cost nor a reason"
        if one.cost_per_hour is not None and not (isfinite(one.cost_per_hour) and one.cost_per_hour >= 0):
            yield f"the comparison with {one.gpu} has a cost of {one.cost_per_hour}"
