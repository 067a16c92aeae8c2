"""The CRDs: equal to the models, and structural as the API server wants it."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from motley_operator.api import KINDS, Resource, crdgen
from motley_operator.api.crdgen import crd, main, manifest

ROOT = Path(__file__).parents[3]
FOLDERS = ("crds", "charts/motley/files/crds")
BY_NAME = {kind.__name__: kind for kind in KINDS}
Schema = dict[str, Any]
schema_of = cache(crdgen.schema_of)


def nodes_of(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """The schema and all schemas inside it, each with where it stands."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes_of(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes_of(schema[key], f"{path}[]")


@pytest.fixture(params=BY_NAME)
def kind(request: pytest.FixtureRequest) -> type[Resource]:
    return BY_NAME[request.param]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_committed_crds_are_the_generated_ones(folder: str) -> None:
    committed = {path.name: path.read_text() for path in (ROOT / folder).iterdir()}
    assert committed == {f"{kind.crd.plural}.yaml": manifest(kind) for kind in KINDS}, "run `make crds`"


def test_make_crds_writes_every_kind_to_every_folder(tmp_path: Path) -> None:
    main([str(tmp_path / "a"), str(tmp_path / "b" / "c")])
    written = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert written == sorted(f"{kind.crd.plural}.yaml" for kind in KINDS)
    assert (tmp_path / "a" / "models.yaml").read_text() == (tmp_path / "b" / "c" / "models.yaml").read_text()


def test_a_generated_crd_is_yaml_that_says_the_same(kind: type[Resource]) -> None:
    assert yaml.safe_load(manifest(kind)) == crd(kind)


def test_every_schema_is_structural(kind: type[Resource]) -> None:
    forbidden = {"$ref", "$defs", "anyOf", "allOf", "oneOf", "not", "title", "const", "exclusiveMinimum", "examples"}
    for path, schema in nodes_of(schema_of(kind)):
        assert not forbidden & schema.keys(), f"{path}: {forbidden & schema.keys()}"
        assert schema["type"] in {"object", "array", "string", "integer", "number", "boolean"}, path
        assert (schema["type"] == "array") == ("items" in schema), f"{path}: an array says what it holds"
        assert not ("properties" in schema and "additionalProperties" in schema), path


def test_what_is_required_is_there_and_has_no_default(kind: type[Resource]) -> None:
    for path, schema in nodes_of(schema_of(kind)):
        for name in schema.get("required", ()):
            assert name in schema["properties"], f"{path}.{name}"
            assert "default" not in schema["properties"][name], f"{path}.{name}"


def test_a_default_obeys_its_own_schema(kind: type[Resource]) -> None:
    types = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
    for path, schema in nodes_of(schema_of(kind)):
        if "default" in schema:
            assert isinstance(schema["default"], types[schema["type"]]), path
            assert schema["default"] in schema.get("enum", [schema["default"]]), path
            if schema["type"] == "object":
                assert schema["default"] == {} and not schema.get("required"), f"{path}: the server fills {{}} from it"


def test_the_status_fills_nothing_in(kind: type[Resource]) -> None:
    """A default in a status would come back as a change that nobody made."""
    status = schema_of(kind)["properties"].get("status", {"type": "object"})
    assert [path for path, schema in nodes_of(status) if "default" in schema] == []


def bounded(schema: Schema) -> bool:
    bounds = {"array": "maxItems", "string": "maxLength", "object": "maxProperties"}
    return (
        schema["type"] not in bounds or bounds[schema["type"]] in schema or "enum" in schema or "properties" in schema
    )


def test_cel_rules_touch_only_bounded_strings_and_lists() -> None:
    """The API server refuses a CRD whose rules might cost too much. A Plan is written by the operator alone."""
    for kind in set(KINDS) - {BY_NAME["Plan"]}:
        for path, schema in nodes_of(schema_of(kind)["properties"]["spec"], "spec"):
            rules = " ".join(rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
            assert not rules or bounded(schema), path
            for inner_path, inner in nodes_of(schema, path):
                name = inner_path.rsplit(".", 1)[-1].removesuffix("[]")
                assert bounded(inner) or not re.search(rf"\.{name}\b", rules) or inner_path.endswith("[]"), inner_path


def test_every_rule_says_what_to_change(kind: type[Resource]) -> None:
    for path, schema in nodes_of(schema_of(kind)):
        for rule in schema.get("x-kubernetes-validations", ()):
            assert rule.keys() == {"rule", "message"} and len(rule["message"]) > 15, path


def test_every_column_shows_a_field_that_exists(kind: type[Resource]) -> None:
    for column in kind.crd.columns:
        schema = schema_of(kind)
        path = column.path.removeprefix(".").split("[")[0].split(".")
        if path[0] == "metadata":
            assert path[1] == "creationTimestamp"
            continue
        for name in path:
            schema = schema["properties"][name]
        if "[?" not in column.path:
            assert schema["type"] == column.type, column.name


def test_status_is_a_subresource_where_a_kind_has_one(kind: type[Resource]) -> None:
    version = crd(kind)["spec"]["versions"][0]
    assert ("status" in kind.model_fields) == ("subresources" in version)


def test_short_names_and_plurals_belong_to_one_kind_each() -> None:
    names = [name for kind in KINDS for name in (kind.crd.plural, kind.__name__.lower(), *kind.crd.short_names)]
    assert len(names) == len(set(names))


def test_crds_stay_when_the_chart_goes(kind: type[Resource]) -> None:
    assert crd(kind)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_a_plan_is_immutable_but_for_its_approval() -> None:
    spec = schema_of(BY_NAME["Plan"])["properties"]["spec"]
    (rule,) = spec["x-kubernetes-validations"]
    free = {name for name in spec["properties"] if f"self.{name} == oldSelf.{name}" not in rule["rule"]}
    assert free == {"approved"}
    absent = {name for name in spec["properties"] if name not in spec["required"]} - free - {"inputs"}  # always written
    assert all("default" in spec["properties"][name] for name in absent), "CEL stumbles over an absent field"
