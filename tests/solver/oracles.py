"""Slow and simple ways to the same answers: complete enumeration, and one plain integer program.
They know the bill; neither CPUs, nor reserved or spot nodes, nor what a start costs."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cache
from itertools import product
from math import inf
from typing import Any

import pulp

from motley_solver.problem import Configuration, ModelDemand, Problem
from motley_solver.workload import Bucket, BucketLoad

Column = tuple[str, str, str]  # model, configuration, pool
Replicas = Mapping[Column, Any]  # numbers in the enumeration, variables in the program


def cheapest_by_enumeration(problem: Problem) -> float:
    """Every number of replicas of everything everywhere; a linear program says of each model whether its load fits."""
    columns = _columns(problem)
    of_model = [[j for j, column in enumerate(columns) if column[0] == m.name] for m in problem.models]

    @cache
    def fits(m: int, counts: tuple[int, ...]) -> bool:
        program = pulp.LpProblem("fits", pulp.LpMinimize)
        mine = {list(columns)[j]: count for j, count in zip(of_model[m], counts, strict=True)}
        _serve(program, problem, problem.models[m], mine)
        return _solved(program)

    best = inf
    for counts in product(*(range(most + 1) for _, most in columns.values())):
        gpus: Counter[str] = Counter()
        for (_, _, pool), (size, _), count in zip(columns, columns.values(), counts, strict=True):
            gpus[pool] += size * count
        # replicas and nodes are powers of two in size, so that replicas pack without gaps
        nodes = [(pool, -(-gpus[pool.name] // pool.gpus_per_node)) for pool in problem.pools]
        cost = sum(pool.price_per_node_hour * count for pool, count in nodes)
        if cost < best and cost <= _budget(problem) and all(count <= pool.max_nodes for pool, count in nodes):
            if all(fits(m, tuple(counts[j] for j in mine)) for m, mine in enumerate(of_model)):
                best = cost
    return best


def cheapest_by_program(problem: Problem) -> float:
    """Replicas, nodes and flows of all models in one program, as they are written down: nothing is left out as needless
    or taken apart."""
    program = pulp.LpProblem("fleet", pulp.LpMinimize)
    columns = _columns(problem)
    replicas = {
        column: program.add_variable(f"replicas {column}", 0, most, "Integer") for column, (_, most) in columns.items()
    }
    nodes = {p.name: program.add_variable(f"nodes {p.name}", 0, p.max_nodes, "Integer") for p in problem.pools}
    for pool in problem.pools:
        gpus = pulp.lpSum(size * replicas[here] for here, (size, _) in columns.items() if here[2] == pool.name)
        program += gpus <= pool.gpus_per_node * nodes[pool.name]
    bill = pulp.lpSum(pool.price_per_node_hour * nodes[pool.name] for pool in problem.pools)
    if problem.budget_per_hour is not None:
        program += bill <= _budget(problem)
    program.setObjective(bill)
    for model in problem.models:
        _serve(program, problem, model, replicas)
    return float(pulp.value(bill)) if _solved(program) else inf


def _columns(problem: Problem) -> Mapping[Column, tuple[int, int]]:
    """What may be bought: the GPUs of one replica, and how many replicas there are at most."""
    pools = {pool.name: pool for pool in problem.pools}
    return {
        (model.name, c.key, name): (c.gpus, pools[name].max_nodes * (pools[name].gpus_per_node // c.gpus))
        for model in problem.models
        for c in _useful(model)
        for name in c.pools
    }


def _useful(model: ModelDemand) -> list[Configuration]:
    """What serves some of the load; nothing else counts as a replica."""
    return [c for c in model.configurations if any(_rate(model, c, load.bucket) > 0 for load in _loads(model))]


def _loads(model: ModelDemand) -> list[BucketLoad]:
    return [load for load in model.buckets if load.rate > 0]


def _rate(model: ModelDemand, configuration: Configuration, bucket: Bucket) -> float:
    """Outside the SLO only where it cannot be met, and where the model allows some."""
    capacity = configuration.capacity(bucket)
    return capacity.rate or (capacity.best_effort if model.attainment < 1 else 0.0)


def _group(problem: Problem, configuration: Configuration) -> tuple[str, str]:
    """Within which KV caches are handed on."""
    return next(pool.fabric for pool in problem.pools if pool.name in configuration.pools), configuration.kv_class


def _budget(problem: Problem) -> float:
    return inf if problem.budget_per_hour is None else problem.budget_per_hour * (1 + 1e-9)


def _serve(program: pulp.LpProblem, problem: Problem, model: ModelDemand, replicas: Replicas) -> None:
    """Demands that these replicas serve the model within its limits."""
    count = {c.key: pulp.lpSum(replicas[model.name, c.key, pool] for pool in c.pools) for c in _useful(model)}
    work, outside = defaultdict(list), []
    for load in _loads(model):
        served, handed = [], defaultdict(list)
        for c in _useful(model):
            if rate := _rate(model, c, load.bucket):
                share = program.add_variable(f"share {model.name} {load.bucket} {c.key}", 0, 1)
                work[c.key].append(share * (load.rate * (1 + problem.headroom) / rate))
                if c.role != "decode":
                    served.append(share)
                if c.role != "aggregated":
                    handed[_group(problem, c)].append(share if c.role == "prefill" else -share)
                if c.capacity(load.bucket).rate == 0:
                    outside.append(share * load.rate)
        program += pulp.lpSum(served) == 1
        for shares in handed.values():
            program += pulp.lpSum(shares) == 0
    for key, parts in work.items():
        program += pulp.lpSum(parts) <= count[key]
    program += pulp.lpSum(outside) <= (1 - model.attainment) * model.rate
    _limit(program, problem, model, count)


def _limit(program: pulp.LpProblem, problem: Problem, model: ModelDemand, count: Mapping[str, Any]) -> None:
    """A prefill and a decode replica that can work together answer as one."""
    if model.max_replicas is not None:
        program += pulp.lpSum(count.values()) <= model.max_replicas
    of: dict[Any, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for c in _useful(model):
        of[_group(problem, c)][c.role].append(count[c.key])
    answering = [one for roles in of.values() for one in roles["aggregated"]]
    for group, roles in of.items():
        answering.append(program.add_variable(f"pairs {model.name} {group}", 0))
        program += answering[-1] <= pulp.lpSum(roles["prefill"])
        program += answering[-1] <= pulp.lpSum(roles["decode"])
    program += pulp.lpSum(answering) >= model.min_replicas


def _solved(program: pulp.LpProblem) -> bool:
    program.solve(pulp.getSolver("HiGHS", msg=False, gapRel=1e-9))
    assert program.status in (pulp.LpStatusOptimal, pulp.LpStatusInfeasible), program.status
    return bool(program.status == pulp.LpStatusOptimal)
