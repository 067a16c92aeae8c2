"""The last resort for a large fleet that cannot be served whole: one model after the other, by priority, each as far as
what is left allows. Always a plan, never proven."""

from math import inf
from time import monotonic

from motley_solver.ilp.fleet import require_budget, solution_of, standing_of
from motley_solver.ilp.greedy import Room, greedily
from motley_solver.ilp.nodes import add_nodes, bill_of, price_unit, risk_of
from motley_solver.ilp.program import LE, Program, Terms
from motley_solver.ilp.serving import Kind, Serving, add_serving, kinds_of, started, switching
from motley_solver.packing import per_node, size_of
from motley_solver.problem import ModelDemand, Problem
from motley_solver.rounding import Solution

_MISSING = 100.0  # what a replica below the minimum is worth: more than any node, whose prices are at most 10 here


def one_by_one(problem: Problem, deadline: float, gap: float) -> Solution | None:
    """Higher priorities first, among equals those whose requests cost least; greedily where time runs out. None where
    it ran out before anything was placed."""
    room = Room(problem)
    served: list[Serving] = []
    models = [(model, kinds_of(problem, model)) for model in problem.models]
    waiting = sorted(models, key=lambda pair: (-pair[0].priority, _price_per_request(*pair), pair[0].name))
    while waiting:
        ways = (_beside(problem, room, *waiting[0], everything, deadline, gap) for everything in (True, False))
        serving = next((way for way in ways if way), None)
        if monotonic() > deadline:
            break
        waiting.pop(0)
        served += [serving] if serving else []
    rest, _ = greedily(problem, waiting, room)
    found = solution_of(served, room.nodes)
    replicas = {**found.replicas, **rest.replicas}
    if waiting and not any(replicas.values()):
        return None
    return Solution({**found.shares, **rest.shares}, replicas, room.nodes, found.survivals)


def _price_per_request(model: ModelDemand, kinds: tuple[Kind, ...]) -> float:
    """On fractions of the best replicas at their part of a node's price; sizes that need two roles are left out."""
    loads = [load.rate for load in model.buckets if load.rate > 0]
    best = [inf] * len(loads)
    for kind in (kind for kind in kinds if kind.role == "aggregated"):
        price = min(p.price_per_node_hour / per_node(size_of(c), p) for c, room in kind.members for p in room)
        best = [min(old, price / rate) if rate > 0 else old for old, (rate, _) in zip(best, kind.rates, strict=True)]
    costs = [rate * price for rate, price in zip(loads, best, strict=True) if price < inf]
    return sum(costs) / model.rate if costs else inf


def _beside(
    problem: Problem,
    room: Room,
    model: ModelDemand,
    kinds: tuple[Kind, ...],
    everything: bool,
    deadline: float,
    gap: float,
) -> Serving | None:
    """This model on what the others leave: as many requests as possible, at least cost."""
    if monotonic() > deadline:
        return None
    program, unit = Program(), price_unit(problem)
    serving = add_serving(program, problem, model, everything, kinds)
    standing = standing_of([serving])
    one = program.constant()
    for pool, sizes in room.placed.items():
        for size, count in sizes.items():
            standing[pool][size].append((one, float(count)))
    nodes = tuple(add_nodes(program, pool, standing[pool.name]) for pool in problem.pools)
    require_budget(program, problem, nodes)
    if not everything:
        most: Terms = [(variable, -part) for variable, part in serving.served()]
        answer = program.minimise(most, deadline, gap, lean=True) if most else None
        if answer is not None and not answer.found:
            return None
        if answer is not None:
            program.require(most, LE, answer.objective + 1e-8)
    costs = [*bill_of(nodes), *risk_of(nodes, problem.start_hours)]
    costs += switching(problem, serving, started(program, problem, serving))
    terms = [(variable, cost / unit) for variable, cost in costs]
    terms += [(variable, _MISSING) for variable in serving.missing]
    if not program.minimise(terms, deadline, gap, lean=True).found:
        return None
    taken = {c.key: size_of(c) for kind in serving.kinds for c, _ in kind.members}
    for (key, pool), variable in serving.replicas.items():
        room.placed[pool][taken[key]] += round(variable.varValue or 0.0)
    room.nodes = {each.pool.name: each.bought.varValue or 0.0 for each in nodes}
    return serving
