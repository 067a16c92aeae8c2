"""values.yaml is documented, and values.schema.json holds exactly what it names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "charts" / "motley"
VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def scalars(node: yaml.Node, path: str = "") -> Iterator[tuple[str, yaml.Node]]:
    """The key nodes of all values, by dotted path; empty maps are values, the others are folders of values."""
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        where = f"{path}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value and not where.endswith("resources"):
            yield from scalars(value, f"{where}.")
        else:
            yield where, key


def resolved(schema: Any) -> Any:
    return SCHEMA["definitions"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def closed_objects(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The schemas of all objects with named properties."""
    schema = resolved(schema)
    if "properties" in schema:
        yield path or "(top)", schema
        for name, inner in schema["properties"].items():
            yield from closed_objects(inner, f"{path}.{name}")
    elif schema.get("type") == "array":
        yield from closed_objects(schema["items"], f"{path}[]")


def test_every_value_is_documented() -> None:
    lines = VALUES.splitlines()
    root = yaml.compose(VALUES)
    assert root
    found = dict(scalars(root))
    assert len(found) > 40
    undocumented = [path for path, key in found.items() if not lines[key.start_mark.line - 1].strip().startswith("# ")]
    assert undocumented == []


def test_the_schema_names_exactly_the_values_and_lets_none_be_removed() -> None:
    values = yaml.safe_load(VALUES)
    for path, schema in closed_objects(SCHEMA):
        assert schema["additionalProperties"] is False, path
        here = values
        for name in path.strip(".").split(".") if path != "(top)" else ():
            here = here.get(name) if isinstance(here, dict) else None
        if isinstance(here, dict) and here and not path.endswith("resources"):
            assert set(schema["required"]) == set(schema["properties"]) - {"global"} == set(here), path


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ('operater={"replicas":1}', "operater"),
        ("operator.replica=3", "replica"),
        ('operator.replicas="two"', "operator.replicas"),
        ("operator.replicas=0", "operator.replicas"),
        ("operator.replicas=1.5", "operator.replicas"),
        ('operator.logLevel="LOUD"', "operator.logLevel"),
        ("operator.solveSeconds=0", "operator.solveSeconds"),
        ("operator.leaseSeconds=1", "operator.leaseSeconds"),
        ("operator.image.tag=1.2", "operator.image.tag"),
        ("operator.nodeSelector.a=1", "operator.nodeSelector.a"),
        ('operator.tolerations=[{"efect":"NoSchedule"}]', "efect"),
        ('router.service.type="External"', "router.service.type"),
        ("router.service.port=70000", "router.service.port"),
        ("router.drainSeconds=0", "router.drainSeconds"),
        ("router.ingress.enabled=true", "router.ingress.host"),
        ('router.resources={"limit":{}}', "limit"),
        ('engine.image.pullPolicy="Sometimes"', "engine.image.pullPolicy"),
        ("engine.env.A=1", "engine.env.A"),
        ('engine.env={"A-B":"1"}', "A-B"),
        ('engine.hostPaths=["opt/venv"]', "engine.hostPaths"),
        ("engine.drainSeconds=0", "engine.drainSeconds"),
        ("engine.env=null", "env"),
        ("crds.install=null", "install"),
        ('crds.install="no"', "crds.install"),
        ('metrics.scrapeNamespaces="monitoring"', "metrics.scrapeNamespaces"),
        ('fullnameOverride="Motley!"', "fullnameOverride"),
        ("metrics.serviceMonitor.enabled=true", "metrics.scrapeNamespaces: name the namespace"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(refusal: Any, setting: str, named: str) -> None:
    assert named in refusal(setting).replace("/", ".")


def test_monitoring_without_network_policies_needs_no_namespace(render: Any) -> None:
    rendered = render("default", "metrics.serviceMonitor.enabled=true", "networkPolicy.enabled=false")
    assert len(rendered.kind("ServiceMonitor")) == 2
