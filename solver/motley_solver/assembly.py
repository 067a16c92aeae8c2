"""From the solver's numbers to a Plan: allocations, routes, the bill, each model's part, what is left out and why.
It decides nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from motley_solver.plan import Allocation, Assignment, ModelSummary, Plan, PoolNodes, Survival, Unserved
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem
from motley_solver.reasons import hopeless, scarce
from motley_solver.rounding import Replicas, Shares, Solution, answering, kv_group, rounded
from motley_solver.switching import Place, switching_per_hour
from motley_solver.workload import Bucket


def plan_of(problem: Problem, solution: Solution, lower_bound: float, proven: bool, seconds: float) -> Plan:
    found = rounded(problem, solution)
    bought = [
        PoolNodes(pool.name, found.nodes[pool.name], pool.price_per_node_hour, pool.reserved_nodes)
        for pool in problem.pools
    ]
    cost = sum(nodes.cost_per_hour for nodes in bought)
    switching, risk = _switching(problem, found.replicas), _risk(problem, found.nodes)
    objective = cost + switching + risk
    allocations = tuple(_allocations(problem, found.replicas))
    assignment = tuple(_assignment(problem, found.shares, found.replicas))
    return Plan(
        allocations=allocations,
        nodes=tuple(bought),
        cost_per_hour=cost,
        objective=objective,
        lower_bound=min(lower_bound, objective),
        proven=proven,
        assignment=assignment,
        unserved=tuple(_unserved(problem, found.shares, found.replicas, found.nodes, cost)),
        models=tuple(_summaries(problem, assignment, allocations, found.nodes)),
        solve_seconds=seconds,
        switching_per_hour=switching,
        risk_per_hour=risk,
        survivals=tuple(_survivals(problem, found.survivals, found.replicas)),
    )


def _switching(problem: Problem, replicas: Replicas) -> float:
    standing = _by_model(replicas)
    return sum(switching_per_hour(problem, model, standing[model.name]) for model in problem.models)


def _by_model(replicas: Replicas) -> defaultdict[str, dict[Place, int]]:
    found: defaultdict[str, dict[Place, int]] = defaultdict(dict)
    for (model, key, pool), count in replicas.items():
        found[model][key, pool] = count
    return found


def _risk(problem: Problem, nodes: Mapping[str, int]) -> float:
    """For each spot node: price × interruptions per hour × start hours."""
    lost = sum(nodes[p.name] * p.price_per_node_hour * p.interruptions_per_hour for p in problem.pools)
    return lost * problem.start_hours


def _allocations(problem: Problem, replicas: Replicas) -> Iterator[Allocation]:
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


def _assignment(problem: Problem, shares: Shares, replicas: Replicas) -> Iterator[Assignment]:
    running = {(model, configuration) for model, configuration, _ in replicas}
    pools = {pool.name: pool for pool in problem.pools}
    for model in problem.models:
        here = [c for c in model.configurations if (model.name, c.key) in running]
        yield from _routes(model, here, shares)
        for load in model.buckets:
            if load.rate == 0:
                yield from _idle_routes(model, load.bucket, here, pools)


def _routes(model: ModelDemand, running: list[Configuration], shares: Shares) -> Iterator[Assignment]:
    for load in model.buckets:
        for c in running:
            share = shares.get((model.name, load.bucket, c.key), 0.0)
            if share > 0:
                within = c.capacity(load.bucket).rate > 0
                yield Assignment(model.name, load.bucket, c.key, share, within, c.role)


def _idle_routes(
    model: ModelDemand, bucket: Bucket, running: list[Configuration], pools: Mapping[str, Pool]
) -> Iterator[Assignment]:
    """Sizes without traffic go to the replicas that serve them best, so that a first request finds a way; over a
    prefill and a decode configuration only where no aggregated one takes them."""
    able = [c for c in running if c.capacity(bucket).rate > 0 or c.capacity(bucket).best_effort > 0]
    able.sort(key=lambda c: (c.capacity(bucket).rate, c.capacity(bucket).best_effort, c.key), reverse=True)
    chosen = [c for c in able if c.role == "aggregated"][:1]
    if not chosen:
        prefills, decodes = ([c for c in able if c.role == role] for role in ("prefill", "decode"))
        pairs = [[p, d] for p in prefills for d in decodes if kv_group(p, pools) == kv_group(d, pools)]
        chosen = pairs[0] if pairs else []
    for c in chosen:
        yield Assignment(model.name, bucket, c.key, 1.0, c.capacity(bucket).rate > 0, c.role)


def _survivals(problem: Problem, survivals: Mapping[str, Shares], replicas: Replicas) -> Iterator[Survival]:
    """One per spot pool on which a model with a floor stands."""
    for pool in (pool for pool in problem.pools if pool.spot):
        struck = {model for model, _, name in replicas if name == pool.name}
        models = [m for m in problem.models if m.survivability > 0 and m.name in struck]
        rest = {(model, key) for model, key, name in replicas if name != pool.name}
        routes: list[Assignment] = []
        for model in models:
            remaining = [c for c in model.configurations if (model.name, c.key) in rest]
            routes += _routes(model, remaining, survivals.get(pool.name, {}))
        if models:
            yield Survival(pool.name, tuple(routes))


def _unserved(
    problem: Problem, shares: Shares, replicas: Replicas, nodes: Mapping[str, int], cost: float
) -> Iterator[Unserved]:
    pools, standing = {pool.name: pool for pool in problem.pools}, _by_model(replicas)
    for model in problem.models:
        mine: Counter[str] = Counter()
        for (key, _), n in standing[model.name].items():
            mine[key] += n
        count = mine.total()
        complete = True
        for load in model.buckets:
            here = ((c, shares.get((model.name, load.bucket, c.key), 0.0)) for c in model.configurations)
            served = sum(share for c, share in here if c.role != "decode")
            left = load.rate * (1 - served)
            if load.rate > 0 and 1 - served > 1e-6:
                reason = hopeless(problem, model, load.bucket)
                reason = reason or scarce(problem, model, load.bucket, nodes, cost, count)
                complete = False
                yield Unserved(model.name, load.bucket, left, reason)
        able = answering(model, mine, pools)
        if complete and model.min_replicas > able:
            bucket = model.buckets[0].bucket if model.buckets else Bucket(0, 0)
            reason = hopeless(problem, model, bucket) or scarce(problem, model, bucket, nodes, cost, count)
            said = f"minReplicas is {model.min_replicas}, planned are {able}: {reason}"
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
    routes: dict[str, list[Assignment]] = defaultdict(list)
    for route in assignment:
        routes[route.model].append(route)
    for model in problem.models:
        rates = {load.bucket: load.rate for load in model.buckets}
        mine = [a for a in allocations if a.model == model.name]
        served = outside = 0.0
        for route in routes[model.name]:
            served += rates[route.bucket] * route.share if route.role != "decode" else 0.0
            outside += rates[route.bucket] * route.share if not route.within_slo else 0.0
        yield ModelSummary(
            model=model.name,
            replicas=sum(a.replicas for a in mine),
            rate=model.rate,
            served=served,
            within_slo=max(0.0, served - outside),
            cost_per_hour=sum(bills[a.pool] * weights[a] / in_pool[a.pool] for a in mine),
            estimated=any(a.estimated for a in mine),
        )
