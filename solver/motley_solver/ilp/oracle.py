"""One model by itself: its cheapest whole replicas at given prices, and whether given replicas can serve it.
Two questions to which the decomposition of a large fleet needs answers, with proofs that hold for all other plans."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from motley_solver.ilp.program import Program, Terms
from motley_solver.ilp.serving import Kind, Serving, add_serving, kinds_of, started, switching
from motley_solver.packing import Size, per_node, size_of
from motley_solver.problem import ModelDemand, Pool, Problem
from motley_solver.switching import Place, running_replicas, starting_cost, switching_per_hour

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
        self._running = running_replicas(problem, model)
        self._relaxed = Program()
        self._overload = self._relaxed.variable(None, whole=False)

    def switching_of(self, program: Program, serving: Serving) -> Terms:
        terms = switching(self.problem, serving, started(program, self.problem, serving))
        return [(variable, cost / self.unit) for variable, cost in terms]

    def _fair_price(self, place: Place) -> float:
        """The replica's part of a node's price."""
        pool = self.pools[place[1]]
        return pool.price_per_node_hour / self.unit / per_node(self.sizes[place[0]], pool)

    def cheapest(self, prices: Prices, deadline: float, gap: float) -> tuple[Cut, Column] | None:
        """The best replicas at these prices; None where the model cannot be served whole, or not in time."""
        if monotonic() > deadline:
            return None
        program = Program()
        serving = add_serving(program, self.problem, self.model, True, self._worth_their(prices))
        scale = max(prices.values(), default=0.0) or 1.0
        terms = [(v, prices[place] / scale) for place, v in serving.replicas.items()]
        terms += [(v, cost / scale) for v, cost in self.switching_of(program, serving)]
        answer = program.minimise(terms, deadline, gap, lean=True)
        if not answer.found:
            return None
        counts = {place: round(v.varValue or 0.0) for place, v in serving.replicas.items()}
        return Cut(prices, answer.bound * scale, switching=True), self.column(counts)

    def _worth_their(self, prices: Prices) -> tuple[Kind, ...]:
        """Without the places whose work others do for no more: so many whole replicas of another kind, wherever there
        is room for all that they could ever be asked for."""
        if self.model.survivability > 0 or len(self.places) < 2:
            return self.kinds
        kinds, ample, times = self._substitutes
        starting = [starting_cost(self.problem, self.sizes[key], self.pools[pool]) for key, pool in self.places]
        costs = np.array([prices[place] for place in self.places]) + np.array(starting) / self.unit
        needed = times[np.ix_(kinds, kinds)]  # of the first for one of the second
        with np.errstate(invalid="ignore"):
            instead = np.where(np.isinf(needed), np.inf, needed * costs[:, None])
        order = np.arange(len(self.places))
        cheaper = (instead < costs) | ((instead == costs) & (order[:, None] < order))
        np.fill_diagonal(cheaper, False)
        dull = (cheaper & ample[:, None]).any(axis=0)
        pairs = zip(self.places, dull, strict=True)
        return self._only({place for place, out in pairs if not out or place in self._running})

    @cached_property
    def _substitutes(self) -> tuple[NDArray[np.int_], NDArray[np.bool_], NDArray[np.float64]]:
        """The kind of each place; is its stock ample?; replicas of a kind (row) for the work of another (column)."""
        loads = np.array([load.rate * (1 + self.problem.headroom) for load in self.model.buckets if load.rate > 0])
        rates = np.array([[rate for rate, _ in kind.rates] for kind in self.kinds]).reshape(len(self.kinds), -1)
        able = rates > 0
        work = (np.divide(loads, rates, out=np.zeros_like(rates), where=able)).sum(axis=1)
        index = {c.key: i for i, kind in enumerate(self.kinds) for c, _ in kind.members}
        kinds = np.array([index[key] for key, _ in self.places])
        room = [per_node(self.sizes[key], self.pools[pool]) * self.pools[pool].max_nodes for key, pool in self.places]
        ample = np.array(room) >= np.maximum(np.ceil(work[kinds]), self.model.min_replicas)
        times = np.full((len(self.kinds), len(self.kinds)), np.inf)
        for i, one in enumerate(self.kinds):
            for j, other in enumerate(self.kinds):
                within = all(mine <= theirs for (_, mine), (_, theirs) in zip(one.rates, other.rates, strict=True))
                if (one.role, one.group) == (other.role, other.group) and within and (able[i] | ~able[j]).all():
                    most = np.divide(rates[j], rates[i], out=np.zeros_like(rates[i]), where=able[j]).max(initial=0.0)
                    times[i, j] = max(1.0, np.ceil(most))
        if self.model.max_replicas is not None:
            times[times > 1] = np.inf
        return kinds, ample, times

    def column(self, counts: Mapping[Place, int]) -> Column:
        cost = switching_per_hour(self.problem, self.model, counts) / self.unit
        return Column(tuple((place, n) for place, n in counts.items() if n), cost)

    def starts(self, column: Column) -> bool:
        return any(count > self._running[place] for place, count in column.replicas)

    @cached_property
    def _checked(self) -> Serving:
        return add_serving(self._relaxed, self.problem, self.model, True, self.kinds, self._overload)

    def missing(self, counts: Mapping[Place, float], deadline: float) -> Cut | None:
        """None where these replicas serve the model, otherwise a cut that they
        break: the overload is convex in the replicas, and reduced costs are its slopes (Benders)."""
        if monotonic() > deadline:  # nothing is known
            return Cut({}, 0.0, switching=False)
        for place, variable in self._checked.replicas.items():
            self._relaxed.fix(variable, counts.get(place, 0))
        answer = self._relaxed.minimise([(self._overload, 1.0)], deadline, 0.0, whole=False)
        if not answer.found:
            return Cut({}, 0.0, switching=False)
        if answer.objective <= _OVERLOAD:
            return None
        slopes = {place: max(0.0, -float(v.dj or 0.0)) for place, v in self._checked.replicas.items()}
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
