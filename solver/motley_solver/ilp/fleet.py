"""The whole fleet as one program: every model's flows and replicas on the nodes of all pools, and what that costs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from motley_solver.ilp.nodes import Nodes, add_nodes, bill_of, price_unit, risk_of
from motley_solver.ilp.program import LE, Program, Terms
from motley_solver.ilp.serving import Serving, add_serving, changes, shares_of, started, switching
from motley_solver.packing import Size, size_of
from motley_solver.problem import Problem
from motley_solver.rounding import Solution
from motley_solver.workload import Bucket


@dataclass(frozen=True)
class FleetProgram:
    problem: Problem
    program: Program
    servings: tuple[Serving, ...]
    nodes: tuple[Nodes, ...]
    switching: Terms
    changes: Terms = field(default_factory=list)  # to minimise among plans that cost the same

    @property
    def objective(self) -> Terms:
        """Bill, risk and switching, in price units; without what the reserved nodes cost anyway."""
        unit = price_unit(self.problem)
        terms = [*bill_of(self.nodes), *risk_of(self.nodes, self.problem.start_hours), *self.switching]
        sums: Terms = [(variable, cost / unit) for variable, cost in terms if cost > 0]
        return sums

    @property
    def exact(self) -> bool:
        return all(nodes.exact for nodes in self.nodes)

    def solution(self) -> Solution:
        return solution_of(self.servings, {n.pool.name: n.bought.varValue or 0.0 for n in self.nodes})


def fleet_program(problem: Problem, everything: bool) -> FleetProgram:
    """With `everything`, what can be served is served whole and every minimum of replicas is met; otherwise as far as
    it goes."""
    program = Program()
    servings = tuple(add_serving(program, problem, model, everything) for model in problem.models)
    standing = standing_of(servings)
    nodes = tuple(add_nodes(program, pool, standing[pool.name]) for pool in problem.pools)
    require_budget(program, problem, nodes)
    costs: Terms = []
    changed: Terms = []
    for serving in servings if problem.start_hours > 0 or problem.running else ():
        more = started(program, problem, serving)
        costs += switching(problem, serving, more)
        changed += changes(serving, more)
    return FleetProgram(problem, program, servings, nodes, costs, changed)


def standing_of(servings: Iterable[Serving]) -> dict[str, dict[Size, Terms]]:
    """Per pool and size, the replicas of all models."""
    found: dict[str, dict[Size, Terms]] = defaultdict(lambda: defaultdict(list))
    for serving in servings:
        sizes = {c.key: size_of(c) for kind in serving.kinds for c, _ in kind.members}
        for (key, pool), variable in serving.replicas.items():
            found[pool][sizes[key]].append((variable, 1.0))
    return found


def reserved_bill(problem: Problem) -> float:
    return sum(pool.price_per_node_hour * pool.reserved_nodes for pool in problem.pools)


def require_budget(program: Program, problem: Problem, nodes: tuple[Nodes, ...]) -> None:
    if problem.budget_per_hour is not None:
        unit = price_unit(problem)
        terms = [(variable, price / unit) for variable, price in bill_of(nodes)]
        program.require(terms, LE, (problem.budget_per_hour - reserved_bill(problem)) / unit)


def solution_of(servings: Iterable[Serving], nodes: Mapping[str, float]) -> Solution:
    """The values that the variables have now."""
    shares: dict[tuple[str, Bucket, str], float] = {}
    survivals: dict[str, dict[tuple[str, Bucket, str], float]] = defaultdict(dict)
    replicas: dict[tuple[str, str, str], float] = {}
    for serving in servings:
        name = serving.model.name
        for bucket, key, share in shares_of(serving, serving.flows):
            shares[name, bucket, key] = share
        for lost, flows in serving.survivals.items():
            for bucket, key, share in shares_of(serving, flows, lost):
                survivals[lost][name, bucket, key] = share
        for (key, pool), variable in serving.replicas.items():
            replicas[name, key, pool] = variable.varValue or 0.0
    return Solution(shares, replicas, nodes, survivals)
