"""Traces of requests → `Request`s: CSV with a header, or JSON Lines, by the names of published traces. It knows columns
and units; what the requests amount to is the affair of `motley_solver.offered`."""

import csv
import json
import re
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from math import isfinite
from typing import Any, NamedTuple

from motley_operator.cli.jsoninput import BadInput, named, said, shown, text_in
from motley_operator.cli.yamltree import Mistake
from motley_solver.offered import Request

MOST_INPUT, MOST_OUTPUT = 10_000_000, 1_000_000  # tokens, as in a Model
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

_NAMES = {
    "input": ("contexttokens", "prompttokens", "inputtokens", "requesttokens", "numprefilltokens", "inputlength",
              "promptlength", "inputtoks", "inputlen", "promptlen"),
    "output": ("generatedtokens", "completiontokens", "outputtokens", "responsetokens", "numdecodetokens",
               "outputlength", "outputtoks", "outputlen"),
    "time": ("timestamp", "time", "arrivaltime", "arrivedat", "createdtime"),
    "cached": ("cachedtokens", "cachedinputtokens", "cachedprompttokens"),
    "hits": ("prefixhitblocks",),
    "blocks": ("hashids",),
}  # fmt: skip
"""By letters and digits alone. `hits`: how many leading blocks of the prompt were cached; `blocks`: which blocks it is
made of."""
_UNIT = re.compile(r"[^a-z](s|ms|us|ns)\)?$")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)


class _Row(NamedTuple):
    line: int
    values: Mapping[str, Any]


def requests_in(path: str, options: Namespace) -> list[Request]:
    """In order of their times; BadInput names file, line and column. `options` are those of `motley traffic`."""
    file = named(path)
    try:
        text = text_in(path)
    except BadInput as error:
        raise BadInput(said(path, error)) from error
    rows = list(_objects(file, text) if text.lstrip().startswith("{") else _records(file, text))
    if not rows:
        raise BadInput(f"{file}: holds no requests")
    return list(_Reader(file, rows, options).requests())


# --- rows ---


def _records(file: str, text: str) -> Iterator[_Row]:
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := [name for name, number in Counter(header).items() if number > 1]:
            raise _mistake(file, 1, shown(twice[0]), "is the name of two columns")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise _mistake(file, reader.line_num, "", f"has {len(values)} values, the header has {len(header)}")
            yield _Row(reader.line_num, dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise _mistake(file, reader.line_num, "", f"not CSV: {error}") from error


def _objects(file: str, text: str) -> Iterator[_Row]:
    """One per line; of an object with `requests`, these, each with the other fields."""
    for line, one in enumerate(text.split("\n"), start=1):
        if not one.strip():
            continue
        try:
            value = json.loads(one)
        except (ValueError, RecursionError) as error:
            raise _mistake(file, line, "", f"not JSON: {getattr(error, 'msg', error)}") from error
        if not isinstance(value, dict):
            raise _mistake(file, line, "", "must be a JSON object")
        together = value.pop("requests", [{}])
        if not isinstance(together, list) or not all(isinstance(part, dict) for part in together):
            raise _mistake(file, line, "requests", "must be a list of objects")
        yield from (_Row(line, value | part) for part in together)


def _mistake(file: str, line: int, column: str, message: str) -> BadInput:
    return BadInput(str(Mistake(file, line, column, message)))


# --- columns ---


class _Reader:
    def __init__(self, file: str, rows: Sequence[_Row], options: Namespace) -> None:
        self._file, self._rows = file, rows
        self._unit: str | None = options.time_unit
        self._block: int = options.block_tokens
        self._names = list(dict.fromkeys(name for row in rows for name in row.values))
        self._all_names = ", ".join(map(shown, self._names))
        self._input = self._needed("input", options.input_column)
        self._output = self._needed("output", options.output_column)
        self._time = self._column("time", options.time_column)
        self._cached = self._column("cached", options.cached_column)
        self._hits, self._blocks = self._column("hits"), self._column("blocks")
        self._seen: set[int | str] = set()

    def _needed(self, role: str, named: str | None) -> str:
        found = self._column(role, named)
        if found is None:
            message = f"no column is known to hold the {role} tokens; name it with --{role}-column, of: "
            raise _mistake(self._file, 1, "", message + self._all_names)
        return found

    def _column(self, role: str, named: str | None = None) -> str | None:
        if named is not None:
            if named not in self._names:
                raise _mistake(self._file, 1, "", f"has no column {shown(named)}, only: {self._all_names}")
            return named
        found = [name for name in self._names if _plain(name) in _NAMES[role]]
        if len(found) > 1:
            message = f"{' and '.join(map(shown, found))} may each be the {role}; choose with --{role}-column"
            raise _mistake(self._file, 1, "", message)
        return found[0] if found else None

    # --- values ---

    def requests(self) -> Iterator[Request]:
        """By time, since what is in the cache depends on what came before."""
        timed = [(self._seconds(row), row) for row in self._rows]
        for time, row in sorted(timed, key=lambda one: one[0] or 0.0):
            inputs = self._tokens(row, self._input, MOST_INPUT)
            if inputs is None:
                raise self._wrong(row, self._input, "is missing")
            outputs = self._tokens(row, self._output, MOST_OUTPUT) or None  # BurstGPT writes 0 where a request failed
            yield Request(inputs, outputs, self._reused(row, inputs), time)

    def _reused(self, row: _Row, inputs: int) -> int:
        if self._cached is not None:
            cached = self._tokens(row, self._cached, MOST_INPUT) or 0
            if cached > inputs:
                raise self._wrong(row, self._cached, f"{cached} of {inputs} input tokens cannot be cached")
            return cached
        hits = 0
        if self._hits is not None:
            hits = self._tokens(row, self._hits, MOST_INPUT) or 0
        elif self._blocks is not None:
            hits = self._repeated(row, self._blocks, inputs)
        return min(inputs, self._block * hits)

    def _repeated(self, row: _Row, column: str, inputs: int) -> int:
        """Leading blocks that came before, as if the cache forgot nothing."""
        blocks = row.values.get(column) or []
        if not isinstance(blocks, list) or not all(isinstance(block, int | str) for block in blocks):
            raise self._wrong(row, column, "must be a list of block identities")
        if blocks and not (len(blocks) - 1) * self._block < inputs <= len(blocks) * self._block:
            message = f"{len(blocks)} blocks of {self._block} tokens do not hold {inputs} tokens; say --block-tokens"
            raise self._wrong(row, column, message)
        found = next((i for i, block in enumerate(blocks) if block not in self._seen), len(blocks))
        self._seen.update(blocks)
        return found

    def _tokens(self, row: _Row, column: str, most: int) -> int | None:
        """None where nothing is written."""
        value = row.values.get(column)
        if value is None or value == "":
            return None
        number = _number(value)
        if number is None or not 0 <= number <= most or number != int(number):
            raise self._wrong(row, column, f"must be a whole number from 0 to {most}, not {_said(value)}")
        return int(number)

    def _seconds(self, row: _Row) -> float | None:
        column = self._time
        if column is None:
            return None
        value = row.values.get(column)
        number = _number(value)
        if number is None:
            return self._date(row, column, value)
        named = _UNIT.search(column.lower())
        unit = self._unit or (named[1] if named else None)
        if unit is None:
            raise self._wrong(row, column, f"the unit of {_said(value)} is unknown; say it with --time-unit")
        return number * UNITS[unit]

    def _date(self, row: _Row, column: str, value: Any) -> float:
        try:
            found = datetime.fromisoformat(value)
        except (ValueError, TypeError) as error:
            message = f"must be a number or a time such as 2026-11-20 12:00:00.5, not {_said(value)}"
            raise self._wrong(row, column, message) from error
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()

    def _wrong(self, row: _Row, column: str, message: str) -> BadInput:
        return _mistake(self._file, row.line, shown(column), message)


def _plain(name: str) -> str:
    """Without what differs between programs, the unit included."""
    return re.sub("[^a-z0-9]", "", _UNIT.sub("", name.lower()))


def _number(value: Any) -> float | None:
    """A finite number, from JSON or as text."""
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e18:
        return None
    return float(value) if isfinite(value) else None


def _said(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
