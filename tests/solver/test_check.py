"""The check accepts good plans and finds every kind of broken one."""

from dataclasses import replace

import pytest

from motley_solver.check import violations
from motley_solver.ilp import solve
from motley_solver.plan import Assignment, Plan, PoolNodes, Unserved
from motley_solver.problem import EngineSettings, Problem
from motley_solver.workload import Bucket
from tests.solver.fleets import LONG, SHORT, configuration, model, pool, problem


def question() -> Problem:
    h100 = configuration("H100", {SHORT: 4.0, LONG: 1.0}, tensor_parallel=4)
    l4 = configuration("L4", {SHORT: 1.0, LONG: 0.0}, best_effort={LONG: 0.2})
    models = [
        model("chat", {SHORT: 3.0, LONG: 0.8}, h100, l4, min_replicas=1, max_replicas=4, attainment=0.99),
        model("code", {SHORT: 7.0}, h100, max_replicas=3),
    ]
    return problem(models, [pool("H100", 10.0, 4, gpus=6), pool("L4", 1.0, 5)], budget=45.0)


@pytest.fixture(scope="module")
def good() -> Plan:
    plan = solve(question())
    assert isinstance(plan, Plan)
    return plan


def test_a_good_plan_has_no_violations(good: Plan) -> None:
    assert violations(question(), good) == ()


def changed(plan: Plan, index: int, **fields: object) -> Plan:
    allocations = list(plan.allocations)
    allocations[index] = replace(allocations[index], **fields)  # type: ignore[arg-type]
    return replace(plan, allocations=tuple(allocations))


TAMPERED = {
    "one replica too few": (lambda p: changed(p, 0, replicas=p.allocations[0].replicas - 1), "replica"),
    "too many replicas": (lambda p: changed(p, 0, replicas=50), "at most"),
    "an unknown pool": (lambda p: changed(p, 0, pool="moon"), "not one of the problem's configurations"),
    "an unknown model": (lambda p: changed(p, 0, model="test/other"), "not one of the problem's"),
    "another GPU": (lambda p: changed(p, 0, gpu="T4"), "described otherwise"),
    "other engine settings": (lambda p: changed(p, 0, settings=EngineSettings(1, 1, 1)), "described otherwise"),
    "an allocation twice": (lambda p: replace(p, allocations=p.allocations + p.allocations[:1]), "twice"),
    "no allocation": (lambda p: replace(p, allocations=()), "no replica"),
    "a node too few": (
        lambda p: replace(p, nodes=tuple(replace(n, nodes=max(0, n.nodes - 1)) for n in p.nodes)),
        "do not fit",
    ),
    "nodes beyond the stock": (
        lambda p: replace(p, nodes=tuple(replace(n, nodes=99) for n in p.nodes)),
        "allowed are 0 to",
    ),
    "nodes of an unknown pool": (lambda p: replace(p, nodes=(*p.nodes, PoolNodes("moon", 1, 1.0))), "unknown pool"),
    "a negative number of nodes": (
        lambda p: replace(p, nodes=(replace(p.nodes[0], nodes=-1), *p.nodes[1:])),
        "-1 nodes",
    ),
    "another price": (
        lambda p: replace(p, nodes=(replace(p.nodes[0], price_per_node_hour=1.0), *p.nodes[1:])),
        "price",
    ),
    "a wrong bill": (lambda p: replace(p, cost_per_hour=p.cost_per_hour - 1), "the plan says"),
    "a bound above the objective": (lambda p: replace(p, lower_bound=p.objective + 1), "lower bound"),
    "a share left out": (lambda p: replace(p, assignment=p.assignment[1:]), "do not add up to 1"),
    "a share counted twice": (lambda p: replace(p, assignment=p.assignment + p.assignment[:1]), "do not add up to 1"),
    "a negative share": (
        lambda p: replace(p, assignment=(replace(p.assignment[0], share=-0.5), *p.assignment[1:])),
        "a share of -0.5",
    ),
    "a share that is not a number": (
        lambda p: replace(p, assignment=(replace(p.assignment[0], share=float("nan")), *p.assignment[1:])),
        "a share of nan",
    ),
    "an unknown bucket": (
        lambda p: replace(p, assignment=(replace(p.assignment[0], bucket=Bucket(1, 1)), *p.assignment[1:])),
        "unknown",
    ),
    "a bucket where it cannot be served": (
        lambda p: replace(p, assignment=(*p.assignment, Assignment("test/chat", LONG, "L4-tp1", 0.1, True))),
        "cannot serve it as planned",
    ),
    "too much outside the SLO": (
        lambda p: replace(p, assignment=(*p.assignment, Assignment("test/chat", LONG, "L4-tp1", 0.1, False))),
        "outside the SLO",
    ),
    "something served and unserved": (
        lambda p: replace(p, unserved=(Unserved("test/chat", SHORT, 1.0, "no"),)),
        "do not add up to 1",
    ),
    "an unknown model unserved": (
        lambda p: replace(p, unserved=(Unserved("test/moon", SHORT, 1.0, "no"),)),
        "unknown model",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_plan_is_refused(good: Plan, name: str) -> None:
    tamper, expected = TAMPERED[name]
    found = violations(question(), tamper(good))
    assert any(expected in sentence for sentence in found), found


def test_a_plan_above_the_budget_is_refused(good: Plan) -> None:
    poor = replace(question(), budget_per_hour=good.cost_per_hour - 1)
    assert any("the budget is" in sentence for sentence in violations(poor, good))


def test_a_plan_below_min_replicas_is_refused(good: Plan) -> None:
    asked = question()
    more = replace(asked, models=(asked.models[0], replace(asked.models[1], min_replicas=4, max_replicas=None)))
    assert any("at least 4 are asked for" in sentence for sentence in violations(more, good))


def test_headroom_that_the_plan_lacks_is_refused(good: Plan) -> None:
    assert any("has the work of" in s for s in violations(replace(question(), headroom=1.0), good))


def test_three_groups_of_four_on_two_nodes_of_six_are_refused() -> None:
    h100 = configuration("H100", {SHORT: 1.0}, tensor_parallel=4)
    asked = problem([model("big", {SHORT: 3.0}, h100)], [pool("H100", 10.0, 3, gpus=6)])
    plan = solve(asked)
    assert isinstance(plan, Plan)
    squeezed = replace(plan, nodes=(PoolNodes("H100", 2, 10.0),), cost_per_hour=20.0, objective=20.0, lower_bound=0.0)
    assert violations(asked, squeezed) == ("pool H100: its replicas do not fit on 2 nodes",)


def test_a_packing_that_first_fit_misses_is_found() -> None:
    """Two nodes of 10 GPUs hold 5+3+2 and 4+4+2; largest first puts 5+4 together and needs a third."""
    sizes = {5: 1, 4: 2, 3: 1, 2: 2}
    models = [
        model(f"m{n}", {SHORT: float(count)}, configuration("L4", {SHORT: 1.0}, tensor_parallel=n))
        for n, count in sizes.items()
    ]
    asked = problem(models, [pool("L4", 1.0, 5, gpus=10)])
    plan = solve(asked)
    assert isinstance(plan, Plan)
    assert violations(asked, plan) == ()
    assert plan.nodes[0].nodes == 2
