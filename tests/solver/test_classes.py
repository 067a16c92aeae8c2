"""Sizes that a router cannot tell apart: planned as one, routed as planned."""

from dataclasses import replace

import pytest

from motley_solver.check import violations
from motley_solver.classes import by_class
from motley_solver.ilp import solve
from motley_solver.plan import Plan
from motley_solver.problem import ModelDemand, Problem
from motley_solver.workload import Bucket
from tests.solver.fleets import configuration, model, pool, problem

BRIEF, LENGTHY, OTHER = Bucket(1000, 50), Bucket(1000, 800), Bucket(4000, 50)


def fleet(attainment: float = 1.0, **lengthy: float) -> Problem:
    """A small GPU that is good at short answers only, and a large one."""
    small = configuration("small", {BRIEF: 10.0, LENGTHY: lengthy.get("small", 0.2)}, best_effort={LENGTHY: 0.5})
    large = configuration("large", {BRIEF: 8.0, LENGTHY: 2.5, OTHER: 8.0})
    chat = model("chat", {BRIEF: 8.0, LENGTHY: 2.0}, small, large, attainment=attainment)
    return problem([chat], [pool("small", 1.0), pool("large", 4.0)])


def unknown(question: Problem) -> Problem:
    return replace(question, models=tuple(replace(m, outputs_known=False) for m in question.models))


def planned(question: Problem) -> Plan:
    plan = solve(question)
    assert isinstance(plan, Plan), plan
    assert violations(question, plan) == ()
    return plan


def shares(plan: Plan) -> dict[Bucket, dict[str, float]]:
    found: dict[Bucket, dict[str, float]] = {}
    for route in plan.assignment:
        found.setdefault(route.bucket, {})[route.configuration] = route.share
    return found


def test_replicas_that_are_good_at_short_answers_get_long_ones_too_and_are_planned_for_them() -> None:
    """Known: a small one has the short answers. Unknown: a fifth of what it gets would keep it busy ten times over."""
    known, routed = planned(fleet()), planned(unknown(fleet()))
    assert shares(known)[BRIEF] == {"small-tp1": 1.0}
    assert shares(routed) == {BRIEF: {"large-tp1": 1.0}, LENGTHY: {"large-tp1": 1.0}}
    assert (known.cost_per_hour, routed.cost_per_hour) == (5.0, 8.0)


def test_a_plan_that_tells_them_apart_is_refused() -> None:
    (sentence,) = violations(unknown(fleet()), planned(fleet()))
    assert sentence == "test/chat: 1000+50 and 1000+800 cannot be told apart and are routed differently"


def test_what_cannot_serve_one_of_them_serves_none() -> None:
    assert {a.configuration for a in planned(unknown(fleet(small=0.0))).allocations} == {"large-tp1"}


def test_a_class_is_as_fast_as_its_requests_in_the_mean() -> None:
    """A request takes 1/10 · (8/10 + 2/0.2) and 1/10 · (8/8 + 2/2.5) seconds."""
    asked, members = by_class(unknown(fleet()))
    (chat,) = asked.models
    assert [(load.bucket, load.rate) for load in chat.buckets] == [(LENGTHY, 10.0)]
    assert [c.capacity(LENGTHY).rate for c in chat.configurations] == pytest.approx([10 / 10.8, 10 / 1.8])
    assert members == {("test/chat", LENGTHY): [BRIEF, LENGTHY]}


def test_of_a_class_only_the_sizes_that_are_outside_the_slo_count_as_such() -> None:
    """A fifth of the requests is outside on the small ones, and 21 % may be: so they take all."""
    question = unknown(fleet(0.79, small=0.0))
    question = replace(question, pools=(question.pools[0], replace(question.pools[1], price_per_node_hour=9.0)))
    plan = planned(question)
    assert {a.configuration for a in plan.allocations} == {"small-tp1"}
    assert plan.models[0].predicted_attainment == pytest.approx(0.8)
    assert {a.configuration for a in planned(with_attainment(question, 0.85)).allocations} != {"small-tp1"}


def with_attainment(question: Problem, attainment: float) -> Problem:
    return replace(question, models=tuple(replace(m, attainment=attainment) for m in question.models))


def test_a_size_that_nothing_serves_is_left_out_alone() -> None:
    (chat,) = fleet().models
    huge = Bucket(1000, 90_000)
    (asked,) = unknown(problem([model("chat", {BRIEF: 6.0, huge: 1.0}, *chat.configurations)], [])).models
    plan = planned(replace(fleet(), models=(asked,)))
    assert [left.bucket for left in plan.unserved] == [huge]
    assert plan.models[0].served == pytest.approx(6.0)


def test_sizes_that_no_one_route_serves_stay_apart() -> None:
    brief, lengthy = configuration("small", {BRIEF: 10.0}), configuration("large", {LENGTHY: 4.0})
    question = unknown(problem([model("chat", {BRIEF: 1.0, LENGTHY: 1.0}, brief, lengthy)], list(fleet().pools)))
    assert by_class(question)[0] is question
    assert planned(question).complete


def test_prefill_and_decode_halves_serve_a_class_together() -> None:
    sizes = {BRIEF: 4.0, LENGTHY: 2.0}
    front = configuration("small", {size: 9.0 for size in sizes}, role="prefill", kv_class="k")
    back = configuration("large", {BRIEF: 8.0, LENGTHY: 1.0}, role="decode", kv_class="k")
    pools = [pool("small", 1.0, fabric="ib"), pool("large", 2.0, fabric="ib")]
    plan = planned(unknown(problem([model("chat", sizes, front, back)], pools)))
    assert {a.configuration: a.replicas for a in plan.allocations} == {front.key: 1, back.key: 3}
    assert plan.complete


def test_other_models_and_other_inputs_are_left_as_they_are() -> None:
    (chat,) = fleet().models
    known: ModelDemand = model("known", {BRIEF: 1.0, LENGTHY: 1.0}, *chat.configurations)
    routed = replace(model("routed", {BRIEF: 1.0, OTHER: 1.0}, *chat.configurations), outputs_known=False)
    question = replace(fleet(), models=(known, routed))
    assert by_class(question) == (question, {})
