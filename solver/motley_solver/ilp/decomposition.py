"""Large fleets, model by model: only nodes couple the models, so each is solved by itself at the prices that the pools
put on a replica (Dantzig and Wolfe), and what that proves is handed to a program of whole replicas without flows
(Benders). Both give plans, both give bounds; flows are only ever solved for one model at a time."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from time import monotonic

from motley_solver.ilp.fleet import require_budget, solution_of
from motley_solver.ilp.nodes import Nodes, add_nodes, bill_of, price_unit, risk_of
from motley_solver.ilp.oracle import Column, Cut, Oracle, Place, Prices
from motley_solver.ilp.program import EQ, GE, LE, Answer, Program, Row, Terms, Variable, value
from motley_solver.ilp.serving import Serving, add_replicas, add_serving
from motley_solver.packing import Size
from motley_solver.problem import Problem
from motley_solver.rounding import Solution

_ROUNDS = 60
_SAFE = 1e-7  # relative; taken off what a cut claims, for the tolerances of the program that found it
_LOOSE = 1e-6  # tolerance of a program of cuts: at a tighter one presolve has cut off the best replicas
_BEYOND = 0.5, 8.0, 1e6  # nodes beyond the stock: their price first, its growth while some are bought, its end
_STALE = 2  # rounds without progress of the bound
_GOLDEN = 0.6180339887  # its multiples are spread evenly, modulo 1
_NODE_PRICES = 3  # rounds of prices at the same whole nodes
_GROUP = 4  # models that are planned anew together, at most

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
    nodes: Mapping[str, float] | None = None


@dataclass(frozen=True)
class _CutProgram:
    program: Program
    servings: list[Serving]
    nodes: list[Nodes]
    costs: Terms


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
        early = min(deadline, early)
        rounds_end = monotonic() + 0.75 * (early - monotonic())
        if self._price_rounds(rounds_end, early) and not self.closed:
            self._search(deadline if self.best.columns else early)
        if not self.best.columns:
            return None
        chosen = zip(self.oracles, self.best.columns, strict=True)
        servings = [oracle.serving_by(column, monotonic() + 5) for oracle, column in chosen]
        return solution_of(servings, self.best.nodes or {})

    @property
    def closed(self) -> bool:
        return self.best.objective < inf and self.best.objective - self.bound <= self.gap * max(
            abs(self.best.objective), 1e-9
        )

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

    def _price_rounds(self, rounds_end: float, deadline: float) -> bool:
        """Columns at prices, prices from columns, until the bound stands; then the best choice of columns."""
        if not all(self._ask(i, oracle.fair_prices, deadline) for i, oracle in enumerate(self.oracles)):
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
            asked = self._ask(i, prices, deadline)
            least = asked.bound if asked else least
        return max(0.0, paid - least)

    def _ask(self, i: int, prices: Prices, deadline: float) -> Cut | None:
        found = self.oracles[i].cheapest(prices, deadline, min(1e-3, self.gap / 4))
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

    def _master(self, whole: bool, deadline: float, stock: Mapping[str, int] | None = None) -> _Master:
        """One column of each model on the nodes of all pools. Relaxed, there are nodes beyond the stock for more
        money: so there is always an answer, and prices stay within reason. With `stock`, these nodes are paid and all
        others cost more."""
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
            most = each.pool.max_nodes if stock is None else stock[each.pool.name]
            dear = self._dear if stock is None else 1 + self._dear
            program.require([(each.bought, 1.0), (more, -1.0)], LE, most)
            costs.append((more, dear * max(each.pool.price_per_node_hour / self.unit, 0.01)))
            beyond.append(more)
        costs += self._cost(nodes) if stock is None else []
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

    def _keep(self, objective: float, columns: list[Column], nodes: list[Nodes]) -> None:
        if objective < self.best.objective:
            found = {n.pool.name: n.bought.varValue or 0.0 for n in nodes}
            self.best = Best(objective, tuple(columns), found)

    # --- whole replicas without flows ---

    def _search(self, deadline: float) -> None:
        """In turn, until the gap closes: groups of models are planned anew together, ever larger ones; what the models
        cost on some whole numbers of nodes becomes columns and cuts; so does what the cheapest replicas that keep all
        cuts cannot serve."""
        size, patience = 1, 0.5
        for turn in range(_ROUNDS):
            before, waited = self.best.objective, monotonic() + patience
            self._node_round(min(deadline, waited))
            self._improve(size, turn, deadline)
            waited = monotonic() + patience
            if not self._cut_round(min(deadline, waited)) or self.closed or monotonic() > deadline:
                return
            if monotonic() > waited:
                patience *= 2
            if self.best.objective > before - self.gap / 20 * abs(before):
                size = min(size + 1, _GROUP, len(self.oracles))

    def _cut_round(self, deadline: float) -> bool:
        """The cheapest replicas that keep all cuts; what they cannot serve becomes new cuts, and is planned anew beside
        the others: a plan. False where that was the last word."""
        master = self._cut_program()
        answer = master.program.minimise(master.costs, deadline, self.gap / 2, tolerance=_LOOSE)
        self.impossible = answer.status == "infeasible"
        if not answer.found:
            return not self.impossible
        self._raise(answer.bound)
        counts = [counts_of(serving) for serving in master.servings]
        broken = [cut is not None for cut in self._separate(counts, deadline + 1)]
        if any(broken):
            self._repair(counts, broken, deadline + 1)
            self._choose(deadline + 1)
        else:
            columns = [oracle.column(mine) for oracle, mine in zip(self.oracles, counts, strict=True)]
            self._keep(answer.objective, columns, master.nodes)
        return any(broken) or answer.status != "optimal"

    def _node_round(self, deadline: float) -> None:
        """A bound: nodes are whole and replicas need not be, beyond what the cuts know of it. Then columns and cuts at
        the prices that these nodes have once they are paid."""
        master = self._cut_program(whole=False)
        answer = master.program.minimise(master.costs, deadline, self.gap / 4, tolerance=_LOOSE)
        if not answer.found:
            return
        self._raise(answer.bound)
        stock = {nodes.pool.name: round(nodes.bought.varValue or 0.0) for nodes in master.nodes}
        for _ in range(_NODE_PRICES):
            priced = self._master(whole=False, deadline=deadline, stock=stock)
            if not priced.answer.found or self.closed or monotonic() > deadline:
                break
            saving = sum(self._saving(i, priced, deadline) for i in range(len(self.oracles)))
            if saving <= self.gap / 4 * priced.answer.objective:
                break
        self._choose(deadline + 1)

    def _cut_program(self, whole: bool = True) -> _CutProgram:
        program = Program()
        servings = [Serving(oracle.model, oracle.kinds) for oracle in self.oracles]
        standing: Standing = defaultdict(lambda: defaultdict(list))
        costs: Terms = []
        for i, (oracle, serving) in enumerate(zip(self.oracles, servings, strict=True)):
            add_replicas(program, serving, everything=True, whole=whole)
            starting = oracle.switching_of(program, serving)
            costs += starting
            for (key, pool), variable in serving.replicas.items():
                standing[pool][oracle.sizes[key]].append((variable, 1.0))
            for cut in self.cuts[i]:
                _require_cut(program, serving, cut, starting)
        nodes = self._add_pools(program, standing, whole=True)
        return _CutProgram(program, servings, nodes, [*self._cost(nodes), *costs])

    def _separate(self, counts: list[dict[Place, int]], deadline: float) -> list[Cut | None]:
        found = []
        for i, oracle in enumerate(self.oracles):
            cut = oracle.missing(counts[i], deadline)
            if cut is not None and cut.prices:
                self.cuts[i].append(cut)
                self._ask(i, cut.prices, deadline)  # stronger, as replicas are whole
            found.append(cut)
        return found

    def _repair(self, counts: list[dict[Place, int]], broken: list[bool], deadline: float) -> None:
        """The models that are served stay; the others are planned one after the other on what is left."""
        columns: list[Column | None] = [
            None if bad else oracle.column(mine) for oracle, mine, bad in zip(self.oracles, counts, broken, strict=True)
        ]
        for i in (i for i, bad in enumerate(broken) if bad):
            found, objective, nodes = self._replan([i], columns, deadline)
            if not found:
                return
            columns[i] = found[i]
        for i, column in enumerate(columns):
            if column is not None:
                self.columns[i][column] = None
        self._keep(objective, [column for column in columns if column is not None], nodes)

    def _improve(self, size: int, turn: int, deadline: float) -> None:
        """Each model with some others is planned anew beside the rest; then the best choice of all columns."""
        if not self.best.columns:
            return
        prices = self._master(whole=False, deadline=deadline)
        for i in range(len(self.oracles)):
            if self.closed or monotonic() > deadline:
                return
            self._improve_group([i, *self._neighbours(i, turn)[: size - 1]], prices, deadline)
        self._choose(deadline)

    def _improve_group(self, group: list[int], prices: _Master, deadline: float) -> None:
        columns: list[Column | None] = list(self.best.columns)
        found, objective, nodes = self._replan(group, columns, _within(deadline, 0.3), prices)
        for i, column in found.items():
            self.columns[i][column] = None
            columns[i] = column
        if found:
            self._keep(objective, [each for each in columns if each is not None], nodes)

    def _neighbours(self, i: int, turn: int) -> list[int]:
        """The other models, in another order each turn: rather those first that stand in the same dear pools."""
        pools = [{pool for (_, pool), _ in column.replicas} for column in self.best.columns]
        prices = {pool.name: pool.price_per_node_hour / self.unit for pool in self.problem.pools}
        chance = [_GOLDEN * ((turn * len(pools) + i) * len(pools) + j) % 1 for j in range(len(pools))]
        shared = [0.01 + sum(prices[pool] for pool in pools[i] & theirs) for theirs in pools]
        return sorted((j for j in range(len(pools)) if j != i), key=lambda j: -shared[j] * chance[j])

    def _replan(
        self, group: list[int], columns: list[Column | None], deadline: float, prices: _Master | None = None
    ) -> tuple[dict[int, Column], float, list[Nodes]]:
        """The cheapest way to serve these models beside the others' replicas; several together only on what is worth
        its price."""
        program = Program()
        standing: Standing = defaultdict(lambda: defaultdict(list))
        starting: Terms = []
        servings: dict[int, Serving] = {}
        one = program.constant()
        for i, (oracle, column) in enumerate(zip(self.oracles, columns, strict=True)):
            if i in group:
                kinds = oracle.kinds
                if prices is not None and column is not None and len(group) > 1:
                    kinds = oracle.worth_their(self._prices(oracle, prices), {place for place, _ in column.replicas})
                serving = servings[i] = add_serving(program, self.problem, oracle.model, True, kinds)
                for (key, pool), variable in serving.replicas.items():
                    standing[pool][oracle.sizes[key]].append((variable, 1.0))
                starting += oracle.switching_of(program, serving)
            elif column is not None:
                starting.append((one, column.switching))
                for (key, pool), count in column.replicas:
                    standing[pool][oracle.sizes[key]].append((one, float(count)))
        nodes = self._add_pools(program, standing, whole=True)
        gap = min(2e-3, self.gap / 4)
        answer = program.minimise([*self._cost(nodes), *starting], deadline, gap, lean=len(group) == 1)
        if not answer.found:
            return {}, inf, nodes
        found = {i: self.oracles[i].column(counts_of(serving)) for i, serving in servings.items()}
        return found, answer.objective, nodes


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
