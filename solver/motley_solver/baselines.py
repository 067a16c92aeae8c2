"""What a fleet costs when it is planned greedily: a yardstick for benchmarks and tests, no plan is made of it. One GPU
type alone is the affair of `comparisons`."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor

from motley_solver.packing import Size, nodes_needed, per_node, size_of
from motley_solver.plan import Assignment
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem
from motley_solver.workload import Bucket, BucketLoad

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Greedy:
    """Whole replicas and nodes, who serves what, and the requests per second of each bucket that found no stock."""

    cost_per_hour: float
    replicas: tuple[tuple[str, str, str, int], ...]  # model, configuration, pool, count
    assignment: tuple[Assignment, ...]
    unserved: tuple[tuple[str, Bucket, float], ...]


@dataclass(frozen=True)
class _Place:
    """A configuration in one of its pools."""

    model: str
    configuration: Configuration
    pool: Pool

    @property
    def each_node(self) -> int:
        return per_node(size_of(self.configuration), self.pool)


def greedy(problem: Problem) -> Greedy:
    """Bucket by bucket, the cheapest place for it.

    A place is an aggregated configuration in one pool; a request costs there the price of a node / (replicas per node ×
    requests per second of a replica). Each bucket, those with the dearest load first, goes to its cheapest place as far
    as the pool's stock reaches, then to the next. At the end each place has as many replicas as its load adds up to,
    rounded up. Limits of models, the budget and what is reserved or running are not looked at."""
    work: dict[_Place, float] = defaultdict(float)
    routes: dict[tuple[str, Bucket, str], float] = defaultdict(float)
    unserved = []
    for model, load in _dearest_first(problem):
        left = load.rate
        for _, place in _places(problem, model, load.bucket):
            rate = place.configuration.capacity(load.bucket).rate
            takes = min(left, max(0.0, _room(place, work)) * rate / (1 + problem.headroom))
            if takes > 0:
                work[place] += takes * (1 + problem.headroom) / rate
                routes[model.name, load.bucket, place.configuration.key] += takes / load.rate
                left -= takes
        if left > _ROUNDING * load.rate:
            unserved.append((model.name, load.bucket, left))
    replicas = {place: _whole(load) for place, load in work.items()}
    return Greedy(
        sum(pool.price_per_node_hour * _nodes(pool, replicas) for pool in problem.pools),
        tuple((p.model, p.configuration.key, p.pool.name, count) for p, count in replicas.items()),
        tuple(Assignment(*key, share) for key, share in routes.items()),
        tuple(unserved),
    )


def _dearest_first(problem: Problem) -> list[tuple[ModelDemand, BucketLoad]]:
    """Loads by what they cost in their cheapest place; those that nobody serves come last."""
    loads = [(model, load) for model in problem.models for load in model.buckets if load.rate > 0]

    def cost(one: tuple[ModelDemand, BucketLoad]) -> float:
        places = _places(problem, one[0], one[1].bucket)
        return places[0][0] * one[1].rate if places else 0.0

    return sorted(loads, key=cost, reverse=True)


def _places(problem: Problem, model: ModelDemand, bucket: Bucket) -> list[tuple[float, _Place]]:
    """(price of a request per second, place), the cheapest first."""
    return sorted(_able(problem, model, bucket), key=lambda one: (one[0], one[1].configuration.key, one[1].pool.name))


def _able(problem: Problem, model: ModelDemand, bucket: Bucket) -> Iterator[tuple[float, _Place]]:
    for configuration in model.configurations:
        rate = configuration.capacity(bucket).rate
        for pool in problem.pools:
            place = _Place(model.name, configuration, pool)
            if configuration.role == "aggregated" and rate > 0 and pool.name in configuration.pools and place.each_node:
                yield pool.price_per_node_hour / (place.each_node * rate), place


def _room(place: _Place, work: dict[_Place, float]) -> float:
    """Replicas' worth of load that the pool still takes here; sizes on one pool are taken to divide one another."""
    others = sum(_whole(load) / p.each_node for p, load in work.items() if p.pool == place.pool and p != place)
    return floor((place.pool.max_nodes - others) * place.each_node + _ROUNDING) - work.get(place, 0.0)


def _whole(load: float) -> int:
    return ceil(load * (1 - _ROUNDING))


def _nodes(pool: Pool, replicas: dict[_Place, int]) -> int | float:
    sizes: Counter[Size] = Counter()
    for place, count in replicas.items():
        if place.pool == pool:
            sizes[size_of(place.configuration)] += count
    return nodes_needed(sizes, pool)
