"""What changing the fleet costs: a started replica's part of its node is paid for nothing until it serves.
How a plan comes about and what it serves is unknown here."""

from collections import Counter
from collections.abc import Mapping

from motley_solver.packing import Size, per_node, size_of
from motley_solver.problem import ModelDemand, Pool, Problem

Place = tuple[str, str]  # configuration and pool


def running_replicas(problem: Problem, model: ModelDemand) -> Counter[Place]:
    running: Counter[Place] = Counter()
    for r in problem.running:
        if r.model == model.name:
            running[r.configuration, r.pool] += r.replicas
    return running


def starting_cost(problem: Problem, size: Size, pool: Pool) -> float:
    """$ per hour of one started replica: its part of a node × the node's price × start hours / horizon hours."""
    return pool.price_per_node_hour / per_node(size, pool) * problem.start_hours / problem.horizon_hours


def switching_per_hour(problem: Problem, model: ModelDemand, replicas: Mapping[Place, int]) -> float:
    """$ per hour of all that must be started to have these replicas of one model."""
    if problem.start_hours <= 0:
        return 0.0
    running, pools = running_replicas(problem, model), {pool.name: pool for pool in problem.pools}
    sizes = {c.key: size_of(c) for c in model.configurations}
    started = {place: max(0, count - running[place]) for place, count in replicas.items()}
    return sum(n * starting_cost(problem, sizes[c], pools[pool]) for (c, pool), n in started.items() if n)
