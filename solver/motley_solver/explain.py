"""Why a plan is as it is: what binds and what it costs, the next-best plan, what each choice is worth, and what keeps
the rest unserved. Every number is a difference of two solved problems; words for people are made elsewhere."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from time import monotonic
from typing import Literal

from motley_solver.choices import Choice, Looser, choices
from motley_solver.conflicts import Conflict, conflicts
from motley_solver.plan import Plan, PoolNodes
from motley_solver.problem import Configuration, Problem
from motley_solver.remedies import Remedy, everything
from motley_solver.whatif import (
    Ahead,
    Change,
    Loosened,
    Question,
    Questions,
    allowing,
    answering_in,
    as_served,
    with_pools,
)

LOOSER = 1.1
"""A latency target is asked about with this multiple of it."""


@dataclass(frozen=True)
class Saving:
    """What one changed number would save per hour, of the objective: the bill and the expected cost of starting
    replicas and of interruptions."""

    change: Change
    per_hour: float
    proven: bool  # False where a time limit came before the proof of either plan


Without = Literal["gpu", "spot", "disaggregation"]


@dataclass(frozen=True)
class Alternative:
    """The cheapest plan that does without something that this plan uses."""

    without: Without
    gpu: str  # with "gpu" its type, else ""
    cost_per_hour: float | None  # None where it serves less than the plan
    extra_per_hour: float  # of the objective
    nodes: tuple[PoolNodes, ...]
    unserved: tuple[str, ...]  # models of which it serves less
    proven: bool


@dataclass(frozen=True)
class Placement:
    """What it would cost more if one model had to leave one GPU type; None where not all could be served then."""

    model: str
    gpu: str
    extra_per_hour: float | None
    proven: bool


@dataclass(frozen=True)
class Explanation:
    """What was not asked or not answered within the time limit is in `unanswered`."""

    savings: tuple[Saving, ...]
    alternatives: tuple[Alternative, ...]  # the cheapest first, those that serve less last: the first is the next best
    placements: tuple[Placement, ...]
    choices: tuple[Choice, ...]
    conflicts: tuple[Conflict, ...]
    everything: Remedy | None  # with which all could be served that is left out of several models
    unanswered: tuple[Question, ...]
    seconds: float


def explained(
    problem: Problem,
    plan: Plan,
    loosened: Loosened | None = None,
    time_limit_seconds: float = 20.0,
    ahead: Ahead | None = None,
) -> Explanation:
    """All questions share the time limit; those of conflicts, which may be many, have half of it. Where something is
    not served, what the plan serves is explained as a problem of its own, and the rest by its conflicts. Without
    `loosened` latency targets are not asked about."""
    started = monotonic()
    questions = Questions(started + time_limit_seconds, cache(loosened) if loosened else None, ahead)
    several = len({one.model for one in plan.unserved}) > 1
    all_served = everything(problem, plan, questions) if several else None
    found = conflicts(problem, plan, replace(questions, deadline=started + time_limit_seconds / 2))
    alternatives = _alternatives(problem, plan, questions)
    changes = tuple(_binding(problem, plan, loosened))
    questions.work_ahead(changes)
    asked = (_saving(problem, plan, change, questions) for change in changes)
    return Explanation(
        savings=tuple(one for one in asked if one is not None),
        alternatives=alternatives,
        placements=tuple(_placements(problem, plan, questions)),
        choices=choices(problem, plan, _looser(problem, plan, questions)),
        conflicts=found,
        everything=all_served,
        unanswered=tuple(questions.unanswered),
        seconds=monotonic() - started,
    )


def _saving(problem: Problem, plan: Plan, change: Change, questions: Questions) -> Saving | None:
    """That a change saves something is shown by a plan; that it saves nothing only by a proof."""
    question = Question("change", change.name, change.kind)
    answer = questions.answer(question, lambda: as_served(questions.changed(problem, change), plan))
    if answer is None:
        return None
    saved = plan.objective - answer.objective if answer.complete else 0.0
    if saved <= 0 and not (answer.complete and answer.proven):
        questions.unanswered.append(question)
        return None
    return Saving(change, max(0.0, saved), plan.proven and answer.proven)


def _binding(problem: Problem, plan: Plan, loosened: Loosened | None) -> Iterator[Change]:
    """The limits that the plan reaches, each changed a little or taken away, then the latency targets."""
    most = {pool.name: pool.max_nodes for pool in problem.pools}
    for node in plan.nodes:
        if node.nodes == most[node.pool] > 0:
            yield Change("stock", node.pool, node.nodes, node.nodes + 1)
    replicas = {one.model: one.replicas for one in plan.models}
    for model in problem.models:
        here = replicas.get(model.name, 0)
        if model.max_replicas is not None and here == model.max_replicas > 0:
            yield Change("max_replicas", model.name, here, here + 1)
        if 0 < model.min_replicas == answering_in(problem, plan, model):
            yield Change("min_replicas", model.name, model.min_replicas, 0)
        if model.survivability > 0:
            yield Change("survivability", model.name, model.survivability, 0.0)
    for model in problem.models if loosened else ():
        if model.rate > 0 and replicas.get(model.name, 0):
            yield Change("ttft", model.name, 1.0, LOOSER)
            yield Change("tpot", model.name, 1.0, LOOSER)


def _alternatives(problem: Problem, plan: Plan, questions: Questions) -> tuple[Alternative, ...]:
    """Without each GPU type that the plan uses; without spot nodes, and without splitting prefill and decode, if it
    uses them."""
    served = as_served(problem, plan)
    used = {one.pool for one in plan.allocations}
    spot = {pool.name for pool in problem.pools if pool.spot}
    asked: list[tuple[Without, str, Problem]] = [
        ("gpu", gpu, allowing(served, _other_than(gpu))) for gpu in sorted({a.gpu for a in plan.allocations if a.gpus})
    ]
    if used & spot:
        asked.append(("spot", "", with_pools(served, lambda pool: replace(pool, max_nodes=0), spot)))
    if any(one.role != "aggregated" for one in plan.allocations):
        asked.append(("disaggregation", "", allowing(served, lambda c: c.role == "aggregated")))
    found = [_alternative(plan, *one, questions) for one in asked]
    known = [one for one in found if one is not None]
    return tuple(sorted(known, key=lambda one: (one.cost_per_hour is None, one.extra_per_hour, one.without, one.gpu)))


def _alternative(plan: Plan, without: Without, gpu: str, asked: Problem, questions: Questions) -> Alternative | None:
    answer = questions.answer(Question("alternative", gpu, without), asked)
    if answer is None:
        return None
    missing = tuple(sorted({one.model for one in answer.unserved}))
    return Alternative(
        without=without,
        gpu=gpu,
        cost_per_hour=None if missing else answer.cost_per_hour,
        extra_per_hour=0.0 if missing else max(0.0, answer.objective - plan.objective),
        nodes=tuple(one for one in answer.nodes if one.nodes),
        unserved=missing,
        proven=plan.proven and answer.proven,
    )


def _other_than(gpu: str) -> Callable[[Configuration], bool]:
    return lambda c: c.gpu != gpu or c.gpus == 0


def _placements(problem: Problem, plan: Plan, questions: Questions) -> Iterator[Placement]:
    """For each model and GPU type that it uses; with one model alone the alternatives say it already."""
    used = sorted({(one.model, one.gpu) for one in plan.allocations if one.gpus})
    if len({model for model, _ in used}) < 2:
        return
    for model, gpu in used:
        asked = allowing(as_served(problem, plan), _other_than(gpu), {model})
        answer = questions.answer(Question("placement", model, gpu), asked)
        if answer is not None:
            extra = max(0.0, answer.objective - plan.objective) if answer.complete else None
            yield Placement(model, gpu, extra, plan.proven and answer.proven)


def _looser(problem: Problem, plan: Plan, questions: Questions) -> Mapping[str, Looser]:
    """The models as the savings were asked with, so that nothing is formulated twice."""
    found: dict[str, Looser] = {}
    for change in _binding(problem, plan, questions.loosened):
        if change.kind in ("ttft", "tpot") and not questions.late:
            models = {model.name: model for model in questions.changed(problem, change).models}
            found[change.name] = replace(found.get(change.name, Looser()), **{change.kind: models[change.name]})
    return found
