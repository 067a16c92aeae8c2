"""What keeps load out, and what would let it in: each limit needed, each change enough and none too large."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

import pytest
from explained import Explained, no_stock_left, small_budget, tight_slo, two_priorities

from motley_solver import conflicts as module
from motley_solver import whatif
from motley_solver.conflicts import Conflict, conflicts
from motley_solver.ilp import solve
from motley_solver.limits import limits_of, without
from motley_solver.plan import Plan
from motley_solver.problem import Capacity, Configuration, Problem, Shortfall
from motley_solver.whatif import Change, Loosened, Question, Questions, as_served, changed
from tests.solver.fleets import LONG, SETTINGS, SHORT, UNKNOWN, configuration, model, pool, problem

L4 = configuration("L4", {SHORT: 2.0, LONG: 1.0})


def planned(asked: Problem) -> Plan:
    plan = solve(asked)
    assert isinstance(plan, Plan)
    return plan


def found(asked: Problem, loosened: Loosened | None = None, seconds: float = 60.0) -> tuple[Conflict, ...]:
    return conflicts(asked, planned(asked), Questions(monotonic() + seconds, loosened))


def with_changes(asked: Problem, changes: tuple[Change, ...], loosened: Loosened | None = None) -> Problem:
    for change in changes:
        asked = changed(asked, change, loosened)
    return asked


def kinds(conflict: Conflict) -> set[tuple[str, str]]:
    return {(limit.kind, limit.name) for limit in conflict.limits or ()}


def test_a_complete_plan_has_no_conflict() -> None:
    assert found(problem([model("chat", {SHORT: 2.0}, L4)], [pool("L4", 1.0)])) == ()


def test_stock_alone_is_named_and_the_least_that_is_enough() -> None:
    asked = problem([model("chat", {SHORT: 11.0}, L4)], [pool("L4", 1.0, 2)])
    (conflict,) = found(asked)
    assert (conflict.model, conflict.buckets, conflict.rate) == ("test/chat", (SHORT,), pytest.approx(7.0))
    assert kinds(conflict) == {("stock", "L4")}
    assert [one.changes for one in conflict.remedies] == [(Change("stock", "L4", 2, 6),)]
    assert conflict.remedies[0].cost_per_hour == pytest.approx(6.0)


def test_the_replicas_of_a_model_are_named_and_the_least_that_is_enough() -> None:
    asked = problem([model("chat", {SHORT: 11.0}, L4, max_replicas=3)], [pool("L4", 1.0, 20)])
    (conflict,) = found(asked)
    assert kinds(conflict) == {("max_replicas", "test/chat")}
    assert [one.changes for one in conflict.remedies] == [(Change("max_replicas", "test/chat", 3, 6),)]


def test_where_no_single_change_is_enough_several_together_are_offered() -> None:
    asked = problem([model("chat", {SHORT: 11.0}, L4, max_replicas=3)], [pool("L4", 1.0, 4)], budget=3.5)
    (conflict,) = found(asked)
    assert conflict.each
    assert kinds(conflict) == {("stock", "L4"), ("budget", ""), ("max_replicas", "test/chat")}
    (remedy,) = conflict.remedies
    assert set(remedy.changes) == {
        Change("stock", "L4", 4, 6),
        Change("budget", "", 3.5, 6.0),
        Change("max_replicas", "test/chat", 3, 6),
    }
    assert planned(with_changes(asked, remedy.changes)).complete


@pytest.mark.parametrize("fleet", [no_stock_left, small_budget, two_priorities])
def test_every_limit_is_needed_and_every_change_is_enough(fleet: Callable[[], Problem]) -> None:
    asked = Explained(fleet())
    plan = planned(asked.problem)
    (conflict,) = found(asked.problem, asked.loosened)
    assert conflict.limits and conflict.remedies
    assert not conflict.each
    for remedy in conflict.remedies:
        after = planned(with_changes(asked.problem, remedy.changes, asked.loosened))
        assert after.complete
        assert after.cost_per_hour == pytest.approx(remedy.cost_per_hour)
        for change in (one for one in remedy.changes if len(remedy.changes) == 1):
            less = replace(change, to=change.to - (1 if change.kind == "stock" else 0.02 * change.to))
            assert not planned(with_changes(asked.problem, (less,), asked.loosened)).complete
    assert [one.rate for one in plan.unserved] == [pytest.approx(conflict.rate)]


def three_priorities() -> Problem:
    """The most important one takes whatever is added first, the two others have the same rank."""
    models = [
        model(name, {SHORT: 5.0}, L4, priority=priority) for name, priority in (("a", 9), ("b", 0), ("c", 0), ("d", -1))
    ]
    return problem(models, [pool("L4", 1.0, 2)], budget=12.0)


@pytest.mark.parametrize("name", ["test/a", "test/b", "test/c", "test/d"])
def test_what_is_advised_holds_when_it_is_done_although_others_go_first(name: str) -> None:
    asked = three_priorities()
    (conflict,) = [one for one in found(asked) if one.model == name]
    assert conflict.remedies
    for remedy in conflict.remedies:
        after = planned(with_changes(asked, remedy.changes))
        assert name not in {one.model for one in after.unserved}
        assert after.cost_per_hour == pytest.approx(remedy.cost_per_hour)


def test_what_is_advised_takes_nothing_from_others() -> None:
    """With more replicas the first would take the node that the second has."""
    first = model("first", {SHORT: 4.0}, L4, max_replicas=1, priority=1)
    second = model("second", {SHORT: 2.0}, L4)
    (conflict,) = found(problem([first, second], [pool("L4", 1.0, 2)]))
    assert [one.changes for one in conflict.remedies] == [
        (Change("max_replicas", "test/first", 1, 2), Change("stock", "L4", 2, 3))
    ]


def test_the_stock_of_a_pool_that_is_too_slow_is_not_in_the_way() -> None:
    slow = configuration("T4", {SHORT: 0.0}, best_effort={SHORT: 1.0})
    (conflict,) = found(problem([model("chat", {SHORT: 6.0}, L4, slow)], [pool("L4", 1.0, 2), pool("T4", 0.3, 1)]))
    assert kinds(conflict) == {("stock", "L4"), ("slo", "test/chat")}


def test_where_neither_target_alone_is_enough_both_are_loosened_and_with_them_the_stock() -> None:
    late = replace(configuration("L4", {SHORT: 0.0}), capacities=(Capacity(SHORT, 0.0, 2.0, Shortfall("ttft", 3, 1)),))

    def loosened(name: str, target: str, factor: float) -> Problem:
        rate = 2.0 if target == "slo" and factor >= 3 else 0.0
        return problem([model("chat", {SHORT: 6.0}, configuration("L4", {SHORT: rate}))], [pool("L4", 1.0, nodes)])

    for nodes, numbers in ((3, []), (2, [Change("stock", "L4", 2, 3)])):
        asked = problem([model("chat", {SHORT: 6.0}, late)], [pool("L4", 1.0, nodes)])
        (conflict,) = found(asked, loosened)
        ((first, *others),) = [one.changes for one in conflict.remedies]
        assert (first.kind, first.to) == ("slo", pytest.approx(3, rel=0.01))
        assert others == numbers


@pytest.mark.parametrize("fleet", [no_stock_left, small_budget, two_priorities, three_priorities])
def test_the_limits_contradict_one_another_and_without_any_one_of_them_no_more(fleet: Callable[[], Problem]) -> None:
    asked = fleet()
    plan = planned(asked)
    for conflict in found(asked):
        (model,) = [one for one in asked.models if one.name == conflict.model]
        wanted = as_served(asked, plan, {(conflict.model, bucket) for bucket in conflict.buckets})
        named = conflict.limits or ()
        others = [one for one in limits_of(asked, plan, model) if one not in named]
        assert named and not planned(without(wanted, conflict.model, others)).complete
        for one in named:
            assert planned(without(wanted, conflict.model, [*others, one])).complete


def test_who_goes_first_is_named() -> None:
    (conflict,) = found(two_priorities())
    assert conflict.model == "team/batch"
    assert [limit.models for limit in conflict.limits or () if limit.kind == "others"] == [("team/assistant",)]


def test_what_nothing_serves_is_told_apart_and_a_looser_target_is_found() -> None:
    asked = Explained(tight_slo())
    (conflict,) = found(asked.problem, asked.loosened)
    assert (conflict.limits, conflict.shortfall) == ((), Shortfall("tpot", 0.07, 0.05))
    ((change,),) = [one.changes for one in conflict.remedies]
    assert (change.kind, change.name) == ("tpot", "team/chat")
    assert 1.4 <= change.to <= 1.43
    assert found(asked.problem)[0].remedies == ()  # nobody to formulate it anew


def test_weights_that_do_not_fit_have_no_remedy() -> None:
    asked = Explained(tight_slo())
    (chat,) = asked.problem.models
    small = Shortfall("memory", 30.0, 20.0)
    ways = tuple(
        replace(c, capacities=tuple(replace(one, rate=0.0, best_effort=0.0, shortfall=small) for one in c.capacities))
        for c in chat.configurations
    )
    (conflict,) = found(replace(asked.problem, models=(replace(chat, configurations=ways),)), asked.loosened)
    assert (conflict.shortfall, conflict.remedies) == (small, ())
    assert conflict.reason.startswith("the weights fit nowhere")


def test_replicas_below_the_minimum_are_explained_too() -> None:
    asked = problem([model("chat", {SHORT: 1.0}, L4, min_replicas=3)], [pool("L4", 1.0, 2)])
    (conflict,) = found(asked)
    assert (conflict.rate, kinds(conflict)) == (0.0, {("stock", "L4")})
    assert {one.changes for one in conflict.remedies} == {
        (Change("stock", "L4", 2, 3),),
        (Change("min_replicas", "test/chat", 3, 2),),
    }


def test_a_survivability_floor_is_named() -> None:
    both = configuration("L4", {SHORT: 2.0}, pools=("L4", "spot"))
    spot = replace(pool("L4", 0.3, 4), name="spot", interruptions_per_hour=0.1)
    chat = replace(model("chat", {SHORT: 8.0}, both), survivability=0.5)
    (conflict,) = found(problem([chat], [pool("L4", 1.0, 1), spot]))
    assert ("survivability", "test/chat") in kinds(conflict)
    assert Change("survivability", "test/chat", 0.5, 0.25) in {c for one in conflict.remedies for c in one.changes}
    assert Change("stock", "L4", 1, 2) in {c for one in conflict.remedies for c in one.changes}


def test_a_floor_that_only_spot_pools_could_hold_is_the_one_thing_in_the_way() -> None:
    spot = replace(pool("L4", 0.3, 2), interruptions_per_hour=0.1)
    chat = replace(model("chat", {SHORT: 8.0}, L4), survivability=0.5)
    (conflict,) = found(problem([chat], [spot]))
    assert (kinds(conflict), conflict.each) == ({("survivability", "test/chat"), ("stock", "L4")}, True)
    assert [one.changes for one in conflict.remedies] == [
        (Change("stock", "L4", 2, 4), Change("survivability", "test/chat", 0.5, 0.0))
    ]


def test_sizes_that_lack_unlike_things_are_told_apart() -> None:
    ways = Configuration(
        "L4",
        "L4",
        1,
        ("L4",),
        (Capacity(SHORT, 0.0, 1.0, UNKNOWN), Capacity(LONG, 0.0, 0.0, Shortfall("kv", 8500, 4000))),
        SETTINGS,
        1,
    )
    found_ = found(problem([model("chat", {SHORT: 1.0, LONG: 1.0}, ways)], [pool("L4", 1.0)]))
    assert [(one.buckets, one.shortfall and one.shortfall.kind) for one in found_] == [
        ((SHORT,), "tpot"),
        ((LONG,), "kv"),
    ]


def test_a_model_that_takes_long_leaves_the_others_their_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, clock = three_priorities(), [0.0]
    plan = planned(asked)
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    monkeypatch.setattr(whatif, "monotonic", lambda: clock[0])
    deadlines = []

    def slow(self: Questions, *_: object) -> None:
        deadlines.append(self.deadline)
        clock[0] = self.deadline

    monkeypatch.setattr(Questions, "answer", slow)
    conflicts(asked, plan, Questions(40.0))
    assert sorted(set(deadlines)) == [10, 20, 30, 40]


def test_what_is_not_found_out_in_time_is_not_claimed() -> None:
    asked = problem([model("chat", {SHORT: 11.0}, L4)], [pool("L4", 1.0, 2)])
    questions = Questions(monotonic())
    (conflict,) = conflicts(asked, planned(asked), questions)
    assert (conflict.limits, conflict.remedies) == (None, ())
    assert [one.about for one in questions.unanswered] == ["conflict"]


def test_what_others_lack_is_no_reason() -> None:
    stuck = model("stuck", {SHORT: 1.0}, configuration("H100", {SHORT: 0.0}))
    asked = problem([stuck, model("chat", {SHORT: 11.0}, L4)], [pool("L4", 1.0, 2), pool("H100", 9.0)])
    by_model = {one.model: one for one in found(asked)}
    assert by_model["test/stuck"].limits == ()
    assert kinds(by_model["test/chat"]) == {("stock", "L4")}
    assert planned(as_served(asked, planned(asked))).complete


def test_a_change_that_time_was_too_short_to_make_smaller_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = problem([model("chat", {SHORT: 11.0}, L4)], [pool("L4", 1.0, 2)])
    plan, answer = planned(asked), Questions.answer

    def hasty(self: Questions, question: Question, *more: Problem) -> Plan | None:
        nodes = more[0].pools[0].max_nodes if isinstance(more[0], Problem) else 5
        if question.about == "remedy" and nodes == 5:
            self.unanswered.append(question)
            return None
        return answer(self, question, *more)

    monkeypatch.setattr(Questions, "answer", hasty)
    (conflict,) = conflicts(asked, plan, Questions(monotonic() + 60))
    assert [(one.changes, one.least) for one in conflict.remedies] == [((Change("stock", "L4", 2, 6),), False)]
