"""A kind's CRD schema applied to an object as the API server does it: nulls pruned, defaults filled in, CEL rules
evaluated. It knows nothing of what the fields mean."""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

from motley_operator.api import Resource
from motley_operator.api.crdgen import schema_of
from motley_operator.cli.yamltree import Path

Schema = Mapping[str, Any]

_RULES = "x-kubernetes-validations"


@cache
def schema(kind: type[Resource]) -> Schema:
    return schema_of(kind)


def at(root: Schema, path: Path) -> Schema:
    """The schema of the field at `path`; empty where the schema says nothing of it."""
    for part in path:
        if isinstance(part, int):
            root = root.get("items", {})
        else:
            root = root.get("properties", {}).get(part) or root.get("additionalProperties", {})
    return root


def paths(root: Schema, path: Path = ()) -> Iterator[Path]:
    """Of every field that the schema names; list items count as index 0."""
    for name, inner in root.get("properties", {}).items():
        yield (*path, name)
        yield from paths(inner, (*path, name))
    if "items" in root:
        yield from paths(root["items"], (*path, 0))


def completed(root: Schema, value: Any) -> Any:
    """The value without nulls that the schema does not allow, and with its defaults."""
    if isinstance(value, list):
        return [completed(root.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    properties, others = root.get("properties", {}), root.get("additionalProperties")
    result = {}
    for name, inner in value.items():
        known = properties.get(name, others)
        if inner is None and known is not None:
            continue
        result[name] = inner if known is None else completed(known, inner)
    for name, known in properties.items():
        if name not in result and "default" in known:
            result[name] = completed(known, known["default"])
    return result


def walk(root: Schema, value: Any, path: Path = ()) -> Iterator[tuple[Schema, Any, Path]]:
    """Every part of the value with the schema that holds for it."""
    yield root, value, path
    parts = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for name, inner in parts:
        yield from walk(at(root, (name,)), inner, (*path, name))


def broken_rules(root: Schema, value: Any, wrong: Collection[Path]) -> Iterator[tuple[Path, str]]:
    """Where a rule does not hold, and its message. Rules about changes (oldSelf) do not concern a new object. As the
    API server does, rules look only at what is right so far: nothing within their reach may be among `wrong`."""
    for part, inner, path in walk(root, value):
        if any(other[: len(path)] == path for other in wrong):
            continue
        for rule in part.get(_RULES, ()):
            if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], inner):
                yield _blamed(part, path, rule.get("message", f"breaks the rule {rule['rule']}"))


def truths_for_numbers(root: Schema, value: Any) -> Iterator[Path]:
    """To Python, and to pydantic's literals, true is 1; to the API server it is not."""
    for part, inner, path in walk(root, value):
        if isinstance(inner, bool) and "enum" in part and inner in part["enum"]:
            yield path


def _blamed(root: Schema, path: Path, message: str) -> tuple[Path, str]:
    """A rule stands beside the fields that it compares; a message that begins with one of them means that one."""
    field, _, rest = message.partition(": ")
    inner: Path = tuple(field.split("."))
    return ((*path, *inner), rest) if rest and at(root, inner) else (path, message)


def _holds(rule: str, value: Any) -> bool:
    """The API server refuses what a rule cannot be evaluated on."""
    from celpy.adapter import json_to_cel  # half a second that only those who validate should wait for
    from celpy.evaluation import CELEvalError

    try:
        return bool(_program(rule).evaluate({"self": json_to_cel(value)}))
    except (CELEvalError, ValueError, TypeError):
        return False


@cache
def _program(rule: str) -> Any:
    import celpy

    environment = celpy.Environment()
    return environment.program(environment.compile(rule))
