"""The report as text: aligned columns, the same on a terminal and in a file, no wider than can be read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from textwrap import shorten, wrap
from typing import Any

from motley_operator.cli import against
from motley_operator.cli.numbers import significant

Json = dict[str, Any]


@dataclass(frozen=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[str] = frozenset()
    """Columns that are aligned to the right."""

    def without(self, column: str) -> "Table":
        index = self.columns.index(column)
        return replace(
            self,
            columns=self.columns[:index] + self.columns[index + 1 :],
            rows=tuple(row[:index] + row[index + 1 :] for row in self.rows),
        )


WIDE = 120
"""Columns of a table where the width of what shows it is not known."""
LONGEST = 300
"""Characters of a reason in a table; JSON and YAML hold all of it."""


def headline(report: Json) -> str:
    if not report["models"] and report["costPerHour"] is not None:
        return f"{report['status']}: nothing is planned"
    if report["costPerHour"] is None:
        return f"{report['status']}: {'; '.join(report['reasons'])}"
    proof = "proven optimal" if report["proven"] else "not proven to be the cheapest"
    beside = report["switchingPerHour"] + report["riskPerHour"]
    counted = f"with switching and risk {report['objective']:.2f}, " if beside >= 0.005 else ""
    bound = f"lower bound {report['lowerBound']:.2f}"
    return f"{report['status']}: {report['costPerHour']:.2f} per hour ({counted}{bound}, {proof})"


def tables(report: Json) -> Iterator[Table]:
    """What there is to show, in the order in which a person asks."""
    planned = [one for one in report["unserved"] if one["inputTokens"] is not None]
    if report["models"]:
        yield _models(report["models"])
    if report["pools"]:
        yield _pools(report["pools"], report["costPerHour"])
    if report["comparisons"]:
        yield _comparisons(report["comparisons"], bool(planned))
    if planned and report["models"]:
        yield _unserved(planned)
    if report["refused"]:
        yield _refused(report["refused"])


def sections(report: Json) -> Iterator[tuple[str, list[str]]]:
    """What is said in sentences, where it was asked for."""
    if "changes" in report:
        yield "Changes", list(against.lines_of(report["changes"]))
    for one in report.get("explanation", {}).get("text", ()):
        yield one["title"], one["lines"]


def plain(report: Json, terminal: int | None = None) -> str:
    """Without a terminal's width, tables are kept to WIDE columns, and every sentence is one line."""
    shown = ("\n".join(aligned(table, terminal or WIDE)) for table in tables(report))
    said = ("\n".join([title.upper(), *_wrapped(lines, terminal)]) for title, lines in sections(report))
    return "\n\n".join([headline(report), *shown, *said])


def _wrapped(lines: Iterable[str], terminal: int | None) -> Iterator[str]:
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        yield from wrap(line, terminal, subsequent_indent=f"{indent}  ", **_WHOLE) if terminal else [line]


def aligned(table: Table, width: int = WIDE) -> Iterator[str]:
    """The lines of a table, its columns padded with spaces. What is too long in the last column is broken into lines
    there, or below the row where there is no room beside it."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(table.columns))]
    before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    room = width - before
    if widths[-1] <= room or table.columns[-1] in table.numbers:
        room = widths[-1]
    for line in lines:
        cells = [
            cell.rjust(size) if column in table.numbers else cell.ljust(size)
            for cell, size, column in zip(line, widths, table.columns, strict=True)
        ]
        beside = room >= _NARROW or widths[-1] == room
        last = [cells[-1].rstrip()] if widths[-1] == room else wrap(line[-1], room if beside else width - 4, **_WHOLE)
        first = last.pop(0) if beside and last else ""
        yield _GAP.join([*cells[:-1], first]).rstrip()
        yield from (f"{' ' * (before if beside else 4)}{rest}" for rest in last)


_GAP = "   "
_NARROW = 30
"""Columns: in fewer, a sentence is not broken into lines but put below."""
_WHOLE: Any = {"break_long_words": False, "break_on_hyphens": False}


def _models(models: Sequence[Json]) -> Table:
    rows: list[tuple[str, ...]] = []
    for model in models:
        about = (
            f"{model['costPerHour']:.2f}",
            f"{significant(model['served'], 4)} of {significant(model['rate'], 4)}/s",
            _predicted(model),
        )
        where = [
            (str(one["replicas"]), one["gpu"], str(one["tensorParallel"]), one["pool"], one["role"])
            for one in model["allocations"]
        ]
        for index, place in enumerate(where or [("0", "-", "-", "-", "-")]):
            rows.append((model["model"], *place, *about) if index == 0 else ("", *place, "", "", ""))
    columns = ("MODEL", "REPLICAS", "GPU", "TP", "POOL", "ROLE", "COST/H", "SERVED", "PREDICTED")
    shown = Table(columns, tuple(rows), frozenset({"REPLICAS", "TP", "COST/H", "SERVED"}))
    split = {one["role"] for model in models for one in model["allocations"]} - {"Aggregated"}
    return shown if split else shown.without("ROLE")


def _predicted(model: Json) -> str:
    """What the plan expects, and how far that can be trusted."""
    predicted = model["predicted"]
    if not model["rate"]:
        return "no traffic"
    if not model["served"]:
        return "not served"
    verdict = "SLO met" if predicted["met"] else "SLO missed"
    share = f"{100 * predicted['attainment']:.4g}%, target {100 * predicted['target']:.4g}%"
    source = "Estimated" if predicted["estimated"] else "Profile"
    error = f" ±{100 * predicted['error']:.0f}%" if predicted["error"] else ""
    return f"{verdict} ({share}; {source}{error})"


def _pools(pools: Sequence[Json], total: float) -> Table:
    rows = [
        (
            one["pool"],
            one["gpu"],
            f"{one['nodes']} of {one['maxNodes']}",
            str(one["reservedNodes"]),
            f"{one['pricePerNodeHour']:.2f}",
            f"{one['costPerHour']:.2f}",
        )
        for one in pools
    ]
    rows.append(("total", "", "", "", "", f"{total:.2f}"))
    columns = ("POOL", "GPU", "NODES", "RESERVED", "PRICE/NODE-H", "COST/H")
    shown = Table(columns, tuple(rows), frozenset(columns[2:]))
    return shown if any(one["reservedNodes"] for one in pools) else shown.without("RESERVED")


def _comparisons(comparisons: Iterable[Json], partly: bool) -> Table:
    rows: list[tuple[str, ...]] = []
    for one in comparisons:
        cost = "-" if one["costPerHour"] is None else f"{one['costPerHour']:.2f}"
        saving = "-" if one["saving"] is None else f"{100 * one['saving']:.0f}%"
        rows.append((one["gpu"], cost, saving, shorten(one["reason"], LONGEST, placeholder=" …")))
    title = "SINGLE TYPE, SERVING AS MUCH" if partly else "SINGLE TYPE"
    shown = Table((title, "COST/H", "SAVING", "WHY NOT"), tuple(rows), frozenset({"COST/H", "SAVING"}))
    return shown if any(row[3] for row in rows) else shown.without("WHY NOT")


def _unserved(unserved: Iterable[Json]) -> Table:
    rows = tuple(
        (one["model"], f"{one['inputTokens']}+{one['outputTokens']}", f"{significant(one['rate'], 4)}/s", one["reason"])
        for one in unserved
    )
    return Table(("NOT SERVED", "TOKENS", "RATE", "WHY, AND WHAT TO CHANGE"), rows, frozenset({"RATE"}))


def _refused(refused: Iterable[Json]) -> Table:
    rows = tuple(
        (f"{one['kind']} {one['name']}", f"{one['file']}:{one['line']}", one["reason"], one["message"])
        for one in refused
    )
    return Table(("LEFT OUT", "GIVEN ON", "REASON", "WHAT TO CHANGE"), rows)
