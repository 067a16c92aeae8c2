"""Good plans of random problems pass the check; with any one figure, name or part changed they do not."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from math import ceil, inf, nan
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from motley_solver.check import violations
from motley_solver.plan import Assignment, Comparison, Plan, Survival, Unserved
from motley_solver.problem import (
    Capacity,
    Configuration,
    EngineSettings,
    ModelDemand,
    Pool,
    Problem,
    Role,
    Running,
)
from motley_solver.workload import Bucket, BucketLoad
from tests.solver.plans import plan_by_hand

BUCKETS = (Bucket(500, 250), Bucket(8000, 500), Bucket(100_000, 500))
ROLES: dict[str, Role] = {"base": "aggregated", "spot": "aggregated", "front": "prefill", "back": "decode"}

capacities = st.floats(0.5, 4.0)
rates = st.sampled_from([0.0, 0.01, 0.7, 3.0])
parts = st.sampled_from([(1.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.25, 0.5, 0.25), (0.1, 0.0, 0.9), (0.3, 0.3, 0.2)])
"""Shares of a bucket on `base`, on `spot`, and from `front` to `back`; what lacks to 1 is unserved."""


@st.composite
def models(draw: st.DrawFn, name: str) -> ModelDemand:
    loads = tuple(BucketLoad(bucket, draw(rates)) for bucket in BUCKETS)
    configurations = tuple(
        Configuration(
            key=f"{pool}-tp2",
            gpu=pool.upper(),
            tensor_parallel=2,
            pools=(pool,),
            capacities=tuple(Capacity(b, rate := draw(capacities), 2 * rate) for b in BUCKETS),
            settings=EngineSettings(2048, 256, 131072),
            gpus=2,
            role=role,
            kv_class="fp8",
            estimated=draw(st.booleans()),
        )
        for pool, role in ROLES.items()
    )
    floor = draw(st.sampled_from([0.0, 0.5, 1.0]))
    return ModelDemand(name, loads, configurations, attainment=0.9, survivability=floor)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Problem, Plan]:
    """`base` has replicas enough for the floors; each two replicas have a node of four GPUs of their own."""
    demands = (draw(models("one")), draw(models("two")))
    pools = tuple(
        Pool(name, name.upper(), 4, 32.0, 128.0, price, 1000, reserved, spot, fabric)
        for name, price, reserved, spot, fabric in (
            ("base", 4.0, draw(st.sampled_from([0, 9])), 0.0, ""),
            ("spot", 1.3, 0, 0.2, ""),
            ("front", 8.0, 1, 0.0, "rack"),
            ("back", 6.0, 0, 0.0, "rack"),
        )
    )
    running = (Running("one", "base", "base-tp2", 1), Running("two", "spot", "spot-tp2", 100))
    problem = Problem(demands, pools, None, 0.1, running, start_hours=0.2, horizon_hours=0.5)
    routes: list[Assignment] = []
    fallback: list[Assignment] = []
    unserved: list[Unserved] = []
    replicas: dict[tuple[str, str, str], int] = {}
    for model in demands:
        mine, left = _routes(model, [draw(parts) if load.rate else (1.0, 0.0, 0.0) for load in model.buckets])
        routes += mine
        unserved += left
        replicas |= _replicas(model, mine)
        if model.survivability and (model.name, "spot-tp2", "spot") in replicas:
            fallback += [
                Assignment(model.name, load.bucket, "base-tp2", model.survivability)
                for load in model.buckets
                if load.rate > 0
            ]
    nodes = {p.name: ceil(sum(n for place, n in replicas.items() if place[2] == p.name) / 2) for p in pools}
    survivals = (Survival("spot", tuple(fallback)),) if fallback else ()
    plan = plan_by_hand(problem, replicas, nodes, tuple(routes), tuple(unserved), survivals)
    return problem, replace(plan, comparisons=(Comparison("BASE", 99.0), Comparison("SPOT", None, "too small")))


def _routes(model: ModelDemand, chosen: list[tuple[float, float, float]]) -> tuple[list[Assignment], list[Unserved]]:
    found, left = [], []
    for load, (base, spot, split) in zip(model.buckets, chosen, strict=True):
        shares = {"base": base, "spot": spot, "front": split, "back": split}
        found += [
            Assignment(model.name, load.bucket, f"{pool}-tp2", share, True, ROLES[pool])
            for pool, share in shares.items()
            if share > 0
        ]
        if (rest := 1 - base - spot - split) > 1e-9:
            left.append(Unserved(model.name, load.bucket, rest * load.rate, "not enough stock"))
    return found, left


def _replicas(model: ModelDemand, routes: list[Assignment]) -> dict[tuple[str, str, str], int]:
    found = {}
    for c in model.configurations:
        work = {load.bucket: load.rate / c.capacity(load.bucket).rate for load in model.buckets}
        mine = [route for route in routes if route.configuration == c.key]
        planned = 1.1 * sum(work[route.bucket] * route.share for route in mine)
        floor = model.survivability * sum(work.values()) if c.pools == ("base",) else 0.0
        if mine or floor:
            found[model.name, c.key, c.pools[0]] = max(1, ceil(planned), ceil(floor))
    return found


few = settings(max_examples=8, deadline=None, derandomize=True, database=None)


@few
@given(plans())
def test_a_good_plan_has_no_violations(found: tuple[Problem, Plan]) -> None:
    assert violations(*found) == ()


Change = tuple[str, Any]
"""A field's path for people, and the changed value of the whole."""


def changes(value: Any, path: str = "plan") -> Iterator[Change]:
    """Every way to change one leaf, and to leave out or repeat one part."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for name, changed in changes(getattr(value, field.name), f"{type(value).__name__}.{field.name}"):
                yield name, replace(value, **{field.name: changed})
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield f"{path} without one", value[:i] + value[i + 1 :]
            yield f"{path} with one twice", (*value, item)
            for name, changed in changes(item, path):
                yield name, (*value[:i], changed, *value[i + 1 :])
    elif isinstance(value, bool):
        yield f"{path} turned", not value
    elif isinstance(value, int | float):
        yield f"{path} more", value * 2 + 1
        yield f"{path} a little more", value * 1.001 + 1e-4
        yield f"{path} less", value / 2 - 1e-4
        yield from ((f"{path} {wrong}", wrong) for wrong in (nan, inf, -inf, -1))
    elif isinstance(value, str):
        yield f"{path} another", "moon"
        yield f"{path} empty", ""


HARMLESS = {
    # a weaker bound is still a bound, and whether it is near enough is the solver's word
    "Plan.lower_bound less", "Plan.lower_bound a little more", "Plan.lower_bound -1", "Plan.proven turned",
    "Plan.solve_seconds more", "Plan.solve_seconds a little more", "Plan.solve_seconds less",
    # other fleets than this one; only that they are named and finite is checked
    "Plan.comparisons without one", "Comparison.cost_per_hour more", "Comparison.cost_per_hour a little more",
    "Comparison.cost_per_hour less", "Comparison.reason another", "Comparison.reason empty", "Comparison.proven turned",
    "Unserved.reason another", "Unserved.reason empty",
}  # fmt: skip


OTHER_EVIDENCE = {f"Assignment.{change}" for change in ("share more", "share a little more", "share less",
                                                        "within_slo turned")}  # fmt: skip
"""Of a survival: with other shares it may keep the floor as well."""


def tampered(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """All changes that break a promise for certain."""
    for name, changed in changes(plan):
        evidence = name in OTHER_EVIDENCE and changed.survivals != plan.survivals
        if name not in HARMLESS and not evidence:
            yield name, changed


@few
@given(plans())
def test_every_tampered_plan_has_violations(found: tuple[Problem, Plan]) -> None:
    problem, plan = found
    unnoticed = [name for name, changed in tampered(plan) if not violations(problem, changed)]
    assert unnoticed == []
