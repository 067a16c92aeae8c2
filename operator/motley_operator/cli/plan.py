"""`motley plan`: files → the whole decision → standard output. Reading, planning and printing are joined here, each
is done elsewhere; the decision is the operator's own."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import yaml

from motley_operator import reasons
from motley_operator.api import Model
from motley_operator.cli import INCOMPLETE, INVALID, PLANNED, UNSOLVED, render, report
from motley_operator.cli.against import changes, earlier_report
from motley_operator.cli.explain import explanation
from motley_operator.cli.jsoninput import BadInput
from motley_operator.cli.loading import loaded
from motley_operator.cli.shapes import shaped
from motley_operator.cli.terminal import progress, standard_output_kept_clean
from motley_operator.cli.validate import Given, checked
from motley_operator.cli.yamltree import Mistake
from motley_operator.fleet import FleetView, fleet_view
from motley_operator.formulation import Formulation, formulated
from motley_operator.reasons import Finding
from motley_operator.solving import Solver
from motley_solver.plan import Plan

NOTES = 5
"""So many objects of other programs are named."""


def run(
    paths: Sequence[str],
    output: str,
    time_limit: float,
    explain: bool = False,
    against: str | None = None,
    plot: str | None = None,
) -> int:
    """`against` is the file of an earlier report to compare with, `plot` the file of a picture to write."""
    try:
        earlier = earlier_report(against) if against else None
        draw = _drawing(plot) if plot else None
    except BadInput as error:
        print(error, file=sys.stderr)
        return INVALID
    with progress() as tell:
        tell("Reading and checking the files")
        given, shapeless, mistakes = _read(paths)
        if mistakes:
            for mistake in mistakes:
                print(mistake, file=sys.stderr)
            return INVALID
        tell("Estimating what each GPU can serve")
        view = _view(given, datetime.now(UTC))
        formulation = _formulated(view)
        tell("Looking for the cheapest plan")
        with standard_output_kept_clean():
            outcome = Solver(time_limit)(formulation.problem)
        found = report.report(outcome, formulation, _refused(formulation, given, shapeless))
        if explain and isinstance(outcome, Plan):
            tell("Asking what else could be, and what it would cost")
            with standard_output_kept_clean():
                found["explanation"] = explanation(outcome, formulation, view, _formulated, time_limit)
    if earlier is not None:
        found["changes"] = changes(earlier, found)
    if draw and not draw(found):
        return INVALID
    _print(found, output)
    return {report.PLANNED: PLANNED, report.UNSOLVED: UNSOLVED}.get(found["status"], INCOMPLETE)


def _drawing(path: str) -> Callable[[report.Json], bool]:
    """What draws a report, asked for before anything is planned; BadInput where matplotlib or the folder is missing."""
    try:
        from motley_operator.cli.plot import write
    except ImportError as error:
        raise BadInput(f"--plot: {error}; install it: pip install 'motley-fleet[plot]'") from error
    if not Path(path).absolute().parent.is_dir():
        raise BadInput(f"--plot: {path}: no such folder")

    def draw(found: report.Json) -> bool:
        if found["costPerHour"] is None:
            print("note: there is no plan to draw", file=sys.stderr)
            return True
        try:
            write(found, path)
        except OSError as error:
            print(f"--plot: {path}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
            return False
        return True

    return draw


def _formulated(view: FleetView) -> Formulation:
    """Disaggregated routes too: a plan may show what no operator deploys yet."""
    return formulated(view, disaggregated=True)


def _read(paths: Sequence[str]) -> tuple[list[Given], dict[str, Mistake], list[Mistake]]:
    """The objects, the Models among them whose shape is not known, and what is wrong with the files."""
    documents, unreadable = loaded(paths)
    result = checked(documents)
    for note in result.skipped[:NOTES]:
        print(f"note: {note}", file=sys.stderr)
    if len(result.skipped) > NOTES:
        print(f"note: and {len(result.skipped) - NOTES} more objects of other programs were skipped", file=sys.stderr)
    given, shapeless = shaped(result.given)
    mistakes = [*unreadable, *result.mistakes]
    if not mistakes and not any(one.kind is Model for one in given):
        mistakes.append(Mistake(", ".join(paths), 0, "", "no Model in here, so there is nothing to plan"))
    return given, shapeless, mistakes


def _view(given: Iterable[Given], now: datetime) -> FleetView:
    """As if the objects had been created one after the other: of two that want the same, the first has it."""
    objects: dict[str, list[Mapping[str, Any]]] = {}
    for index, one in enumerate(given):
        created = (now + timedelta(microseconds=index)).isoformat()
        metadata = {"creationTimestamp": created, **one.value["metadata"]}
        objects.setdefault(one.kind.crd.plural, []).append({**one.value, "metadata": metadata})
    wanted = ("fleets", "gpupools", "models", "profiles")
    return fleet_view(now, {plural: objects.get(plural, []) for plural in wanted})


def _refused(
    formulation: Formulation, given: Iterable[Given], shapeless: Mapping[str, Mistake]
) -> Iterator[dict[str, Any]]:
    """Objects that take no part, and where in the files that can be mended."""
    for one in given:
        finding = formulation.findings.get(f"{one.kind.__name__} {one.key}")
        if finding is None:
            continue
        if finding.reason == reasons.INSPECTING:  # nobody does that here
            finding = Finding(reasons.INSPECTION_FAILED, f"spec.shape {shapeless[one.key].message}")
        field = re.match(r"spec(\.[A-Za-z]+)+", finding.message)
        yield {
            "kind": one.kind.__name__,
            "name": one.key,
            "reason": finding.reason,
            "message": finding.message,
            "file": one.document.file,
            "line": one.document.line(tuple(field[0].split(".")) if field else ()),
            "rate": float(one.value["spec"]["traffic"]["rate"]) if one.kind is Model else 0.0,
        }


def _print(found: dict[str, Any], output: str) -> None:
    if output == "json":
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif output == "yaml":
        print(yaml.safe_dump(found, sort_keys=False, allow_unicode=True), end="")
    else:
        print(render.plain(found, get_terminal_size().columns if sys.stdout.isatty() else None))
    sys.stdout.flush()
