"""One model by itself: its cheapest whole replicas at given prices, and whether given replicas can serve it.
Two questions to which the decomposition of a large fleet needs answers, with proofs that hold for all other plans."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from time import monotonic

from motley_solver.ilp.program import GE, Program, Terms
from motley_solver.ilp.serving import Kind, Serving, add_replicas, add_serving, kinds_of, started, switching
from motley_solver.packing import Size, per_node, size_of
from motley_solver.problem import ModelDemand, Pool, Problem
from motley_solver.switching import Place, running_replicas, switching_per_hour

_ROUNDS = 100
_SAFE = 1e-7  # relative; taken off what a cut claims, for the tolerances of the program that found it
LOOSE = 1e-6  # tolerance of a program of cuts: at a tighter one presolve has cut off the best replicas
_OVERLOAD = 2e-8  # replicas; less than the smallest load that is planned

Prices = Mapping[Place, float]  # of one replica


@dataclass(frozen=True)
class Column:
    """Whole replicas that serve the model, and what starting them costs (in price units)."""

    replicas: tuple[tuple[Place, int], ...]
    switching: float


@dataclass(frozen=True)
class Cut:
    """Whatever serves the model has Σ prices·replicas (+ its switching cost, where `switching`) ≥ bound."""

    prices: Prices
    bound: float
    switching: bool

    def least(self, prices: Prices) -> float:
        """What it proves at other prices: nothing costs less than the smallest of their ratios says."""
        ratios = [prices[place] / price for place, price in self.prices.items() if price > 0]
        return self.bound * min(1.0 if self.switching else inf, min(ratios, default=0.0))

    def require(self, program: Program, serving: Serving, starting: Terms) -> None:
        largest = max(self.prices.values(), default=0.0)
        if largest > 0:
            terms = [
                (serving.replicas[p], price / largest) for p, price in self.prices.items() if price > 1e-9 * largest
            ]
            terms += [(variable, cost / largest) for variable, cost in starting] if self.switching else []
            program.require(terms, GE, self.bound / largest * (1 - _SAFE))


class Oracle:
    def __init__(self, problem: Problem, model: ModelDemand, unit: float) -> None:
        self.problem, self.model, self.unit = problem, model, unit
        self.kinds: tuple[Kind, ...] = kinds_of(problem, model)
        self.pools: dict[str, Pool] = {pool.name: pool for pool in problem.pools}
        self.sizes: dict[str, Size] = {c.key: size_of(c) for kind in self.kinds for c, _ in kind.members}
        self.places: tuple[Place, ...] = tuple(
            (c.key, pool.name) for kind in self.kinds for c, room in kind.members for pool in room
        )
        self.fair_prices: Prices = {place: self._fair_price(place) for place in self.places}
        self.cuts: list[Cut] = []  # what is known of all that serves the model
        self._running = running_replicas(problem, model)
        self._relaxed, self._solved = Program(), False
        self._overload = self._relaxed.variable(None, whole=False)

    def switching_of(self, program: Program, serving: Serving) -> Terms:
        terms = switching(self.problem, serving, started(program, self.problem, serving))
        return [(variable, cost / self.unit) for variable, cost in terms]

    def _fair_price(self, place: Place) -> float:
        """The replica's part of a node's price."""
        pool = self.pools[place[1]]
        return pool.price_per_node_hour / self.unit / per_node(self.sizes[place[0]], pool)

    def without_flows(self, program: Program) -> tuple[Serving, Terms]:
        """The model's whole replicas, as far as the cuts know which of them serve it, and what starting them costs."""
        serving = Serving(self.model, self.kinds)
        add_replicas(program, serving, everything=True)
        starting = self.switching_of(program, serving)
        for cut in self.cuts:
            cut.require(program, serving, starting)
        return serving, starting

    def cheapest(self, prices: Prices, deadline: float, gap: float, rounds: int = _ROUNDS) -> tuple[Cut, Column | None]:
        """The best replicas at these prices, and the cut that says so: those that keep all cuts, until they serve the
        model (Benders). Without replicas, where the rounds or the time were too few, or nothing serves it (bound ∞)."""
        scale = max(prices.values(), default=0.0) or 1.0
        best, counts = 0.0, dict[Place, int]()
        for _ in range(rounds):
            if monotonic() > deadline:
                break
            program = Program()
            serving, starting = self.without_flows(program)
            terms = [(v, prices[place] / scale) for place, v in serving.replicas.items()]
            terms += [(v, cost / scale) for v, cost in starting]
            answer = program.minimise(terms, deadline, gap, lean=True, tolerance=LOOSE)
            if not answer.found:
                best = inf if answer.status == "infeasible" else best
                break
            best, before, counts = max(best, answer.bound * scale), counts, counts_of(serving)
            if counts == before:  # the cut that it breaks is within the tolerance
                break
            if self.serves(counts, deadline):
                return Cut(prices, best, switching=True), self.column(counts)
        return Cut(prices, best, switching=True), None

    def column(self, counts: Mapping[Place, int]) -> Column:
        cost = switching_per_hour(self.problem, self.model, counts) / self.unit
        return Column(tuple((place, n) for place, n in counts.items() if n), cost)

    def starts(self, column: Column) -> bool:
        return any(count > self._running[place] for place, count in column.replicas)

    @cached_property
    def _checked(self) -> Serving:
        return add_serving(self._relaxed, self.problem, self.model, True, self.kinds, self._overload)

    def serves(self, counts: Mapping[Place, float], deadline: float) -> bool:
        """Can these replicas serve the model? Where not, there is another cut, which they break."""
        cut = self._missing(counts, deadline)
        self.cuts += [cut] if cut and cut.prices else []
        return cut is None

    def _missing(self, counts: Mapping[Place, float], deadline: float) -> Cut | None:
        """None where these replicas serve the model, otherwise a cut that they break: the overload is convex in the
        replicas, and reduced costs are its slopes."""
        if monotonic() > deadline:  # nothing is known
            return Cut({}, 0.0, switching=False)
        replicas = self._checked.replicas
        for place, variable in replicas.items():
            self._relaxed.fix(variable, counts.get(place, 0))
        if self._solved:
            answer = self._relaxed.again(self._overload, replicas.values(), deadline)
        else:
            answer = self._relaxed.minimise([(self._overload, 1.0)], deadline, 0.0, whole=False)
        self._solved = True
        if not answer.found:
            return Cut({}, 0.0, switching=False)
        if answer.objective <= _OVERLOAD:
            return None
        slopes = {place: max(0.0, -float(v.dj or 0.0)) for place, v in replicas.items()}
        return Cut(slopes, answer.objective + sum(slopes[p] * counts.get(p, 0) for p in slopes), switching=False)

    def serving_by(self, column: Column, deadline: float) -> Serving:
        """The flows to these replicas and no others, as values of its variables."""
        program, counts = Program(), dict(column.replicas)
        overload = program.variable(None, whole=False)
        kinds = self._only(set(counts))
        serving = add_serving(program, self.problem, self.model, True, kinds, overload)
        for place, variable in serving.replicas.items():
            program.fix(variable, counts[place])
        program.minimise([(overload, 1.0)], deadline, 0.0, whole=False)
        return serving

    def _only(self, places: Container[Place]) -> tuple[Kind, ...]:
        found = []
        for kind in self.kinds:
            members = [(c, tuple(p for p in room if (c.key, p.name) in places)) for c, room in kind.members]
            if any(room for _, room in members):
                found.append(replace(kind, members=tuple((c, room) for c, room in members if room)))
        return tuple(found)


def counts_of(serving: Serving) -> dict[Place, int]:
    return {place: round(variable.varValue or 0.0) for place, variable in serving.replicas.items()}
