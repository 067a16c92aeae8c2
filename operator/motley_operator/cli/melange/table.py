"""The answer as a table for people: what to buy, and who serves which bucket."""

from collections.abc import Iterator, Mapping
from typing import Any

from motley_operator.cli.jsoninput import shown
from motley_operator.cli.melange.config import Cell, Config
from motley_operator.cli.render import Table, aligned


def lines(found: Mapping[str, Any], config: Config) -> Iterator[str]:
    if found["cost"] is None:
        yield f"{found['status']}: {found['reason']}"
        return
    yield f"{found['status']}: {found['cost']:.6g} per hour (lower bound {found['lower_bound']:.6g})"
    yield ""
    rows = [
        (shown(name), str(found["counts"][name]), f"{found['counts'][name] * cost:.6g}")
        for name, cost in zip(config.names, config.costs.tolist(), strict=True)
        if found["counts"][name]
    ]
    yield from aligned(Table(("GPU", "INSTANCES", "COST/H"), tuple(rows), frozenset({"INSTANCES", "COST/H"})))
    if found["assignment"]:
        yield ""
        yield from aligned(_routes(found["assignment"], config))


def _routes(assignment: list[dict[str, Any]], config: Config) -> Table:
    """One row per bucket, one column per GPU type that serves any."""
    used = [name for name in config.names if any(route["gpu"] == name for route in assignment)]
    shares: dict[Cell, dict[str, str]] = {cell: {} for cell in config.cells}
    for route in assignment:
        shares[tuple(route["bucket"])][route["gpu"]] = f"{100 * route['share']:.3g}%"
    rows = tuple(
        (f"[{i}, {j}]", f"{rate:.4g}", *(shares[i, j].get(name, "") for name in used))
        for (i, j), rate in zip(config.cells, config.rates.tolist(), strict=True)
    )
    columns = ("BUCKET", "REQUESTS/S", *map(shown, used))
    return Table(columns, rows, frozenset(columns[1:]))
