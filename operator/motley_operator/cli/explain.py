"""Has a plan explained, and gives the answer as the object that `-o json` prints. What is asked is solved elsewhere and
worded in `sentences`."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from pydantic.alias_generators import to_camel

from motley_operator.api import Model
from motley_operator.api.quantities import seconds
from motley_operator.cli.sentences import longer, sections
from motley_operator.declarations import demands_of, solver_slo
from motley_operator.fleet import FleetView
from motley_operator.formulation import Formulation
from motley_solver.capacity import ThroughputTable
from motley_solver.choices import Choice
from motley_solver.explain import explained
from motley_solver.plan import Plan
from motley_solver.problem import Problem
from motley_solver.whatif import Ahead, Change, Loosened, Target

Json = dict[str, Any]


def explanation(
    plan: Plan,
    formulation: Formulation,
    view: FleetView,
    formulated: Callable[[FleetView], Formulation],
    time_limit_seconds: float,
) -> Json:
    """The sentences stand under `text`, in sections; the numbers behind them beside it."""
    problem = formulation.problem
    found = explained(problem, plan, loosened(view, formulated), time_limit_seconds, ahead(view, formulated))
    slos = {name: solver_slo(model.spec.slo) for name, model in formulation.models.items()}
    measured = {
        (declared.name, candidate.key)
        for declared in formulation.declarations
        for candidate in declared.candidates
        if isinstance(candidate.speed, ThroughputTable)
    }
    found = replace(found, choices=tuple(_known(choice, measured) for choice in found.choices))
    said = sections(found, problem, plan, slos, measured)
    text = [{"title": title, "lines": lines} for title, lines in said if lines]
    return {"text": text, **_plain(found)}


def _known(choice: Choice, measured: Collection[tuple[str, str]]) -> Choice:
    """Of a measured throughput it is not known what limits it."""
    options = (
        replace(one, limited_by="") if (choice.model, one.configuration) in measured else one for one in choice.options
    )
    return replace(choice, options=tuple(options))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {to_camel(one.name): _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


def loosened(view: FleetView, formulated: Callable[[FleetView], Formulation]) -> Loosened:
    """The fleet with one Model's target so many times as long. Both parts of TTFT are."""

    def problem(model: str, target: Target, factor: float) -> Problem:
        return formulated(_looser(view, model, target, factor)).problem

    return problem


def ahead(view: FleetView, formulated: Callable[[FleetView], Formulation]) -> Ahead:
    """What the loosened Models' configurations serve is remembered, so that `loosened` has it at once."""

    def work(changes: Sequence[Change]) -> None:
        looser = (formulated(_looser(view, one.name, one.kind, one.to)) for one in changes)
        demands_of(
            tuple(one for f, c in zip(looser, changes, strict=True) for one in f.declarations if one.name == c.name)
        )

    return work


def _looser(view: FleetView, model: str, target: str, factor: float) -> FleetView:
    models = tuple(_with(one, target, factor) if one.key == model else one for one in view.models)
    return replace(view, models=models)


def _with(model: Model, target: str, factor: float) -> Model:
    old = {
        name: getattr(model.spec.slo, name)
        for name in ("ttft", "ttft_per_thousand_input_tokens", "tpot")
        if target == "slo" or name.startswith(target)
    }
    new = {name: f"{longer(seconds(value), factor) * 1000:.0f}ms" for name, value in old.items() if value}
    slo = model.spec.slo.model_copy(update=new)
    return model.model_copy(update={"spec": model.spec.model_copy(update={"slo": slo})})
