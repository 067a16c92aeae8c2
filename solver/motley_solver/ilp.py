"""The optimisation: all models and pools at once, exactly; bucket shares continuous, replicas and nodes whole.
The only door to PuLP and HiGHS. It knows numbers; words for people are in `reasons`."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Literal

import pulp

from motley_solver.assembly import Solution, plan_of, usable_capacity
from motley_solver.check import violations
from motley_solver.packing import Size, is_nested, patterns, per_node, rounded_up, size_of
from motley_solver.plan import Infeasible, Outcome, Unsolved
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem
from motley_solver.reasons import room_in
from motley_solver.workload import Bucket

_TINY_LOAD = 1e-7  # replicas; the solver drops smaller coefficients, so smaller loads are planned as this much
_PATTERNS = 300
_LINKS = 20_000
_LARGE = 600  # whole replica variables; beyond it the search is narrowed to what the relaxation finds promising
_PROMISING = 4

_LE, _EQ, _GE = pulp.LpConstraintLE, pulp.LpConstraintEQ, pulp.LpConstraintGE

_Terms = list[tuple[pulp.LpVariable, float]]


@dataclass(frozen=True)
class _Answer:
    status: Literal["optimal", "feasible", "infeasible", "unsolved"]  # feasible: time ran out with a plan in hand
    objective: float = 0.0
    bound: float = 0.0
    solution: Solution | None = None


@dataclass
class _Program:
    """The mathematical program and its variables."""

    problem: Problem
    lp: pulp.LpProblem
    shares: dict[tuple[str, Bucket, str], pulp.LpVariable] = field(default_factory=dict)
    replicas: dict[tuple[str, str, str], pulp.LpVariable] = field(default_factory=dict)
    nodes: dict[str, pulp.LpVariable] = field(default_factory=dict)
    missing: dict[str, pulp.LpVariable] = field(default_factory=dict)  # by model: replicas below its minimum
    count: int = 0  # of variables so far, for their names
    exact: bool = True  # False where replicas of many odd sizes had to be rounded up to pack

    def variable(self, kind: str, upper: float, whole: bool = True) -> pulp.LpVariable:
        self.count += 1
        return self.lp.add_variable(f"{kind}{self.count}", 0, upper, pulp.LpInteger if whole else pulp.LpContinuous)

    def require(self, terms: _Terms, sense: int, bound: float) -> None:
        self.lp.addConstraint(pulp.LpConstraint(pulp.LpAffineExpression(terms), sense, None, bound))

    def solution(self) -> Solution:
        return Solution(
            {key: variable.varValue or 0.0 for key, variable in self.shares.items()},
            {key: variable.varValue or 0.0 for key, variable in self.replicas.items()},
            {key: variable.varValue or 0.0 for key, variable in self.nodes.items()},
        )


def solve(problem: Problem, time_limit_seconds: float = 20.0, relative_gap: float = 1e-6) -> Outcome:
    """The cheapest plan that serves everything; where that is impossible, the one that serves most, by priority, and
    is then cheapest. `Infeasible` only where hard limits contradict one another."""
    started = monotonic()
    deadline = started + time_limit_seconds
    if contradictions := tuple(_contradictions(problem)):
        return Infeasible(contradictions)
    program = _program(problem, everything=True)
    large = len(program.replicas) > _LARGE
    answer = (_narrowed if large else _minimised)(program, _cost(program), deadline, 0.6, relative_gap)
    if answer.solution is None:
        program = _program(problem, everything=False)
        answer = _by_priority(program, deadline, relative_gap)
    if answer.solution is None:
        return Unsolved(f"no plan was found within {time_limit_seconds:g} s: allow more time, or fewer sizes or pools")
    solution = _least_change(program, answer, deadline) or answer.solution
    bound = answer.bound * _price_unit(problem) if program.exact else 0.0
    proven = answer.status == "optimal" and program.exact
    plan = plan_of(problem, solution, max(0.0, bound), proven, monotonic() - started)
    broken = violations(problem, plan)
    return Unsolved(f"the solver's answer was refused: {broken[0]}") if broken else plan


# --- the program ---


def _program(problem: Problem, everything: bool) -> _Program:
    """With `everything`, each bucket that some configuration can serve is served whole and each model has its minimum
    of replicas; otherwise as far as it goes."""
    program = _Program(problem, pulp.LpProblem("fleet", pulp.LpMinimize))
    pools = {pool.name: pool for pool in problem.pools}
    for pool in problem.pools:
        program.nodes[pool.name] = program.variable("N", pool.max_nodes)
    for model in problem.models:
        usable = [(c, room_in(c, pools)) for c in model.configurations]
        _add_replicas(program, model, [(c, room) for c, room in usable if room and _serves(model, c)], everything)
        _add_shares(program, model, everything)
    for pool in problem.pools:
        _add_node_fit(program, pool)
    if problem.budget_per_hour is not None:
        unit = _price_unit(problem)
        program.require(_cost(program), _LE, problem.budget_per_hour / unit)
    return program


def _serves(model: ModelDemand, configuration: Configuration) -> bool:
    able = any(usable_capacity(model, capacity)[0] > 0 for capacity in configuration.capacities)
    return able or not model.buckets


def _add_replicas(
    program: _Program, model: ModelDemand, usable: list[tuple[Configuration, list[Pool]]], everything: bool
) -> None:
    mine: _Terms = []
    for c, room in usable:
        for pool in room:
            most = per_node(size_of(c), pool) * pool.max_nodes
            variable = program.variable("n", most)
            program.replicas[model.name, c.key, pool.name] = variable
            mine.append((variable, 1.0))
    if mine and model.min_replicas > 0:
        if everything:
            program.require(mine, _GE, model.min_replicas)
        else:
            missing = program.missing[model.name] = program.variable("m", model.min_replicas, whole=False)
            program.require([*mine, (missing, 1.0)], _GE, model.min_replicas)
    if mine and model.max_replicas is not None:
        program.require(mine, _LE, model.max_replicas)


def _add_shares(program: _Program, model: ModelDemand, everything: bool) -> None:
    """Who serves which part of each bucket; the work of a configuration is at most its replicas."""
    replicas = _replicas_of(program, model)
    work: dict[str, _Terms] = defaultdict(list)
    outside: _Terms = []
    links = len(program.shares) <= _LINKS
    for load in (load for load in model.buckets if load.rate > 0):
        parts: _Terms = []
        for key, rate, within in _able(model, load.bucket, replicas):
            share = program.variable("s", 1, whole=False)
            program.shares[model.name, load.bucket, key] = share
            parts.append((share, 1.0))
            needed = max(_TINY_LOAD, load.rate * (1 + program.problem.headroom) / rate)
            work[key].append((share, needed))
            if not within:
                outside.append((share, load.rate / model.rate))
            if links and needed < 1:  # tightens the relaxation: a share needs a replica
                program.require([(share, 1.0), *replicas[key]], _LE, 0)
        if parts:
            program.require(parts, _EQ if everything else _LE, 1)
    for key, terms in work.items():
        program.require([*terms, *replicas[key]], _LE, 0)
    if outside:
        program.require(outside, _LE, 1 - model.attainment)


def _replicas_of(program: _Program, model: ModelDemand) -> dict[str, _Terms]:
    """The replicas of each configuration in all its pools, as what is taken off its work."""
    found: dict[str, _Terms] = defaultdict(list)
    for c in model.configurations:
        for pool in c.pools:
            if (model.name, c.key, pool) in program.replicas:
                found[c.key].append((program.replicas[model.name, c.key, pool], -1.0))
    return found


def _able(model: ModelDemand, bucket: Bucket, replicas: Mapping[str, _Terms]) -> Iterator[tuple[str, float, bool]]:
    """(configuration, requests per second of one replica, within the SLO?) for those that can have replicas."""
    for c in model.configurations:
        rate, within = usable_capacity(model, c.capacity(bucket))
        if rate > 0 and c.key in replicas:
            yield c.key, rate, within


def _add_node_fit(program: _Program, pool: Pool) -> None:
    """What is planned for a pool can really be placed on its nodes."""
    sizes: dict[Size, _Terms] = defaultdict(list)
    configurations = {(m.name, c.key): c for m in program.problem.models for c in m.configurations}
    for (model, key, name), variable in program.replicas.items():
        if name == pool.name:
            sizes[size_of(configurations[model, key])].append((variable, 1.0))
    if not sizes:
        return
    nodes = program.nodes[pool.name]
    if is_nested(list(sizes), pool):
        for slot in sorted({size.gpus for size in sizes}):
            taken = [
                (v, float(size.gpus // slot)) for size, terms in sizes.items() if size.gpus >= slot for v, _ in terms
            ]
            program.require([*taken, (nodes, -float(pool.gpus_per_node // slot))], _LE, 0)
        return
    kinds, found = _fillings(program, list(sizes), pool)
    counts = [program.variable("z", pool.max_nodes) for _ in found]
    program.require([*((count, 1.0) for count in counts), (nodes, -1.0)], _LE, 0)
    for kind in sorted(set(kinds.values())):
        taken = [term for size, terms in sizes.items() if kinds[size] == kind for term in terms]
        index = sorted(set(kinds.values())).index(kind)
        held = [(count, -float(filling[index])) for count, filling in zip(counts, found, strict=True)]
        program.require([*taken, *held], _LE, 0)


def _fillings(
    program: _Program, sizes: list[Size], pool: Pool
) -> tuple[Mapping[Size, Size], tuple[tuple[int, ...], ...]]:
    """Ways to fill a node: all of them; with too many sizes, those of sizes rounded up; at worst, of one size each."""
    same = {size: size for size in sizes}
    found = patterns(sorted(sizes), pool, _PATTERNS)
    if found is not None:
        return same, found
    program.exact = False
    rounded = rounded_up(sizes)
    kinds = sorted(set(rounded.values()))
    found = patterns(kinds, pool, _PATTERNS) if all(per_node(kind, pool) for kind in kinds) else None
    if found is not None:
        return rounded, found
    ordered = sorted(sizes)
    return same, tuple(tuple(per_node(s, pool) if s == size else 0 for s in ordered) for size in ordered)


# --- objectives ---


def _price_unit(problem: Problem) -> float:
    """Prices are scaled so that the largest is 1."""
    return max((pool.price_per_node_hour for pool in problem.pools), default=0.0) or 1.0


def _cost(program: _Program) -> _Terms:
    unit = _price_unit(program.problem)
    return [(program.nodes[pool.name], pool.price_per_node_hour / unit) for pool in program.problem.pools]


def _run(program: _Program, terms: _Terms, seconds: float, gap: float, whole: bool = True) -> None:
    program.lp.setObjective(pulp.LpAffineExpression(terms))
    solver = pulp.getSolver(
        "HiGHS",
        mip=whole,
        msg=False,
        timeLimit=max(0.2, seconds),
        gapRel=gap,
        gapAbs=1e-9,
        threads=1,
        log_to_console=False,
        primal_feasibility_tolerance=1e-9,
        mip_feasibility_tolerance=1e-9,
    )
    program.lp.solve(solver)


def _minimised(program: _Program, terms: _Terms, deadline: float, part: float, gap: float) -> _Answer:
    """Minimise within this part of the time that is left."""
    _run(program, terms, (deadline - monotonic()) * part, gap)
    if program.lp.status == pulp.LpStatusInfeasible:
        return _Answer("infeasible")
    optimal = program.lp.sol_status == pulp.LpSolutionOptimal
    if not optimal and program.lp.sol_status != pulp.LpSolutionIntegerFeasible:
        return _Answer("unsolved")
    objective = sum(coefficient * (variable.varValue or 0.0) for variable, coefficient in terms)
    bound = program.lp.solverModel.getInfo().mip_dual_bound
    if abs(bound) > 1e30:  # nothing whole was left to decide
        bound = objective
    return _Answer("optimal" if optimal else "feasible", objective, bound, program.solution())


def _narrowed(program: _Program, terms: _Terms, deadline: float, part: float, gap: float) -> _Answer:
    """For large programs: the relaxation gives the bound and, per model, the configurations worth a search."""
    _run(program, terms, (deadline - monotonic()) * part, gap, whole=False)
    if program.lp.sol_status != pulp.LpSolutionOptimal:
        return _Answer("infeasible" if program.lp.status == pulp.LpStatusInfeasible else "unsolved")
    bound = float(pulp.value(program.lp.objective))
    by_model: dict[str, list[tuple[float, tuple[str, str, str]]]] = defaultdict(list)
    for key, variable in program.replicas.items():
        by_model[key[0]].append((-1.0 if (variable.varValue or 0.0) > 1e-6 else variable.dj or 0.0, key))
    dull = [key for found in by_model.values() for worth, key in sorted(found)[_PROMISING:] if worth >= 0]
    limits = {key: program.replicas[key].upBound for key in dull}
    for key in dull:
        program.replicas[key].upBound = 0
    answer = _minimised(program, terms, deadline, 0.8, gap)
    for key, limit in limits.items():
        program.replicas[key].upBound = limit
    if answer.status == "infeasible":
        return _Answer("unsolved")
    close = answer.solution is not None and answer.objective - bound <= gap * max(abs(answer.objective), 1e-9)
    if answer.solution is None or close:
        return replace(answer, bound=bound)
    return replace(answer, bound=bound, status="feasible")


def _by_priority(program: _Program, deadline: float, gap: float) -> _Answer:
    """For the highest priority, then the next: serve as many requests per second as possible, then come as near to the
    minima of replicas as possible; then minimise cost."""
    classes: dict[int, list[ModelDemand]] = defaultdict(list)
    for model in program.problem.models:
        classes[model.priority].append(model)
    wishes: list[_Terms] = []
    for priority in sorted(classes, reverse=True):
        wishes.append([(variable, -part) for variable, part in _served(program, classes[priority])])
        wishes.append([(program.missing[m.name], 1.0) for m in classes[priority] if m.name in program.missing])
    wishes = [terms for terms in wishes if terms]
    optimal, last = True, _Answer("unsolved")
    for left, terms in zip(range(len(wishes), 0, -1), wishes, strict=True):
        if last.solution is not None and terms[0][1] > 0 and sum(v.varValue or 0.0 for v, _ in terms) < 1e-6:
            program.require(terms, _LE, 1e-8)  # nothing is missing as it is
            continue
        answer = _minimised(program, terms, deadline, 1 / (left + 1), gap)
        if answer.solution is None:
            return answer if last.solution is None else replace(last, status="feasible", bound=0.0)
        optimal = optimal and answer.status == "optimal"
        program.require(terms, _LE, answer.objective + 1e-8)
        last = answer
    answer = _minimised(program, _cost(program), deadline, 0.8, gap)
    if answer.solution is None:
        return replace(last, status="feasible", bound=0.0)
    return answer if optimal else replace(answer, status="feasible")


def _served(program: _Program, models: list[ModelDemand]) -> _Terms:
    """The fraction of these models' requests that is served."""
    rates = {(model.name, load.bucket): load.rate for model in models for load in model.buckets}
    total = sum(rates.values()) or 1.0
    return [
        (variable, rates[model, bucket] / total)
        for (model, bucket, _), variable in program.shares.items()
        if (model, bucket) in rates
    ]


def _least_change(program: _Program, answer: _Answer, deadline: float) -> Solution | None:
    """Among plans of this cost, the one that starts fewest new replicas; None when that is not asked or not found."""
    running = {(r.model, r.configuration, r.pool): r.replicas for r in program.problem.running}
    if not running:
        return None
    program.require(_cost(program), _LE, answer.objective * (1 + 1e-9) + 1e-9)
    terms: _Terms = []
    for key, variable in program.replicas.items():
        started = program.variable("d", (variable.upBound or 0) + 1, whole=False)
        program.require([(variable, 1.0), (started, -1.0)], _LE, running.get(key, 0))
        terms += [(started, 1.0), (variable, 1e-3)]
    return _minimised(program, terms, deadline, 1.0, 1e-4).solution


# --- contradictions ---


def _contradictions(problem: Problem) -> Iterator[str]:
    """What no plan can satisfy, however much there is of everything."""
    for model in problem.models:
        if model.max_replicas is not None and model.min_replicas > model.max_replicas:
            yield f"{model.name}: minReplicas {model.min_replicas} is above maxReplicas {model.max_replicas}"
