"""Mélange's own formulation: each bucket cut in equal slices, each slice served whole by one GPU type. A yardstick."""

from dataclasses import dataclass
from typing import Literal

import cbcbox
import pulp

from motley_solver.problem import ModelDemand, Pool

Solver = Literal["HiGHS", "CBC"]


@dataclass(frozen=True)
class Sliced:
    status: Literal["optimal", "feasible", "unsolved"]
    cost: float
    counts: dict[str, int]  # instances by configuration
    slices: dict[tuple[int, str], int]  # by (index of the bucket, configuration)


def sliced(
    model: ModelDemand, pools: tuple[Pool, ...], slices: int, solver: Solver = "HiGHS", time_limit_seconds: float = 20
) -> Sliced:
    """x[slice, type] of 0 or 1, n[type] whole; minimise Σ price·n with every slice somewhere and Σ load·x ≤ n for each
    type (arXiv 2404.14527). A type that cannot serve a bucket has no x there (the released program divides by zero),
    and n is limited by the pool's stock, which is the only addition."""
    program = pulp.LpProblem("slices", pulp.LpMinimize)
    stock = {pool.name: pool for pool in pools}
    types = [(c, stock[c.pools[0]]) for c in model.configurations]
    n = {c.key: program.add_variable(f"n{j}", 0, pool.max_nodes, "Integer") for j, (c, pool) in enumerate(types)}
    x: dict[tuple[int, int, str], pulp.LpVariable] = {}
    load: dict[str, list[tuple[pulp.LpVariable, float]]] = {c.key: [] for c, _ in types}
    for i, bucket in enumerate(model.buckets):
        for part in range(slices):
            for j, (c, _) in enumerate(types):
                rate = c.capacity(bucket.bucket).rate
                if rate > 0:
                    x[i, part, c.key] = program.add_variable(f"x{i}_{part}_{j}", 0, 1, "Integer")
                    load[c.key].append((x[i, part, c.key], bucket.rate / slices / rate))
            choice = [(x[i, part, c.key], 1.0) for c, _ in types if (i, part, c.key) in x]
            program += pulp.LpAffineExpression(choice) == 1
    for key, terms in load.items():
        program += pulp.LpAffineExpression([*terms, (n[key], -1.0)]) <= 0
    program.setObjective(pulp.LpAffineExpression([(n[c.key], pool.price_per_node_hour) for c, pool in types]))
    program.solve(_solver(solver, time_limit_seconds))
    if program.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        return Sliced("unsolved", float("inf"), {}, {})
    chosen: dict[tuple[int, str], int] = {}
    for (i, _, key), variable in x.items():
        chosen[i, key] = chosen.get((i, key), 0) + round(variable.varValue or 0.0)
    return Sliced(
        "optimal" if program.sol_status == pulp.LpSolutionOptimal else "feasible",
        float(pulp.value(program.objective)),
        {key: round(variable.varValue or 0.0) for key, variable in n.items()},
        {key: count for key, count in chosen.items() if count},
    )


def _solver(name: Solver, time_limit_seconds: float) -> pulp.LpSolver:
    if name == "CBC":  # with its defaults, as the released program calls it; the program comes with pulp[cbc]
        return pulp.getSolver("COIN_CMD", path=cbcbox.cbc_bin_path(), msg=False, timeLimit=time_limit_seconds)
    return pulp.getSolver("HiGHS", msg=False, timeLimit=time_limit_seconds, gapRel=1e-6)
