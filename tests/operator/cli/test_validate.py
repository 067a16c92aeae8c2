"""Each object that the API server would refuse is refused with its line and field; the others are complete."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from bad_objects import CONDITIONED, FLEET, GOOD, MODEL, POOL, REFUSED, Refused, changed

from motley_operator.api import KINDS
from motley_operator.cli import schema
from motley_operator.cli.validate import Checked, checked
from motley_operator.cli.yamltree import Document, parsed


def check(text: str) -> Checked:
    documents, mistakes = parsed("x.yaml", text.encode())
    assert not mistakes
    return checked(documents)


def mistakes_of(text: str) -> list[str]:
    return [str(mistake) for mistake in check(text).mistakes]


@pytest.mark.parametrize("text", [*GOOD, *(case.text for case in CONDITIONED)])
def test_a_well_formed_object_passes(text: str) -> None:
    assert not mistakes_of(text)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_malformed_object_is_refused_at_its_field(case: Refused) -> None:
    assert any(case.field in mistake for mistake in mistakes_of(case.text))


def test_every_rule_of_the_schemas_refuses_something_here() -> None:
    rules = {
        rule["message"].rpartition(": ")[2]
        for kind in KINDS
        for part in _parts(schema.schema(kind))
        for rule in part.get("x-kubernetes-validations", ())
        if "oldSelf" not in rule["rule"]
    }
    said = "\n".join(mistake for case in REFUSED for mistake in mistakes_of(case.text))
    assert rules
    assert not [rule for rule in rules if rule not in said]


def _parts(root: schema.Schema) -> Iterator[schema.Schema]:
    yield root
    inner = [*root.get("properties", {}).values(), root.get("items"), root.get("additionalProperties")]
    for part in filter(None, inner):
        yield from _parts(part)


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    parts = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for name, inner in parts:
        yield (*path, name)
        yield from _places(inner, (*path, name))


@pytest.mark.parametrize("text", GOOD, ids=lambda text: text.split()[3])
def test_a_field_of_another_type_is_refused_wherever_it_stands(text: str) -> None:
    good = parsed("x.yaml", text.encode())[0][0]
    fields = [path for path in _places(good.value["spec"], ("spec",))]
    assert len(fields) >= 3
    for path in fields:
        value = deepcopy(good.value)
        holder = value
        for part in path[:-1]:
            holder = holder[part]
        holder[path[-1]] = 1.5 if isinstance(holder[path[-1]], list | dict) else {"x": [1]}
        mistakes = checked([Document("x.yaml", value, good.lines)]).mistakes
        assert any(good.line(path) == mistake.line for mistake in mistakes), path


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            changed(MODEL, "ttft: 1s", "ttft: 0s"),
            "x.yaml:27: spec.slo.ttft: must be longer than zero, for example 500ms",
        ),
        (
            changed(MODEL, "tpot: 100ms", "tpot: 100"),
            "x.yaml:29: spec.slo.tpot: must be a duration such as 500ms, 1.5s, 2m or 1h",
        ),
        (
            changed(POOL, '"0.70"', "0.70"),
            'x.yaml:12: spec.pricePerNodeHour: must be a decimal in quotes, for example "98.32"',
        ),
        (
            changed(POOL, '  pricePerNodeHour: "0.70"\n', ""),
            'x.yaml:5: spec.pricePerNodeHour: is missing; give a decimal in quotes, for example "98.32" '
            "(Price of one node for one hour)",
        ),
        (
            changed(POOL, "maxNodes: 4", "maxnodes: 4\n  maxNodes: 4"),
            "x.yaml:13: spec.maxnodes: unknown field; did you mean maxNodes?",
        ),
        (
            changed(POOL, "device: gpu", "device: gpus"),
            "x.yaml:7: spec.device: must be one of gpu, cpu; did you mean gpu?",
        ),
        (
            changed(POOL, "  maxNodes: 4", "  maxNodes: 4\n  ttft: 1s"),
            "x.yaml:14: spec.ttft: unknown field; known here are gpu, ",
        ),
        (
            changed(MODEL, "  priority: 1", "  ttft: 1s"),
            "x.yaml:64: spec.ttft: unknown field; did you mean spec.slo.ttft?",
        ),
        (
            changed(MODEL, "value: info", "value: 7"),
            'x.yaml:58: spec.engine.env[0].value: must be text; write it in quotes: "7"',
        ),
        (
            changed(MODEL, "value: info", "value: yes"),
            "x.yaml:58: spec.engine.env[0].value: must be text; write it in quotes",
        ),
        (changed(POOL, "maxNodes: 4", "maxNodes: -1"), "x.yaml:13: spec.maxNodes: must be at least 0"),
        (changed(POOL, "    motley.dev/pool: l4", "    {}"), "x.yaml:18: spec.nodeSelector: name at least one label"),
        (
            changed(MODEL, "contextLength: 4096", "contextLength: 1600"),
            "x.yaml:33: spec.traffic.sizes: inputTokens + outputTokens of a size exceeds contextLength; ",
        ),
        (
            changed(MODEL, "  name: chat\n", "  name: Chat\n"),
            "x.yaml:4: metadata.name: must be a DNS name: lower-case letters, digits, '-' and '.', such as chat-8b",
        ),
        (changed(MODEL, "namespace: default", "namespace: a.b"), "x.yaml:5: metadata.namespace: must be a DNS label: "),
        (changed(FLEET, "name: default", "labels: {}"), "x.yaml:3: metadata.name: is missing (The object's name)"),
        (
            changed(FLEET, "  name: default", "  name: default\n  label: {a: b}"),
            "x.yaml:5: metadata.label: unknown field; did you mean labels?",
        ),
    ],
)
def test_a_mistake_names_file_line_field_and_remedy(text: str, mistake: str) -> None:
    (found,) = mistakes_of(text)
    assert found.startswith(mistake)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("- a\n", "x.yaml:1: must be an object with apiVersion, kind, metadata and spec"),
        (
            "apiVersion: motley.dev/v1alpha1\n",
            "x.yaml:1: kind: is missing; write one of Fleet, GPUPool, Model, Profile",
        ),
        ("kind: Model\n", "x.yaml:1: apiVersion: is missing; write motley.dev/v1alpha1"),
        (
            "apiVersion: motley.dev/v1alpha1\nkind: Modle\n",
            "x.yaml:2: kind: unknown kind Modle of motley.dev; did you mean Model?",
        ),
        (
            "apiVersion: motley.dev/v1\nkind: Model\n",
            "x.yaml:1: apiVersion: must be motley.dev/v1alpha1 for kind Model, not motley.dev/v1",
        ),
        (
            "apiVersion: motely.dev/v1alpha1\nkind: Model\n",
            "x.yaml:1: apiVersion: must be motley.dev/v1alpha1 for kind Model, not motely.dev/v1alpha1",
        ),
        (
            "apiVersion: v1\nkind: GPUPool\n",
            "x.yaml:1: apiVersion: must be motley.dev/v1alpha1 for kind GPUPool, not v1",
        ),
    ],
)
def test_an_object_without_a_proper_kind_is_refused(text: str, mistake: str) -> None:
    assert mistakes_of(text) == [mistake]


def test_all_mistakes_of_all_objects_are_told_at_once_in_the_order_of_their_lines() -> None:
    pool = changed(changed(POOL, '"0.70"', "cheap"), "maxNodes: 4", "maxNodes: -1")
    lines = [mistake.line for mistake in check(f"{pool}---\n{changed(MODEL, 'ttft: 1s', 'ttft: 0s')}").mistakes]
    assert lines == [12, 13, 52]


def test_two_objects_of_one_name_are_refused_with_both_places() -> None:
    assert mistakes_of(f"{POOL}---\n{POOL}") == [
        "x.yaml:29: metadata.name: GPUPool l4 is given twice, first on x.yaml:1; remove one"
    ]


def test_one_name_in_two_namespaces_or_kinds_is_no_duplicate() -> None:
    elsewhere = changed(MODEL, "namespace: default", "namespace: other")
    pool = changed(POOL, "name: l4", "name: chat")
    assert not mistakes_of(f"{MODEL}---\n{elsewhere}---\n{pool}")


def test_objects_of_other_programs_are_skipped_and_said_so() -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: kubeai.org/v1\nkind: Model\n"
    found = check(text)
    assert not found.mistakes and not found.given
    assert [str(note) for note in found.skipped] == [
        "x.yaml:1: skipped Namespace a: not an object of motley.dev",
        "x.yaml:5: skipped Model : not an object of motley.dev",
    ]


def test_defaults_are_filled_in_and_empty_fields_count_as_absent() -> None:
    text = changed(changed(POOL, "device: gpu", "device:"), "    gpus: 1\n", "")
    (given,) = check(text).given
    assert given.value["spec"]["device"] == "gpu"
    assert given.value["spec"]["node"]["gpus"] == 1


def test_a_model_without_a_namespace_is_in_default_and_a_pool_is_in_none() -> None:
    model, pool = check(f"{changed(MODEL, '  namespace: default', '')}---\n{POOL}").given
    assert (model.key, pool.key) == ("default/chat", "l4")


def test_what_the_api_server_adds_to_metadata_is_no_mistake() -> None:
    added = "  name: l4\n  resourceVersion: '7'\n  uid: u\n  managedFields: [{manager: kubectl}]\n  generation: 3\n"
    assert not mistakes_of(changed(POOL, "  name: l4\n", added))
