"""Pydantic models → CRD manifests. `python -m motley_operator.api.crdgen FOLDER…` writes one file per kind.

Pydantic's JSON schema is not a structural schema: references are inlined, `anyOf` with null becomes an optional field,
defaults of nested objects become `{}` (the API server fills the inner ones), titles go.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from motley_operator.api import GROUP, KINDS, VERSION, Resource
from motley_operator.api.base import Column

Schema = dict[str, Any]

_KEPT = (
    "type",
    "description",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "format",
    "x-kubernetes-validations",
)


def schema_of(kind: type[Resource]) -> Schema:
    """The structural OpenAPI v3 schema of a kind, CEL rules and defaults included."""
    raw = kind.model_json_schema(by_alias=True)
    definitions = raw.pop("$defs", {})
    root = _structural(raw, definitions)
    spec, status = root["properties"].pop("spec", None), root["properties"].pop("status", None)
    properties: Schema = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    if spec is not None:
        properties["spec"] = spec
    if status is not None:
        properties["status"] = _without_defaults(status)
    root |= {"properties": properties, "required": ["spec"] if "spec" in root.get("required", ()) else []}
    return {key: value for key, value in root.items() if value != []}


def crd(kind: type[Resource]) -> Schema:
    """The CustomResourceDefinition of a kind."""
    about, name = kind.crd, kind.__name__
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema_of(kind)},
        "additionalPrinterColumns": [_column(column) for column in about.columns],
    }
    if "status" in kind.model_fields:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{about.plural}.{GROUP}",
            "annotations": {"helm.sh/resource-policy": "keep"},
            "labels": {"app.kubernetes.io/part-of": "motley"},
        },
        "spec": {
            "group": GROUP,
            "scope": about.scope,
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": about.plural,
                "singular": name.lower(),
                "shortNames": list(about.short_names),
                "categories": ["motley"],
            },
            "versions": [version],
        },
    }


def _column(column: Column) -> Schema:
    shown = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return shown | ({"priority": 1} if column.wide else {})


def _structural(schema: Schema, definitions: Schema) -> Schema:
    schema = _inlined(schema, definitions)
    result: Schema = {key: schema[key] for key in _KEPT if key in schema}
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if "enum" in schema:
        result["enum"] = schema["enum"]
    if "properties" in schema:
        result["properties"] = {
            name: _structural(property, definitions) for name, property in schema["properties"].items()
        }
        if required := schema.get("required"):
            result["required"] = required
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(schema["additionalProperties"], definitions)
    if "items" in schema:
        result["items"] = _structural(schema["items"], definitions)
    if schema.get("default") is not None:
        result["default"] = {} if result["type"] == "object" else schema["default"]
    return result


def _inlined(schema: Schema, definitions: Schema) -> Schema:
    """`$ref`, a single `allOf`, and `anyOf` with null, replaced by what they stand for."""
    merged = dict(schema)
    while any(key in merged for key in ("$ref", "anyOf", "allOf")):
        if "$ref" in merged:
            inner = definitions[merged.pop("$ref").rsplit("/", 1)[1]]
        else:
            options = merged.pop("anyOf", None) or merged.pop("allOf")
            (inner,) = [option for option in options if option.get("type") != "null"]
        merged = {**inner, **merged}
    return merged


def _without_defaults(schema: Schema) -> Schema:
    """Status is written whole by the operator: nothing in it is required or filled in."""
    result = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in result:
        result["properties"] = {name: _without_defaults(value) for name, value in result["properties"].items()}
    if "items" in result:
        result["items"] = _without_defaults(result["items"])
    return result


def manifest(kind: type[Resource]) -> str:
    """The CRD as the YAML file that `make crds` writes."""
    text = yaml.safe_dump(crd(kind), sort_keys=False, width=120, allow_unicode=True)
    return f"# Generated by `make crds` from motley_operator.api; do not edit.\n{text}"


def main(folders: list[str]) -> None:
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for kind in KINDS:
            (Path(folder) / f"{kind.crd.plural}.yaml").write_text(manifest(kind))


if __name__ == "__main__":
    main(sys.argv[1:])
