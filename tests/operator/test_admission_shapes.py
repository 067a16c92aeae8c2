"""Shapes that are read from a Model's source, and what is said while they are not known."""

from dataclasses import replace
from typing import Any

import pytest
from fleets import SOURCE, about_models, fleet, model, pool, view_of

from motley_operator import reasons
from motley_operator.admission import admitted_models, inspected, needs_inspection, source_of
from motley_operator.api import Shape
from motley_operator.fleet import FleetView, InspectionView
from motley_operator.reasons import Finding

CONFIG = (
    '{"config": {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,'
    ' "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192}}'
)
EXPERTS = CONFIG.replace("}}", ', "num_local_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": []}}')


def inspection(view: FleetView, message: str = "", source: str = SOURCE, **changes: Any) -> FleetView:
    job = InspectionView("team", "inspect-chat", "chat", source, True, False, message, "")
    return replace(view, inspections=(*view.inspections, replace(job, **changes)))


def unknown_shape(**status: Any) -> FleetView:
    raw = model("chat", {"shape": None})
    return view_of(pool(), {**raw, "status": status} if status else raw)


def test_a_model_without_a_shape_waits_for_its_inspection() -> None:
    view = unknown_shape()
    assert admitted_models(view)[1]["Model team/chat"] == Finding(
        reasons.INSPECTING, f"reading config.json from {SOURCE}"
    )
    assert needs_inspection(view.models[0]) and inspected(view.models[0], view) is None


def test_an_inspection_gives_the_shape() -> None:
    view = inspection(unknown_shape(), CONFIG)
    shape = inspected(view.models[0], view)
    assert isinstance(shape, Shape) and (shape.layers, shape.kv_heads, shape.head_dim) == (32, 8, 128)


def test_the_inspection_of_another_source_or_model_says_nothing() -> None:
    for changes in ({"source": "hf://else"}, {"model": "talk"}, {"namespace": "b"}, {"succeeded": False}):
        view = inspection(unknown_shape(), CONFIG, **changes)
        assert inspected(view.models[0], view) is None


@pytest.mark.parametrize(
    "message",
    [
        "",
        "null",
        "[]",
        '"x"',
        "7",
        "{}",
        '{"config": null}',
        '{"config": 7}',
        '{"config": []}',
        '{"config": {}}',
        '{"config": {"num_hidden_layers": 1e400}}',
        '{"config": {"num_hidden_layers": NaN}}',
        '{"config": {"text_config": null}}',
        CONFIG.replace('"num_hidden_layers": 32', '"num_hidden_layers": 3200'),
        CONFIG.replace("4096", "Infinity"),
        CONFIG.replace("4096", "4096000"),
        EXPERTS.replace('"num_hidden_layers": 32', '"num_hidden_layers": 1000000000'),
        EXPERTS.replace("[]", "5"),
        "[" * 4000,
        '{"config": ' + "[" * 4000,
        CONFIG.replace("4096", "-4096"),
        CONFIG.replace("4096", "4" * 30),
        CONFIG.replace('"num_attention_heads": 32', '"num_attention_heads": 9999'),
        "a container's last words: Traceback (most recent call last)",
    ],
)
def test_whatever_an_image_says_about_itself_stops_nobody_else(message: str) -> None:
    """The termination message is written by an image that the Model's author chose."""
    view = inspection(unknown_shape(), message)
    view = replace(view, models=(*view.models, *view_of(model("other")).models))
    models, findings = admitted_models(view)
    assert [one.metadata.name for one in models] == ["other"]
    assert findings["Model team/chat"].reason == reasons.INSPECTION_FAILED
    assert "mend spec.source" in findings["Model team/chat"].message
    assert "\n" not in findings["Model team/chat"].message


def test_a_failed_inspection_tells_what_its_pod_said() -> None:
    view = inspection(unknown_shape(), "65: no such repository", succeeded=False, failed=True)
    message = admitted_models(view)[1]["Model team/chat"].message
    assert SOURCE in message and "no such repository" in message


def test_an_inspection_that_cannot_start_tells_why() -> None:
    view = inspection(unknown_shape(), succeeded=False, waits_for='secret "hub" not found')
    assert 'secret "hub" not found' in admitted_models(view)[1]["Model team/chat"].message


def test_a_known_shape_serves_until_the_new_source_is_read() -> None:
    known = Shape(**view_of(model()).models[0].spec.shape.model_dump())  # type: ignore[union-attr]
    view = unknown_shape(shape=known.to_json(), shapeSource="hf://example/older")
    assert needs_inspection(view.models[0])
    assert admitted_models(view)[1] == {}


def test_another_revision_is_another_source() -> None:
    (plain,) = view_of(model()).models
    (pinned,) = view_of(model("chat", {"source": {"revision": "v2"}})).models
    assert (source_of(plain), source_of(pinned)) == (SOURCE, f"{SOURCE}@v2")


def test_a_given_shape_needs_no_inspection() -> None:
    assert not needs_inspection(view_of(model()).models[0])


def test_what_is_refused_otherwise_is_not_inspected() -> None:
    """Its image or its path must not run or be read just to learn a shape."""
    forbidden = model("chat", {"shape": None, "engine": {"image": "evil"}})
    assert about_models(fleet({"allowedImages": []}), pool(), forbidden) == {
        "Model team/chat": reasons.IMAGE_NOT_ALLOWED
    }
