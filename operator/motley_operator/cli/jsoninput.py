"""Files that are read whole, and JSON in the forms of other programs: refused where Python would be lenient, and every
mistake named by its key. What the keys mean is the affair of who asks."""

import json
import sys
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from motley_operator.cli.terminal import one_line

MOST_BYTES = 32 * 2**20
LARGEST = 1e12
"""Rates, prices and throughputs beyond it are slips of the pen, and beyond what floating point adds up exactly."""


class BadInput(Exception):
    """One line that names the key; who knows the file adds it."""

    def __str__(self) -> str:
        return one_line(super().__str__())


def object_in(path: str) -> dict[str, Any]:
    """The JSON object in a file, `-` for standard input; BadInput where there is none."""
    try:
        value = json.loads(text_in(path), object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise BadInput("nested too deeply") from error
    except json.JSONDecodeError as error:
        raise BadInput(f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except ValueError as error:
        raise BadInput("holds a number of more digits than can be read") from error
    if not isinstance(value, dict):
        raise BadInput(f"must be a JSON object, not {kind_of(value)}")
    return value


def data_in(path: str) -> bytes:
    """What a file holds, `-` for standard input; BadInput where it cannot be read or is larger than MOST_BYTES."""
    try:
        if path != "-":
            with open(path, "rb") as stream:
                data = stream.read(MOST_BYTES + 1)
        elif sys.stdin is None:
            raise BadInput("standard input is closed")
        else:
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadInput((error.strerror or str(error)).lower()) from error
    if len(data) > MOST_BYTES:
        raise BadInput(f"larger than {MOST_BYTES // 2**20} MiB")
    return data


def text_in(path: str) -> str:
    data = data_in(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from error
    if not text.strip():
        raise BadInput("empty")
    return text


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise BadInput(f"{shown(name)}: given twice")
        found[name] = value
    return found


def key(*parts: str | int) -> str:
    """How a key is named: `gpu_info.L4.tputs[0][3]`; whatever would break a line is escaped."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{shown(part)}" if path else shown(part)
    return path


def shown(name: str) -> str:
    """On one line, whatever the name holds."""
    return name if name and name.isprintable() else json.dumps(name)


def kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "an object"


def named(path: str) -> str:
    return "<stdin>" if path == "-" else shown(path)


def said(path: str, error: BadInput) -> str:
    return f"{named(path)}: {error}"


def required(value: Mapping[str, Any], name: str, *where: str | int) -> Any:
    if name not in value:
        raise BadInput(f"{key(*where, name)}: is missing")
    return value[name]


def mapping(value: Any, *where: str | int) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{key(*where)}: must be an object, not {kind_of(value)}")
    return value


def number(value: Any, *where: str | int) -> float:
    """A finite number from 0 to LARGEST."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"{key(*where)}: must be a number, not {kind_of(value)}")
    if isinstance(value, float) and not isfinite(value):
        raise BadInput(f"{key(*where)}: must be a finite number, not {value}")
    if value < 0:
        raise BadInput(f"{key(*where)}: must not be negative")
    if value > LARGEST:
        raise BadInput(f"{key(*where)}: must not be above {LARGEST:g}")
    return float(value)


def whole(value: Any, *where: str | int) -> int:
    found = number(value, *where)
    if found != int(found):
        raise BadInput(f"{key(*where)}: must be a whole number, not {found:g}")
    return int(found)


def matrix(value: Any, *where: str | int) -> tuple[tuple[float, ...], ...]:
    """A list of equally long lists of numbers, with at least one number."""
    if not isinstance(value, list) or not value:
        raise BadInput(f"{key(*where)}: must be a list of lists of numbers{_instead(value)}")
    rows = []
    for i, row in enumerate(value):
        if not isinstance(row, list) or not row:
            raise BadInput(f"{key(*where, i)}: must be a list of numbers{_instead(row)}")
        if len(row) != len(value[0]):
            raise BadInput(f"{key(*where, i)}: has {len(row)} numbers, the first row has {len(value[0])}")
        rows.append(tuple(number(cell, *where, i, j) for j, cell in enumerate(row)))
    return tuple(rows)


def _instead(value: Any) -> str:
    return ", not an empty one" if value == [] else f", not {kind_of(value)}"
