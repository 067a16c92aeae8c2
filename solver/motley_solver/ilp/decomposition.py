"""Large fleets, model by model: only nodes couple the models, so each is solved by itself at the prices that the pools
put on a replica (Dantzig and Wolfe), and what that proves is handed to a program of whole replicas without flows
(Benders). Both give plans, both give bounds; flows are only ever solved for one model at a time."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from time import monotonic

from motley_solver.ilp.fleet import require_budget, solution_of
from motley_solver.ilp.greedy import Room, greedily
from motley_solver.ilp.nodes import Nodes, add_nodes, bill_of, price_unit, risk_of
from motley_solver.ilp.oracle import Column, Cut, Oracle, Prices
from motley_solver.ilp.program import EQ, GE, LE, Answer, Program, Row, Terms, Variable, value
from motley_solver.ilp.serving import Serving, add_replicas, add_serving, changes, started
from motley_solver.packing import Size
from motley_solver.problem import Problem
from motley_solver.rounding import Solution
from motley_solver.switching import Place

_ROUNDS = 60
_SAFE = 1e-7  # relative; taken off what a cut claims, for the tolerances of the program that found it
_LOOSE = 1e-6  # tolerance of a program of cuts: at a tighter one presolve has cut off the best replicas
_BEYOND = 0.5, 8.0, 1e6  # nodes beyond the stock: their price first, its growth while some are bought, its end
_STALE = 2  # rounds without progress of the bound
_ROUGH = 1e-2  # gap of an answer that only makes a cut stronger

Standing = dict[str, dict[Size, Terms]]


@dataclass(frozen=True)
class _Master:
    answer: Answer
    nodes: list[Nodes]
    choices: list[list[Variable]]  # per model, one variable per column
    one_each: list[Row]
    beyond: list[Variable]  # nodes that the pools do not have


@dataclass(frozen=True)
class Best:
    objective: float = inf
    columns: tuple[Column, ...] = ()
    nodes: Mapping[str, float] = field(default_factory=dict)


class Decomposition:
    """All in price units, without what the reserved nodes cost anyway."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.unit = problem, price_unit(problem)
        self.oracles = [Oracle(problem, model, self.unit) for model in problem.models]
        self.columns: list[dict[Column, None]] = [{} for _ in self.oracles]
        self.cuts: list[list[Cut]] = [[] for _ in self.oracles]
        self.bound, self.best, self.exact = 0.0, Best(), True
        self.impossible = False  # proven: not everything can be served
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
        early = deadline if self.best.columns else min(deadline, early)
        if self._price_rounds(_within(early, 0.75), early) and not self.closed:
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
        solution, complete = greedily(self.problem, self.problem.models, Room(self.problem))
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
        if not all(self._ask(i, oracle.fair_prices, deadline, self._fine) for i, oracle in enumerate(self.oracles)):
            if self.best.columns:
                self._choose(deadline)
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
        least = max(cut.least(prices) for cut in self.cuts[i])
        if least < paid * (1 - self.gap / 8):
            asked = self._ask(i, prices, deadline, self._fine)
            least = asked.bound if asked else least
        return max(0.0, paid - least)

    def _ask(self, i: int, prices: Prices, deadline: float, gap: float) -> Cut | None:
        found = self.oracles[i].cheapest(prices, deadline, gap)
        if found is None:
            return None
        cut, column = found
        self.cuts[i].append(cut)
        self.columns[i][column] = None
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
            self._keep(master.answer.objective, columns, master.nodes)

    def _keep(self, objective: float, columns: Sequence[Column | None], nodes: list[Nodes]) -> None:
        """Remembers a plan, where it is one, and what it consists of."""
        chosen = tuple(column for column in columns if column is not None)
        if len(chosen) < len(columns):
            return
        for known, column in zip(self.columns, chosen, strict=True):
            known[column] = None
        if objective < self.best.objective:
            self.best = Best(objective, chosen, bought(nodes))

    # --- whole replicas without flows ---

    def _search(self, deadline: float) -> None:
        """Until the gap closes: the cheapest replicas that keep all cuts, and new cuts from what these cannot serve.
        Where that finds no better plan, each model is planned anew beside the others of the best."""
        patience = 0.5
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
        program, servings, nodes, costs = self._cut_program()
        answer = program.minimise(costs, waited, self.gap / 2, tolerance=_LOOSE)
        self.impossible = answer.status == "infeasible"
        if not answer.found:
            return not self.impossible
        self._raise(answer.bound)
        counts = [counts_of(serving) for serving in servings]
        broken = [self._separate(i, mine, deadline) for i, mine in enumerate(counts)]
        if any(broken):
            self._repair(counts, broken, deadline)
            self._choose(deadline)
        else:
            columns = [oracle.column(mine) for oracle, mine in zip(self.oracles, counts, strict=True)]
            self._keep(answer.objective, columns, nodes)
        return any(broken) or answer.status != "optimal"

    def _cut_program(self) -> tuple[Program, list[Serving], list[Nodes], Terms]:
        program = Program()
        servings = [Serving(oracle.model, oracle.kinds) for oracle in self.oracles]
        standing: Standing = defaultdict(lambda: defaultdict(list))
        costs: Terms = []
        for i, (oracle, serving) in enumerate(zip(self.oracles, servings, strict=True)):
            add_replicas(program, serving, everything=True)
            starting = oracle.switching_of(program, serving)
            costs += starting
            for (key, pool), variable in serving.replicas.items():
                standing[pool][oracle.sizes[key]].append((variable, 1.0))
            for cut in self.cuts[i]:
                _require_cut(program, serving, cut, starting)
        nodes = self._add_pools(program, standing, whole=True)
        return program, servings, nodes, [*self._cost(nodes), *costs]

    def _separate(self, i: int, counts: dict[Place, int], deadline: float) -> bool:
        """Can these replicas not serve the model? Then there are new cuts."""
        if any(all(counts[place] >= n for place, n in column.replicas) for column in self.columns[i]):
            return False
        cut = self.oracles[i].missing(counts, deadline)
        if cut is not None and cut.prices:
            self.cuts[i].append(cut)
            self._ask(i, cut.prices, deadline, _ROUGH)  # stronger, as replicas are whole
        return cut is not None

    def _repair(self, counts: list[dict[Place, int]], broken: list[bool], deadline: float) -> None:
        """The models that are served stay; the others are planned one after the other on what is left."""
        columns: list[Column | None] = [
            None if bad else oracle.column(mine) for oracle, mine, bad in zip(self.oracles, counts, broken, strict=True)
        ]
        for i in (i for i, bad in enumerate(broken) if bad):
            if not self._replan(i, columns, deadline):
                return

    def _polish(self, deadline: float) -> None:
        for i in range(len(self.oracles)):
            if self.closed or monotonic() > deadline:
                return
            self._replan(i, list(self.best.columns), _within(deadline, 0.3))
        self._choose(deadline)

    def _replan(self, i: int, columns: list[Column | None], deadline: float) -> bool:
        """The cheapest way to serve this model beside the others' replicas goes into the columns; a plan, once none is
        missing."""
        program, serving, nodes, costs = self._beside(i, columns)
        answer = program.minimise(costs, deadline, min(2e-3, self.gap / 4), lean=True)
        if answer.found:
            columns[i] = self.oracles[i].column(counts_of(serving))
            self._keep(answer.objective, columns, nodes)
        return answer.found

    def _beside(self, i: int, columns: Sequence[Column | None]) -> tuple[Program, Serving, list[Nodes], Terms]:
        """One model with its flows, on nodes where the others' replicas stand."""
        program, oracle = Program(), self.oracles[i]
        serving = add_serving(program, self.problem, oracle.model, True, oracle.kinds)
        starting = oracle.switching_of(program, serving)
        standing: Standing = defaultdict(lambda: defaultdict(list))
        for (key, pool), variable in serving.replicas.items():
            standing[pool][oracle.sizes[key]].append((variable, 1.0))
        one = program.constant()
        for other, column in zip(self.oracles, columns, strict=True):
            if other is not oracle and column is not None:
                starting.append((one, column.switching))
                for (key, pool), count in column.replicas:
                    standing[pool][other.sizes[key]].append((one, float(count)))
        nodes = self._add_pools(program, standing, whole=True)
        return program, serving, nodes, [*self._cost(nodes), *starting]

    def _least_change(self, deadline: float) -> None:
        """Where starting replicas is free: each model in turn starts as few as it can at no more cost."""
        for i, oracle in enumerate(self.oracles):
            columns, most = list(self.best.columns), self.best.objective * (1 + 1e-9) + 1e-9
            if monotonic() > deadline or not oracle.starts(columns[i]):
                continue
            program, serving, nodes, costs = self._beside(i, columns)
            program.require(costs, LE, most)
            beyond = started(program, self.problem, serving)
            if program.minimise(changes(serving, beyond), deadline, 1e-4, lean=True).found:
                columns[i] = oracle.column(counts_of(serving))
                self.best = replace(self.best, columns=tuple(columns), nodes=bought(nodes))


def bought(nodes: list[Nodes]) -> dict[str, float]:
    return {each.pool.name: each.bought.varValue or 0.0 for each in nodes}


def counts_of(serving: Serving) -> dict[Place, int]:
    return {place: round(variable.varValue or 0.0) for place, variable in serving.replicas.items()}


def _within(deadline: float, part: float) -> float:
    """The moment at which this part of the time that is left is over."""
    now = monotonic()
    return now + max(0.0, deadline - now) * part


def _require_cut(program: Program, serving: Serving, cut: Cut, starting: Terms) -> None:
    largest = max(cut.prices.values(), default=0.0)
    if largest <= 0:
        return
    terms = [
        (serving.replicas[place], price / largest) for place, price in cut.prices.items() if price > 1e-9 * largest
    ]
    terms += [(variable, cost / largest) for variable, cost in starting] if cut.switching else []
    program.require(terms, GE, cut.bound / largest * (1 - _SAFE))
