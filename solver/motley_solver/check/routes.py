"""Routes: every request has one or is said to be unserved, a KV cache finds its decoder, no replica is overloaded, and
the floor holds when a spot pool is lost."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from motley_solver.check.asked import SHARE, Asked, fabric_of, twice
from motley_solver.plan import Allocation, Assignment, Plan, Survival
from motley_solver.problem import Configuration
from motley_solver.workload import Bucket

_OVERLOAD = 1e-8  # of a configuration's replicas; of those that remain when a pool is lost, SHARE


def _capacity(asked: Asked, route: Assignment) -> float:
    """Requests per second of one replica, as the route is planned."""
    found = asked.configurations[route.model, route.configuration].capacity(route.bucket)
    return found.rate if route.within_slo else found.best_effort


def each_route(asked: Asked, plan: Plan) -> Iterator[str]:
    """Each route of the plan and of its survivals by itself."""
    for routes in (plan.assignment, *(survival.assignment for survival in plan.survivals)):
        for route in routes:
            here = f"{route.model} {route.bucket}"
            c = asked.configurations[route.model, route.configuration]
            if not 0 <= route.share <= 1 + SHARE:
                yield f"{here}: a share of {route.share}"
            if route.role != c.role:
                yield f"{here}: {route.configuration} is for {c.role}, not for {route.role}"
            if not 0 < _capacity(asked, route) < float("inf"):
                yield f"{here}: {route.configuration} cannot serve it as planned"
        for model, bucket, key, _ in twice((r.model, r.bucket, r.configuration, r.within_slo) for r in routes):
            yield f"{model} {bucket} is assigned to {key} twice"


def served_of(routes: Iterable[Assignment]) -> dict[tuple[str, Bucket], float]:
    """The served part of each bucket; a disaggregated request counts where it is prefilled."""
    served: dict[tuple[str, Bucket], float] = defaultdict(float)
    for route in routes:
        served[route.model, route.bucket] += route.share if route.role != "decode" else 0.0
    return served


def shares(asked: Asked, plan: Plan) -> Iterator[str]:
    served = served_of(plan.assignment)
    left: dict[tuple[str, Bucket], float] = defaultdict(float)
    for item in plan.unserved:
        left[item.model, item.bucket] += item.rate
    for here, rate in asked.rates.items():
        if rate > 0:
            part = left[here] / rate
            if not abs(served[here] + part - 1) <= SHARE:
                yield f"{here[0]} {here[1]}: {served[here]:.6g} served and {part:.6g} unserved do not add up to 1"
    yield from _idle(asked, plan, served)
    yield from _handed_over(asked, plan.assignment)


def _idle(asked: Asked, plan: Plan, served: Mapping[tuple[str, Bucket], float]) -> Iterator[str]:
    """Sizes without traffic have a route where some replica can take them, so that a first request finds it."""
    running: dict[str, list[Configuration]] = defaultdict(list)
    for a in plan.allocations:
        running[a.model].append(asked.configurations[a.model, a.configuration])
    for (model, bucket), rate in asked.rates.items():
        if rate == 0 and not abs(served[model, bucket] - 1) <= SHARE:
            able = any(
                c.role == "aggregated" and max(c.capacity(bucket).rate, c.capacity(bucket).best_effort) > 0
                for c in running[model]
            )
            if able or served[model, bucket] != 0:
                yield f"{model} {bucket}: its routes add up to {served[model, bucket]:.6g}, not to 1"
    for route in plan.assignment:
        c = asked.configurations[route.model, route.configuration]
        if asked.rates[route.model, route.bucket] == 0 and not route.within_slo and c.capacity(route.bucket).rate > 0:
            yield f"{route.model} {route.bucket}: its route is said to be outside the SLO and is not"


def _handed_over(asked: Asked, routes: Iterable[Assignment], when: str = "") -> Iterator[str]:
    """Within each fabric and KV class as much is decoded as is prefilled."""
    balance: dict[tuple[str, Bucket, str, str], float] = defaultdict(float)
    for route in (route for route in routes if route.role != "aggregated"):
        c = asked.configurations[route.model, route.configuration]
        sign = 1 if route.role == "prefill" else -1
        balance[route.model, route.bucket, fabric_of(asked, c), c.kv_class] += sign * route.share
    for (model, bucket, fabric, kv_class), rest in balance.items():
        if not abs(rest) <= SHARE:
            yield f"{when}{model} {bucket}: prefill and decode shares in {fabric} {kv_class} differ by {abs(rest):.6g}"


def outside_slo(asked: Asked, plan: Plan) -> Iterator[str]:
    yield from _too_much_outside(asked, plan.assignment)


def _too_much_outside(asked: Asked, routes: Iterable[Assignment], when: str = "") -> Iterator[str]:
    outside = outside_of(asked, routes)
    for m in asked.problem.models:
        allowed = (1 - m.attainment) * m.rate
        if not outside[m.name] <= allowed + SHARE * m.rate:
            yield f"{when}{m.name}: {outside[m.name]:.6g} req/s are outside the SLO, allowed are {allowed:.6g}"


def outside_of(asked: Asked, routes: Iterable[Assignment]) -> dict[str, float]:
    """Requests per second by model; one that is outside on both of its routes counts twice, as it may be two."""
    outside: dict[str, float] = defaultdict(float)
    for route in routes:
        if not route.within_slo:
            outside[route.model] += asked.rates[route.model, route.bucket] * route.share
    return outside


def loads(asked: Asked, plan: Plan) -> Iterator[str]:
    yield from _overloads(asked, plan.assignment, plan.allocations, 1 + asked.problem.headroom, _OVERLOAD)


def _overloads(
    asked: Asked,
    routes: Iterable[Assignment],
    allocations: Iterable[Allocation],
    factor: float,
    slack: float,
    when: str = "",
) -> Iterator[str]:
    """The work of a configuration, Σ rate·factor·share / capacity, is at most its replicas."""
    replicas: Counter[tuple[str, str]] = Counter()
    for a in allocations:
        replicas[a.model, a.configuration] += a.replicas
    work: dict[tuple[str, str], float] = defaultdict(float)
    for route in (route for route in routes if route.share > 0):
        capacity, rate = _capacity(asked, route), asked.rates[route.model, route.bucket]
        work[route.model, route.configuration] += rate * factor * route.share / capacity if capacity > 0 else 0.0
    for key, wanted in work.items():
        if replicas[key] == 0:
            yield f"{when}{key[0]}: requests are assigned to {key[1]}, which has no replica"
        elif not wanted <= replicas[key] * (1 + slack):
            yield f"{when}{key[0]}: {key[1]} has the work of {wanted:.9g} replicas and {replicas[key]} replicas"


# --- when a spot pool is lost ---


def survivals(asked: Asked, plan: Plan) -> Iterator[str]:
    evidence = {survival.lost_pool: survival for survival in plan.survivals}
    yield from (f"the loss of pool {name} is described twice" for name in twice(s.lost_pool for s in plan.survivals))
    struck: dict[str, set[str]] = defaultdict(set)
    for a in plan.allocations:
        if asked.pools[a.pool].spot and asked.models[a.model].survivability > 0:
            struck[a.pool].add(a.model)
    yield from (f"the loss of pool {name} strikes no floor" for name in evidence if name not in struck)
    served = served_of(plan.assignment)
    for name, models in struck.items():
        yield from _survives(asked, plan, evidence.get(name, Survival(name, ())), models, served)


def _survives(
    asked: Asked, plan: Plan, survival: Survival, models: set[str], served: Mapping[tuple[str, Bucket], float]
) -> Iterator[str]:
    when = f"without pool {survival.lost_pool}: "
    still = served_of(survival.assignment)
    for here, rate in asked.rates.items():
        floor = asked.models[here[0]].survivability * served.get(here, 0.0)
        if here[0] in models and rate > 0 and not still[here] >= floor - SHARE:
            yield f"{when}{here[0]} {here[1]}: {still[here]:.6g} is served, the floor is {floor:.6g}"
    yield from (
        f"{when}{name} has no replica or no floor there"
        for name in sorted({route.model for route in survival.assignment} - models)
    )
    remaining = [a for a in plan.allocations if a.pool != survival.lost_pool]
    yield from _overloads(asked, survival.assignment, remaining, 1.0, SHARE, when)
    yield from _handed_over(asked, survival.assignment, when)
    yield from _too_much_outside(asked, survival.assignment, when)
