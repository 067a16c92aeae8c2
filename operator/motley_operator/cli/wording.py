"""What pydantic refuses, said as what to write instead. It knows the schema and wording, nothing else."""

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from motley_operator.api import quantities
from motley_operator.cli import schema as schemas
from motley_operator.cli.schema import Schema
from motley_operator.cli.yamltree import Path, dotted

_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def _pattern_of(annotated: Any) -> str:
    return str(annotated.__metadata__[0].pattern)


_EXAMPLES: Mapping[str, str] = {
    _pattern_of(quantities.Duration): "must be a duration such as 500ms, 1.5s, 2m or 1h",
    _pattern_of(quantities.Decimal): 'must be a decimal in quotes, for example "98.32"',
    _pattern_of(quantities.Fraction): 'must be a decimal from 0 to 1 in quotes, for example "0.5"',
    _pattern_of(quantities.Portion): 'must be a decimal from 0 to below 1 in quotes, for example "0.5"',
    _pattern_of(quantities.Variation): 'must be a decimal from 0 to below 10 in quotes, for example "1.5"',
    _pattern_of(quantities.Memory): "must be an amount of memory such as 80Gi",
    _pattern_of(quantities.Cpu): 'must be CPU cores in quotes, for example "4", "0.5" or 500m',
}


def message(error: ErrorDetails, path: Path, root: Schema) -> str:
    """`path` is where the error stands, `root` the schema of the whole object."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown(path, root)
    if kind == "missing":
        return _missing(schemas.at(root, path))
    if kind in _LIMITS:
        return _LIMITS[kind](context)
    return wanted(error["input"], schemas.at(root, path))


_LIMITS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda c: f"must be at least {c['ge']}",
    "less_than_equal": lambda c: f"must be at most {c['le']}",
    "too_short": lambda c: f"needs at least {c['min_length']} entry",
    "too_long": lambda c: f"must have at most {c['max_length']} entries",
    "string_too_short": lambda c: "must not be empty",
    "string_too_long": lambda c: f"must have at most {c['max_length']} characters",
}


def _missing(field: Schema) -> str:
    example = _EXAMPLES.get(field.get("pattern", ""), "").replace("must be", "; give", 1)
    return f"is missing{example}{_described(field)}"


def _described(field: Schema) -> str:
    description = str(field.get("description", "")).split(". ")[0].rstrip(".")
    return f" ({description})" if description else ""


def wanted(value: Any, field: Schema) -> str:
    """What to write, where the value's type or text is not what the field holds."""
    options = field.get("enum")
    if options:
        listed = ", ".join(str(option) for option in options)
        return f"must be {'one of ' if len(options) > 1 else ''}{listed}{_near(value, options)}"
    pattern = field.get("pattern", "")
    if pattern in _EXAMPLES:
        return _EXAMPLES[pattern]
    if field.get("type") == "string" and isinstance(value, str):
        return f"must match {pattern}{_described(field)}"
    if field.get("type") == "string" and isinstance(value, bool):
        return "must be text; write it in quotes"
    if field.get("type") == "string" and isinstance(value, int | float):
        return f'must be text; write it in quotes: "{json.dumps(value)}"'
    return f"must be {_TYPES.get(field.get('type', ''), 'something else')}, not {_shown(value)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}…"


def _near(value: Any, options: list[Any]) -> str:
    close = get_close_matches(str(value), [str(option) for option in options], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def unknown(path: Path, root: Schema) -> str:
    """An unknown field: a slip of the pen, or a field that belongs elsewhere."""
    name, parent = str(path[-1]), schemas.at(root, path[:-1])
    known = list(parent.get("properties", {}))
    close = get_close_matches(name, known, n=1) or [k for k in known if k.lower() == name.lower()]
    if close:
        return f"unknown field; did you mean {close[0]}?"
    elsewhere = next((p for p in schemas.paths(root) if p[-1] == name and p[0] == "spec"), None)
    if elsewhere:
        return f"unknown field; did you mean {dotted(elsewhere).replace('[0]', '[]')}?"
    return f"unknown field; known here are {', '.join(known)}" if known else "unknown field; remove it"
