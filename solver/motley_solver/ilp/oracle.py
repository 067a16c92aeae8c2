"""One model by itself: its cheapest whole replicas at given prices, and whether given replicas can serve it.
Two questions to which the decomposition of a large fleet needs answers, with proofs that hold for all other plans."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf

from motley_solver.ilp.program import Program, Terms
from motley_solver.ilp.serving import Kind, Serving, add_serving, kinds_of, started, switching
from motley_solver.packing import Size, per_node, size_of
from motley_solver.problem import ModelDemand, Pool, Problem

_OVERLOAD = 1e-7  # replicas: a load within the tolerance

Place = tuple[str, str]  # configuration and pool
Prices = Mapping[Place, float]  # of one replica


@dataclass(frozen=True)
class Column:
    """Whole replicas that serve the model, and what starting them costs (in units of the highest price)."""

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


class Oracle:
    def __init__(self, problem: Problem, model: ModelDemand, unit: float) -> None:
        self.problem, self.model, self.unit = problem, model, unit
        self.kinds: tuple[Kind, ...] = kinds_of(problem, model)
        self.pools: dict[str, Pool] = {pool.name: pool for pool in problem.pools}
        self.sizes: dict[str, Size] = {c.key: size_of(c) for kind in self.kinds for c, _ in kind.members}
        self._whole = Program()
        self._serving = add_serving(self._whole, problem, model, True, self.kinds, linked=False)
        self._switching = self.switching_of(self._whole, self._serving)
        self._relaxed = Program()
        self._overload = self._relaxed.variable(None, whole=False)
        self._checked = add_serving(self._relaxed, problem, model, True, self.kinds, self._overload, linked=False)

    def switching_of(self, program: Program, serving: Serving) -> Terms:
        terms = switching(self.problem, serving, started(program, self.problem, serving))
        return [(variable, cost / self.unit) for variable, cost in terms]

    def fair_price(self, place: Place) -> float:
        """The replica's part of a node's price."""
        pool = self.pools[place[1]]
        return pool.price_per_node_hour / self.unit / per_node(self.sizes[place[0]], pool)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return tuple(self._serving.replicas)

    @cached_property
    def fair_prices(self) -> Prices:
        return {place: self.fair_price(place) for place in self.places}

    def cheapest(self, prices: Prices, deadline: float, gap: float) -> tuple[Cut, Column] | None:
        """The best replicas at these prices; None where the model cannot be served whole, or not in time."""
        scale = max(prices.values(), default=0.0) or 1.0
        terms = [(v, prices[place] / scale) for place, v in self._serving.replicas.items()]
        terms += [(v, cost / scale) for v, cost in self._switching]
        answer = self._whole.minimise(terms, deadline, gap, lean=True)
        if not answer.found:
            return None
        counts = {place: round(v.varValue or 0.0) for place, v in self._serving.replicas.items()}
        return Cut(prices, answer.bound * scale, switching=True), self.column(counts)

    def column(self, counts: Mapping[Place, int]) -> Column:
        cost = 0.0
        if self._switching:
            running = {
                (r.configuration, r.pool): r.replicas for r in self.problem.running if r.model == self.model.name
            }
            spread = self.problem.start_hours / self.problem.horizon_hours
            cost = sum(self.fair_price(p) * max(0, n - running.get(p, 0)) for p, n in counts.items()) * spread
        return Column(tuple((place, n) for place, n in counts.items() if n), cost)

    def missing(self, counts: Mapping[Place, float], deadline: float) -> Cut | None:
        """None where these replicas serve the model; its flows are then those of `serving_by`. Otherwise a cut that
        they break: the overload is convex in the replicas, and reduced costs are its slopes (Benders)."""
        for place, variable in self._checked.replicas.items():
            self._relaxed.fix(variable, counts.get(place, 0))
        answer = self._relaxed.minimise([(self._overload, 1.0)], deadline, 0.0, whole=False)
        if not answer.found or answer.objective <= _OVERLOAD:
            return None
        slopes = {place: max(0.0, -float(v.dj or 0.0)) for place, v in self._checked.replicas.items()}
        return Cut(slopes, answer.objective + sum(slopes[p] * counts.get(p, 0) for p in slopes), switching=False)

    def serving_by(self, column: Column, deadline: float) -> Serving:
        """The flows to these replicas, as values of its variables."""
        self.missing(dict(column.replicas), deadline)
        return self._checked
