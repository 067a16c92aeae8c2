"""Does a plan keep every promise of its problem? Own arithmetic and own packing, independent of the optimisation,
so that a mistake there is found here before anything is applied."""

from collections import Counter
from collections.abc import Iterator
from math import ceil, isfinite

from motley_solver.plan import Plan
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem

_SHARE = 1e-6  # of a bucket's requests
_LOAD = 1e-8  # relative overload of replicas
_MONEY = 1e-6
_PACKING_STEPS = 20_000

_Need = tuple[float, float, float]  # GPUs, CPUs, GiB


def violations(problem: Problem, plan: Plan) -> tuple[str, ...]:
    """One sentence per broken promise; empty for a good plan."""
    checks = (_references, _stock, _replica_limits, _shares, _outside_slo, _loads, _node_fit, _bill)
    broken_references = tuple(_references(problem, plan))
    if broken_references:  # the others would stumble over them
        return broken_references
    return tuple(sentence for check in checks for sentence in check(problem, plan))


def _configuration(model: ModelDemand, key: str) -> Configuration:
    return next(c for c in model.configurations if c.key == key)


def _model(problem: Problem, name: str) -> ModelDemand:
    return next(m for m in problem.models if m.name == name)


def _references(problem: Problem, plan: Plan) -> Iterator[str]:
    pools = {pool.name for pool in problem.pools}
    keys = {(m.name, c.key) for m in problem.models for c in m.configurations}
    buckets = {(m.name, load.bucket) for m in problem.models for load in m.buckets}
    names = {m.name for m in problem.models}
    yield from (f"nodes of an unknown pool {node.pool}" for node in plan.nodes if node.pool not in pools)
    yield from (f"an unknown model {left.model} is unserved" for left in plan.unserved if left.model not in names)
    for item in plan.assignment:
        if (item.model, item.configuration) not in keys or (item.model, item.bucket) not in buckets:
            yield f"{item.model} {item.bucket} is assigned to an unknown {item.configuration}"
    yield from _allocations(problem, plan)


def _allocations(problem: Problem, plan: Plan) -> Iterator[str]:
    pools = {pool.name for pool in problem.pools}
    keys = {(m.name, c.key): c for m in problem.models for c in m.configurations}
    placed: set[tuple[str, str, str]] = set()
    for a in plan.allocations:
        here = f"{a.model} {a.configuration} on {a.pool}"
        c = keys.get((a.model, a.configuration))
        if c is None or a.pool not in c.pools or a.pool not in pools:
            yield f"{here} is not one of the problem's configurations"
            continue
        if (a.gpu, a.tensor_parallel, a.gpus, a.settings) != (c.gpu, c.tensor_parallel, c.gpus, c.settings):
            yield f"{here} is described otherwise than in the problem"
        if a.replicas < 1 or a.replicas != int(a.replicas):
            yield f"{here} has {a.replicas} replicas"
        if (a.model, a.configuration, a.pool) in placed:
            yield f"{here} is allocated twice"
        placed.add((a.model, a.configuration, a.pool))


def _stock(problem: Problem, plan: Plan) -> Iterator[str]:
    most = {pool.name: pool.max_nodes for pool in problem.pools}
    bought = Counter({node.pool: 0 for node in plan.nodes})
    for node in plan.nodes:
        bought[node.pool] += node.nodes
    for pool, nodes in bought.items():
        if not 0 <= nodes <= most[pool]:
            yield f"pool {pool} has {nodes} nodes, allowed are 0 to {most[pool]}"


def _replica_limits(problem: Problem, plan: Plan) -> Iterator[str]:
    replicas: Counter[str] = Counter()
    for a in plan.allocations:
        replicas[a.model] += a.replicas
    excused = {left.model for left in plan.unserved}
    for m in problem.models:
        if m.max_replicas is not None and replicas[m.name] > m.max_replicas:
            yield f"{m.name} has {replicas[m.name]} replicas, at most {m.max_replicas} are allowed"
        if replicas[m.name] < m.min_replicas and m.name not in excused:  # it is said what keeps it below
            yield f"{m.name} has {replicas[m.name]} replicas, at least {m.min_replicas} are asked for"


def _shares(problem: Problem, plan: Plan) -> Iterator[str]:
    for item in plan.assignment:
        found = _configuration(_model(problem, item.model), item.configuration).capacity(item.bucket)
        if not (isfinite(item.share) and 0 <= item.share <= 1 + _SHARE):
            yield f"{item.model} {item.bucket}: a share of {item.share}"
        if (found.rate if item.within_slo else found.best_effort) <= 0:
            yield f"{item.model} {item.bucket}: {item.configuration} cannot serve it as planned"
    for m in problem.models:
        for load in (load for load in m.buckets if load.rate > 0):
            here = (m.name, load.bucket)
            served = sum(a.share for a in plan.assignment if (a.model, a.bucket) == here)
            left = sum(u.rate for u in plan.unserved if (u.model, u.bucket) == here) / load.rate
            if abs(served + left - 1) > _SHARE * 2:
                yield f"{m.name} {load.bucket}: {served:.6g} served and {left:.6g} unserved do not add up to 1"


def _outside_slo(problem: Problem, plan: Plan) -> Iterator[str]:
    for m in problem.models:
        rates = {load.bucket: load.rate for load in m.buckets}
        outside = sum(rates[a.bucket] * a.share for a in plan.assignment if a.model == m.name and not a.within_slo)
        allowed = (1 - m.attainment) * m.rate
        if outside > allowed + _SHARE * m.rate:
            yield f"{m.name}: {outside:.6g} req/s are planned outside the SLO, allowed are {allowed:.6g}"


def _loads(problem: Problem, plan: Plan) -> Iterator[str]:
    replicas: Counter[tuple[str, str]] = Counter()
    for a in plan.allocations:
        replicas[a.model, a.configuration] += a.replicas
    load: dict[tuple[str, str], float] = {}
    for item in (item for item in plan.assignment if item.share > 0):
        model = _model(problem, item.model)
        found = _configuration(model, item.configuration).capacity(item.bucket)
        capacity = found.rate if item.within_slo else found.best_effort
        rate = next(b.rate for b in model.buckets if b.bucket == item.bucket) * (1 + problem.headroom)
        key = (item.model, item.configuration)
        load[key] = load.get(key, 0.0) + (rate * item.share / capacity if capacity > 0 else 0.0)
    for key, wanted in load.items():
        if replicas[key] == 0:
            yield f"{key[0]}: requests are assigned to {key[1]}, which has no replica"
        elif wanted > replicas[key] * (1 + _LOAD):
            yield f"{key[0]}: {key[1]} has the work of {wanted:.9g} replicas and {replicas[key]} replicas"


def _node_fit(problem: Problem, plan: Plan) -> Iterator[str]:
    bought = {node.pool: node.nodes for node in plan.nodes}
    for pool in problem.pools:
        needs: Counter[_Need] = Counter()
        for a in (a for a in plan.allocations if a.pool == pool.name):
            c = _configuration(_model(problem, a.model), a.configuration)
            needs[float(c.gpus), c.cpus, c.memory_gib] += a.replicas
        if needs and not _packs(needs, pool, bought.get(pool.name, 0)):
            yield f"pool {pool.name}: its replicas do not fit on {bought.get(pool.name, 0)} nodes"


def _bill(problem: Problem, plan: Plan) -> Iterator[str]:
    prices = {pool.name: pool.price_per_node_hour for pool in problem.pools}
    cost = sum(prices[node.pool] * node.nodes for node in plan.nodes)
    slack = _MONEY * max(1.0, abs(cost))
    if any(node.price_per_node_hour != prices[node.pool] for node in plan.nodes):
        yield "a pool's price is not the problem's"
    if abs(cost - plan.cost_per_hour) > slack:
        yield f"the nodes cost {cost:.6f} per hour, the plan says {plan.cost_per_hour:.6f}"
    if problem.budget_per_hour is not None and cost > problem.budget_per_hour + slack:
        yield f"the plan costs {cost:.6f} per hour, the budget is {problem.budget_per_hour:.6f}"
    if plan.lower_bound > plan.objective + slack:
        yield f"the lower bound {plan.lower_bound:.6f} is above the objective {plan.objective:.6f}"


# --- packing: first-fit decreasing in several orders, then a bounded search ---


def _fits(need: _Need, room: _Need) -> int:
    """How many times; a replica that needs nothing is limited by the pods of a node."""
    return min([100, *(int((have + 1e-9) / take) for take, have in zip(need, room, strict=True) if take > 0)])


def _minus(room: _Need, need: _Need, times: int) -> _Need:
    return (room[0] - need[0] * times, room[1] - need[1] * times, room[2] - need[2] * times)


def _packs(needs: Counter[_Need], pool: Pool, nodes: int) -> bool:
    room = (float(pool.gpus_per_node), pool.cpus_per_node, pool.memory_gib_per_node)
    orders = (
        lambda need: need,
        lambda need: (need[1], need),
        lambda need: (need[2], need),
        lambda need: max(take / have if have else 0.0 for take, have in zip(need, room, strict=True)),
    )
    kinds = [sorted(needs, key=order, reverse=True) for order in orders]
    return any(_first_fit(needs, kind, room, nodes) for kind in kinds) or _search(needs, kinds[0], room, nodes)


def _first_fit(needs: Counter[_Need], kinds: list[_Need], room: _Need, nodes: int) -> bool:
    rooms: list[tuple[_Need, int]] = [(room, nodes)]  # equal nodes are kept as one entry with a count
    for kind in kinds:
        left = needs[kind]
        after: list[tuple[_Need, int]] = []
        for free, count in rooms:
            times = min(_fits(kind, free), left)
            filled = min(count, left // times) if times else 0
            left -= filled * times
            after.append((_minus(free, kind, times), filled))
            rest = count - filled
            if times and rest and left:  # the last one is filled in part
                after.append((_minus(free, kind, left), 1))
                left, rest = 0, rest - 1
            after.append((free, rest))
        if left:
            return False
        rooms = sorted(((free, count) for free, count in after if count), key=lambda entry: entry[0])
    return True


def _fillings(left: tuple[int, ...], kinds: list[_Need], free: _Need) -> Iterator[tuple[int, ...]]:
    """Ways to fill one node from what is left, fullest first."""
    if not kinds:
        yield ()
        return
    for times in range(min(left[0], _fits(kinds[0], free)), -1, -1):
        for rest in _fillings(left[1:], kinds[1:], _minus(free, kinds[0], times)):
            yield (times, *rest)


def _search(needs: Counter[_Need], kinds: list[_Need], room: _Need, nodes: int) -> bool:
    """Node by node; gives up (False) after a bounded number of steps."""
    steps = 0
    dead: set[tuple[tuple[int, ...], int]] = set()

    def place(left: tuple[int, ...], nodes_left: int) -> bool:
        nonlocal steps
        if not any(left):
            return True
        least = max(ceil(n / max(1, _fits(kind, room))) for n, kind in zip(left, kinds, strict=True))
        if nodes_left < least or (left, nodes_left) in dead:
            return False
        for filling in _fillings(left, kinds, room):
            steps += 1
            if steps > _PACKING_STEPS:
                return False
            rest = tuple(n - times for n, times in zip(left, filling, strict=True))
            if rest != left and place(rest, nodes_left - 1):
                return True
        dead.add((left, nodes_left))
        return False

    return nodes <= 200 and place(tuple(needs[kind] for kind in kinds), nodes)
