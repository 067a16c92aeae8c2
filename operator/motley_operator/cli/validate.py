"""Documents → objects, refusing what the API server would refuse: the pydantic models with nothing unknown, and the
CRD's CEL rules. It knows each object and the names of all, not how they fit together."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from motley_operator.api import GROUP, KINDS, VERSION, Resource
from motley_operator.cli import schema as schemas
from motley_operator.cli import wording
from motley_operator.cli.schema import Schema
from motley_operator.cli.yamltree import Document, Mistake, Path

API_VERSION = f"{GROUP}/{VERSION}"
NAMESPACE = "default"
"""Of objects that name none, as with kubectl."""

_KINDS = {kind.__name__: kind for kind in KINDS}
_GIVEN = ("Fleet", "GPUPool", "Model", "Profile")  # what people write; the others are the operator's
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_TEXT, _TEXTS = {"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Schema = {
    "type": "object",
    "properties": {
        "name": _TEXT | {"description": "The object's name"},
        "namespace": _TEXT,
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "finalizers": {"type": "array", "items": _TEXT},
        "uid": _TEXT,
        "generation": {"type": "integer"},
        "creationTimestamp": _TEXT,
        "deletionTimestamp": _TEXT,
    },
}
_UNREAD = (
    "generateName",
    "selfLink",
    "resourceVersion",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "managedFields",
)
"""Metadata that the API server knows and planning does not."""


@dataclass(frozen=True)
class Given:
    """A valid object, complete with its defaults, and where it was written."""

    kind: type[Resource]
    key: str
    value: Mapping[str, Any]
    document: Document


@dataclass(frozen=True)
class Checked:
    given: tuple[Given, ...]
    mistakes: tuple[Mistake, ...]
    skipped: tuple[Mistake, ...]
    """Objects of other programs: nothing is wrong with them, they are just not looked at."""


def checked(documents: Iterable[Document]) -> Checked:
    given: list[Given] = []
    mistakes: list[Mistake] = []
    skipped: list[Mistake] = []
    seen: dict[tuple[str, str], Document] = {}
    for document in documents:
        kind = _kind(document)
        if kind is None:
            skipped.append(_foreign(document))
            continue
        if isinstance(kind, Mistake):
            mistakes.append(kind)
            continue
        one = _given(document, kind)
        found = list(_mistakes(one))
        first = seen.setdefault((kind.__name__, one.key), document)
        if first is not document:
            message = f"{kind.__name__} {one.key} is given twice, first on {first.file}:{first.line(())}; remove one"
            found.append(document.mistake(("metadata", "name"), message))
        mistakes += sorted(found, key=lambda mistake: mistake.line)
        if not found:
            given.append(one)
    return Checked(tuple(given), tuple(mistakes), tuple(skipped))


def _kind(document: Document) -> type[Resource] | Mistake | None:
    """The kind of one of our objects; None if it is none of ours."""
    value = document.value
    if not isinstance(value, dict):
        return document.mistake((), "must be an object with apiVersion, kind, metadata and spec")
    version, name = value.get("apiVersion"), value.get("kind")
    if not isinstance(name, str) or not name:
        return document.mistake(("kind",), f"is missing; write one of {', '.join(_GIVEN)}")
    if not isinstance(version, str) or not version:
        return document.mistake(("apiVersion",), f"is missing; write {API_VERSION}")
    group = version.rpartition("/")[0]
    kind = _KINDS.get(name)
    if group == GROUP and kind is None:
        close = get_close_matches(name, _KINDS, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"known are {', '.join(_GIVEN)}"
        return document.mistake(("kind",), f"unknown kind {name} of {GROUP}; {remedy}")
    ours = group == GROUP or not group or get_close_matches(group, [GROUP])
    if kind is None or not ours:
        return None
    if version != API_VERSION:
        return document.mistake(("apiVersion",), f"must be {API_VERSION} for kind {name}, not {version}")
    return kind


def _foreign(document: Document) -> Mistake:
    metadata = document.value.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    return document.mistake((), f"skipped {document.value['kind']} {name}: not an object of {GROUP}")


def _given(document: Document, kind: type[Resource]) -> Given:
    value: dict[str, Any] = schemas.completed(_schema(kind), document.value)
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return Given(kind, "", value, document)
    metadata = {name: inner for name, inner in metadata.items() if name not in _UNREAD and name != "namespace"}
    key = str(metadata.get("name", ""))
    if kind.crd.scope == "Namespaced":
        namespace = value["metadata"].get("namespace")
        metadata["namespace"] = NAMESPACE if namespace in (None, "") else namespace
        key = f"{metadata['namespace']}/{key}"
    return Given(kind, key, value | {"metadata": metadata}, document)


def _schema(kind: type[Resource]) -> Schema:
    root = schemas.schema(kind)
    return {**root, "properties": {**root["properties"], "metadata": _METADATA}}


def _mistakes(one: Given) -> Iterator[Mistake]:
    root = _schema(one.kind)
    wrong = dict(_wrong_fields(one, root))
    for path, message in wrong.items():
        yield one.document.mistake(path, message)
    yield from _names(one)
    for path, message in schemas.broken_rules(root, one.value, wrong):
        yield one.document.mistake(path, message)


def _wrong_fields(one: Given, root: Schema) -> Iterator[tuple[Path, str]]:
    """What is missing, unknown, or of another type or form than the field."""
    for path in schemas.truths_for_numbers(root, one.value):
        yield path, wording.wanted(True, schemas.at(root, path))
    try:
        one.kind.model_validate_json(json.dumps(one.value), strict=True, extra="forbid", by_alias=True, by_name=False)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            yield detail["loc"], wording.message(detail, detail["loc"], root)


def _names(one: Given) -> Iterator[Mistake]:
    """Names become parts of URLs and DNS names."""
    metadata = one.value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if isinstance(name, str) and not (_NAME.fullmatch(name) and len(name) <= 253):
        message = "must be a DNS name: lower-case letters, digits, '-' and '.', such as chat-8b"
        yield one.document.mistake(("metadata", "name"), message)
    if isinstance(namespace, str) and not (_LABEL.fullmatch(namespace) and len(namespace) <= 63):
        message = "must be a DNS label: lower-case letters, digits and '-', at most 63 of them"
        yield one.document.mistake(("metadata", "namespace"), message)
