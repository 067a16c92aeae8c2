"""Large fleets, model by model: only nodes couple the models, so each is solved by itself at the prices that the pools
put on a replica (Dantzig and Wolfe), and what that proves is handed to a program of whole replicas without flows
(Benders). Both give plans, both give bounds; flows are left to each model's oracle."""

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic

from motley_solver.ilp.fleet import require_budget, solution_of
from motley_solver.ilp.greedy import Room, greedily
from motley_solver.ilp.nodes import Nodes, add_nodes, bill_of, price_unit, risk_of
from motley_solver.ilp.oracle import LOOSE, Column, Cut, Oracle, Prices, counts_of
from motley_solver.ilp.program import EQ, LE, Answer, Program, Row, Terms, Variable, value, within
from motley_solver.ilp.serving import Serving, changes, started
from motley_solver.packing import Size
from motley_solver.problem import Problem
from motley_solver.rounding import Solution
from motley_solver.switching import Place

_ROUNDS = 60
_BEYOND = 0.5, 8.0, 1e6  # nodes beyond the stock: their price first, its growth while some are bought, its end
_STALE = 2  # rounds without progress of the bound
_ROUGH, _FEW = 1e-2, 8  # gap and rounds of an answer that only makes a cut stronger

Standing = dict[str, dict[Size, Terms]]


@dataclass(frozen=True)
class _Master:
    answer: Answer
    nodes: list[Nodes]
    choices: list[list[Variable]]  # per model, one variable per column
    one_each: list[Row]
    beyond: list[Variable]  # nodes that the pools do not have


@dataclass(frozen=True)
class _CutProgram:
    program: Program
    servings: dict[int, Serving]  # of the models that are planned
    nodes: list[Nodes]
    costs: Terms


@dataclass(frozen=True)
class Best:
    objective: float = inf
    columns: tuple[Column, ...] = ()
    nodes: Mapping[str, float] = field(default_factory=dict)


class Decomposition:
    """All in price units, without what the reserved nodes cost anyway."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.unit, self._began = problem, price_unit(problem), monotonic()
        self.oracles = [Oracle(problem, model, self.unit) for model in problem.models]
        self.columns: list[dict[Column, None]] = [{} for _ in self.oracles]
        self.bound, self.best, self.exact = 0.0, Best(), True
        self.gap, self._dear = 1e-6, _BEYOND[0]
        self._sizes: dict[str, set[Size]] = defaultdict(set)
        for oracle in self.oracles:
            for key, pool in oracle.places:
                self._sizes[pool].add(oracle.sizes[key])

    def solve(self, deadline: float, gap: float, early: float = inf) -> Solution | None:
        """The best solution found, with its `bound`; None where there is none that serves everything. Without one the
        search ends at the `early` moment already."""
        self.gap = gap
        self._start(deadline)
        deadline -= monotonic() - self._began  # the flows of all models, at the end, take about as long again
        early = deadline if self.best.columns else min(deadline, early)
        if self._price_rounds(within(early, 0.75), early) and not self.closed:
            self._search(deadline if self.best.columns else early)
        if not self.best.columns:
            return None
        if self.problem.running and self.problem.start_hours <= 0:
            self._least_change(deadline)
        chosen = zip(self.oracles, self.best.columns, strict=True)
        servings = [oracle.serving_by(column, monotonic() + 5) for oracle, column in chosen]
        return solution_of(servings, self.best.nodes)

    @property
    def closed(self) -> bool:
        return self.best.objective < inf and self.best.objective - self.bound <= self.gap * max(
            abs(self.best.objective), 1e-9
        )

    @property
    def _fine(self) -> float:
        """The gap of an answer that the bound is made of."""
        return min(1e-3, self.gap / 4)

    # --- the pools ---

    def _add_pools(self, program: Program, standing: Standing, whole: bool, capped: bool = True) -> list[Nodes]:
        nodes = []
        for pool in self.problem.pools:
            here: dict[Size, Terms] = {size: [] for size in self._sizes[pool.name]}  # each has a row, so each a price
            nodes.append(add_nodes(program, pool, {**here, **standing[pool.name]}, whole, capped))
        require_budget(program, self.problem, tuple(nodes))
        self.exact = all(n.exact for n in nodes)
        return nodes

    def _cost(self, nodes: list[Nodes]) -> Terms:
        costs = [*bill_of(nodes), *risk_of(nodes, self.problem.start_hours)]
        return [(variable, cost / self.unit) for variable, cost in costs if cost > 0]

    # --- prices ---

    def _start(self, deadline: float) -> None:
        """A plan in hand, where the greedy one is whole."""
        models = ((oracle.model, oracle.kinds) for oracle in self.oracles)
        solution, complete = greedily(self.problem, models, Room(self.problem))
        if complete:
            counts: list[dict[Place, int]] = [{} for _ in self.oracles]
            index = {oracle.model.name: i for i, oracle in enumerate(self.oracles)}
            for (model, key, pool), count in solution.replicas.items():
                counts[index[model]][key, pool] = round(count)
            for oracle, columns, mine in zip(self.oracles, self.columns, counts, strict=True):
                columns[oracle.column(mine)] = None
            self._choose(deadline)

    def _price_rounds(self, rounds_end: float, deadline: float) -> bool:
        """Columns at prices, prices from columns, until the bound stands; then the best choice of columns."""
        for i, oracle in enumerate(self.oracles):
            if self._ask(i, oracle.fair_prices, deadline, self._fine).bound == inf:
                return False
        if not all(self.columns):
            return False
        stale = 0
        for _ in range(_ROUNDS):
            master = self._master(whole=False, deadline=deadline)
            if not master.answer.found:
                return False
            # what the columns not yet found could save at most, model by model
            saving = sum(self._saving(i, master, deadline) for i in range(len(self.oracles)))
            stale = 0 if self._raise(master.answer.objective - saving) else stale + 1
            settled = saving <= self.gap / 4 * master.answer.objective or stale >= _STALE
            if settled and value((variable, 1.0) for variable in master.beyond) > 1e-6 and self._dear < _BEYOND[2]:
                self._dear, stale = self._dear * _BEYOND[1], 0
            elif settled or monotonic() > rounds_end:
                break
        self._choose(deadline)
        if not self.best.columns:
            self._round(master, deadline)
        if not self.best.columns:
            self._repair([{} for _ in self.oracles], [True for _ in self.oracles], deadline)
        return True

    def _round(self, master: _Master, deadline: float) -> None:
        """The models to which the relaxed program gives one column whole keep it; few are left to plan anew."""
        found = [
            max(zip(columns, chosen, strict=False), key=lambda pair: pair[1].varValue or 0.0)
            for columns, chosen in zip(self.columns, master.choices, strict=True)
        ]  # columns that came later have no variable
        broken = [(variable.varValue or 0.0) < 1 - 1e-6 for _, variable in found]
        if any(broken):
            self._repair([dict(column.replicas) for column, _ in found], broken, deadline)

    def _saving(self, i: int, master: _Master, deadline: float) -> float:
        """What earlier answers prove to be little is not asked again."""
        prices, paid = self._prices(self.oracles[i], master), float(master.one_each[i].pi)
        least = max(cut.least(prices) for cut in self.oracles[i].cuts)
        if least < paid * (1 - self.gap / 8):
            least = max(least, self._ask(i, prices, deadline, self._fine).bound)
        return max(0.0, paid - least)

    def _ask(self, i: int, prices: Prices, deadline: float, gap: float, **rounds: int) -> Cut:
        cut, column = self.oracles[i].cheapest(prices, deadline, gap, **rounds)
        self.oracles[i].cuts.append(cut)
        self.columns[i] |= {column: None} if column else {}
        return cut

    def _raise(self, bound: float) -> bool:
        better = self.exact and bound > self.bound * (1 + self.gap / 20)
        self.bound = max(self.bound, bound) if self.exact else 0.0
        return better

    def _prices(self, oracle: Oracle, master: _Master) -> dict[Place, float]:
        pools = {nodes.pool.name: nodes for nodes in master.nodes}
        return {(key, pool): pools[pool].price_of(oracle.sizes[key]) for key, pool in oracle.places}

    def _master(self, whole: bool, deadline: float) -> _Master:
        """One column of each model on the nodes of all pools. Relaxed, there are nodes beyond the stock for more
        money: so there is always an answer, and prices stay within reason."""
        program = Program()
        standing: Standing = defaultdict(lambda: defaultdict(list))
        costs: Terms = []
        choices, rows = [], []
        for oracle, columns in zip(self.oracles, self.columns, strict=True):
            chosen = [program.variable(1, whole) for _ in columns]
            choices.append(chosen)
            for variable, column in zip(chosen, columns, strict=True):
                costs.append((variable, column.switching))
                for (key, pool), count in column.replicas:
                    standing[pool][oracle.sizes[key]].append((variable, float(count)))
            rows.append(program.require([(variable, 1.0) for variable in chosen], EQ, 1))
        nodes = self._add_pools(program, standing, whole, capped=whole)
        beyond = []
        for each in nodes if not whole else ():
            more = program.variable(None, whole=False)
            program.require([(each.bought, 1.0), (more, -1.0)], LE, each.pool.max_nodes)
            costs.append((more, self._dear * max(each.pool.price_per_node_hour / self.unit, 0.01)))
            beyond.append(more)
        costs += self._cost(nodes)
        answer = program.minimise(costs, deadline, self.gap / 4, whole)
        return _Master(answer, nodes, choices, rows, beyond)

    def _choose(self, deadline: float) -> None:
        master = self._master(whole=True, deadline=deadline)
        if master.answer.found:
            columns = [
                max(zip(columns, chosen, strict=True), key=lambda pair: pair[1].varValue or 0.0)[0]
                for columns, chosen in zip(self.columns, master.choices, strict=True)
            ]
            self._keep(Best(master.answer.objective, tuple(columns), bought(master.nodes)))

    def _keep(self, plan: Best) -> None:
        """Remembers what it consists of, and the plan where it is the best."""
        for known, column in zip(self.columns, plan.columns, strict=True):
            known[column] = None
        if plan.objective < self.best.objective:
            self.best = plan

    # --- whole replicas without flows ---

    def _search(self, deadline: float) -> None:
        """Until the gap closes: the cheapest replicas that keep all cuts, and new cuts from what these cannot serve.
        Where that finds no better plan, each model is planned anew beside the others of the best."""
        patience = 1.0
        polished: tuple[Column, ...] = ()
        while not self.closed and monotonic() < deadline:
            before, waited = self.best, monotonic() + patience
            if not self._cut_round(min(deadline, waited), deadline):
                return
            if monotonic() > waited:
                patience *= 2
            if self.best is before and before.columns != polished:
                self._polish(deadline)
                polished = self.best.columns

    def _cut_round(self, waited: float, deadline: float) -> bool:
        """The cheapest replicas that keep all cuts; what they cannot serve becomes new cuts, and is planned anew beside
        the others: a plan. False where that was the last word."""
        everyone = range(len(self.oracles))
        cut = self._cut_program(everyone, [None for _ in everyone])
        answer = cut.program.minimise(cut.costs, waited, self.gap / 2, tolerance=LOOSE)
        if not answer.found:
            return answer.status != "infeasible"
        self._raise(answer.bound)
        counts = [counts_of(cut.servings[i]) for i in everyone]
        broken = [self._separate(i, mine, deadline) for i, mine in enumerate(counts)]
        if any(broken):
            self._repair(counts, broken, deadline)
            self._choose(deadline)
        else:
            columns = tuple(oracle.column(mine) for oracle, mine in zip(self.oracles, counts, strict=True))
            self._keep(Best(answer.objective, columns, bought(cut.nodes)))
        return any(broken) or answer.status != "optimal"

    def _cut_program(self, planned: Container[int], columns: Sequence[Column | None]) -> _CutProgram:
        """Whole replicas of the planned models, as far as cuts know which serve, beside what stands of the others."""
        program = Program()
        one = program.constant()
        standing: Standing = defaultdict(lambda: defaultdict(list))
        servings: dict[int, Serving] = {}
        costs: Terms = []
        for i, (oracle, column) in enumerate(zip(self.oracles, columns, strict=True)):
            if i in planned:
                servings[i], starting = oracle.without_flows(program)
                costs += starting
                for (key, pool), variable in servings[i].replicas.items():
                    standing[pool][oracle.sizes[key]].append((variable, 1.0))
            elif column is not None:
                costs.append((one, column.switching))
                for (key, pool), count in column.replicas:
                    standing[pool][oracle.sizes[key]].append((one, float(count)))
        nodes = self._add_pools(program, standing, whole=True)
        return _CutProgram(program, servings, nodes, [*self._cost(nodes), *costs])

    def _separate(self, i: int, counts: dict[Place, int], deadline: float) -> bool:
        """Can these replicas not serve the model? Then there are new cuts."""
        if any(all(counts[place] >= n for place, n in column.replicas) for column in self.columns[i]):
            return False
        cuts = self.oracles[i].cuts
        known = len(cuts)
        if self.oracles[i].serves(counts, deadline):
            return False
        if len(cuts) > known:
            self._ask(i, cuts[-1].prices, deadline, _ROUGH, rounds=_FEW)
        return True

    def _repair(self, counts: list[dict[Place, int]], broken: list[bool], deadline: float) -> None:
        """The models that are served stay; the others are planned one after the other on what is left."""
        columns: list[Column | None] = [
            None if bad else oracle.column(mine) for oracle, mine, bad in zip(self.oracles, counts, broken, strict=True)
        ]
        for i in (i for i, bad in enumerate(broken) if bad):
            plan = self._replan(i, columns, deadline)
            if plan is None:
                return
            if None not in columns:
                self._keep(plan)

    def _polish(self, deadline: float) -> None:
        for i in range(len(self.oracles)):
            plan = None if self.closed else self._replan(i, list(self.best.columns), within(deadline, 0.3))
            self._keep(plan or self.best)
        self._choose(deadline)

    def _least_change(self, deadline: float) -> None:
        """Where starting replicas is free: each model in turn starts as few as it can at no more cost."""
        for i, oracle in enumerate(self.oracles):
            if oracle.starts(self.best.columns[i]):
                at_most = self.best.objective * (1 + 1e-9) + 1e-9
                self.best = self._replan(i, list(self.best.columns), deadline, at_most) or self.best

    def _replan(self, i: int, columns: list[Column | None], deadline: float, at_most: float = inf) -> Best | None:
        """The cheapest replicas of this model beside the others' go into the columns; where a cost is given, those that
        change least for that much."""
        oracle, counts = self.oracles[i], dict[Place, int]()
        while monotonic() < deadline:
            cut = self._cut_program([i], columns)
            aim = cut.costs
            if at_most < inf:
                cut.program.require(cut.costs, LE, at_most)
                aim = changes(cut.servings[i], started(cut.program, self.problem, cut.servings[i]))
            answer = cut.program.minimise(aim, deadline, self._fine, lean=True, tolerance=LOOSE)
            before, counts = counts, counts_of(cut.servings[i])
            if not answer.found or counts == before:
                break
            if oracle.serves(counts, deadline):
                columns[i] = oracle.column(counts)
                return Best(value(cut.costs), tuple(c for c in columns if c is not None), bought(cut.nodes))
        return None


def bought(nodes: list[Nodes]) -> dict[str, float]:
    return {each.pool.name: each.bought.varValue or 0.0 for each in nodes}
