"""Who takes part in planning, and what the others are told."""

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from fleets import A100, model, node, pool, view_of
from fleets import fleet as a_fleet
from hypothesis import example, given, settings
from hypothesis import strategies as st

from motley_operator import admission, reasons
from motley_operator.admission import (
    admitted_models,
    admitted_pools,
    inspected,
    key_of,
    needs_inspection,
    owners,
    source_of,
)
from motley_operator.api import Model, Shape
from motley_operator.fleet import FleetView, InspectionView
from motley_operator.reasons import Finding

SOURCE = "hf://example/chat-8b"
CONFIG = (
    '{"config": {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,'
    ' "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192}}'
)
SHEET = {"memory": "24Gi", "bandwidthGBs": "300", "bf16TFLOPS": "120"}


def about_models(*objects: dict[str, Any]) -> dict[str, str]:
    return {key: finding.reason for key, finding in admitted_models(view_of(*objects))[1].items()}


def about_pools(*objects: dict[str, Any]) -> dict[str, str]:
    return {key: finding.reason for key, finding in admitted_pools(view_of(*objects))[1].items()}


# Pools


def test_a_good_pool_takes_part() -> None:
    pools, findings = admitted_pools(view_of(pool("l4"), pool("a100", A100)))
    assert ([one.metadata.name for one in pools], findings) == (["a100", "l4"], {})


def test_an_unknown_gpu_is_told_what_is_known_and_what_to_give() -> None:
    _, findings = admitted_pools(view_of(pool("x", {"gpu": "L5"})))
    (finding,) = findings.values()
    assert finding.reason == reasons.UNKNOWN_GPU
    assert "'L5'" in finding.message and "A100-80GB" in finding.message and "spec.sheet" in finding.message


def test_a_sheet_makes_any_gpu_known() -> None:
    assert about_pools(pool("x", {"gpu": "L5", "sheet": SHEET})) == {}


@pytest.mark.parametrize("field", ["bandwidthGBs", "bf16TFLOPS", "fp8TFLOPS", "linkGBs"])
def test_a_sheet_with_a_zero_is_refused_by_name(field: str) -> None:
    """It would be divided by."""
    _, findings = admitted_pools(view_of(pool("x", {"gpu": "L5", "sheet": {**SHEET, field: "0.0"}})))
    assert findings["GPUPool x"] == Finding(reasons.UNKNOWN_GPU, f"spec.sheet.{field}: must be above zero")


def test_a_pool_that_is_being_deleted_drains() -> None:
    assert about_pools(pool("x", deletionTimestamp="2026-03-01T11:00:00Z")) == {"GPUPool x": reasons.DRAINING}


@pytest.mark.parametrize(
    ("older", "newer"),
    [({"a": "1"}, {"a": "1"}), ({"a": "1"}, {"a": "1", "b": "2"}), ({"a": "1", "b": "2"}, {"a": "1"})],
)
def test_of_two_pools_whose_selectors_overlap_the_older_stays(older: dict[str, str], newer: dict[str, str]) -> None:
    one = pool("one", {"nodeSelector": {"pool": None, **older}}, age=9)
    other = pool("other", {"nodeSelector": {"pool": None, **newer}}, age=3)
    assert about_pools(other, one) == {"GPUPool other": reasons.NODES_SHARED}


def test_selectors_that_only_a_node_shows_to_overlap_name_that_node() -> None:
    one, other = (
        pool("one", {"nodeSelector": {"pool": "l4"}}),
        pool("other", {"nodeSelector": {"pool": None, "z": "1"}}),
    )
    assert about_pools(one, other) == {}
    both = node("n7")
    both["metadata"]["labels"]["z"] = "1"
    _, findings = admitted_pools(view_of(one, other, both))
    assert "GPUPool one" in findings["GPUPool other"].message and "node n7" in findings["GPUPool other"].message


def test_a_pool_that_is_refused_itself_takes_no_nodes_from_another() -> None:
    shared = {"nodeSelector": {"pool": "shared"}}
    draining = pool("old", shared, age=9, deletionTimestamp="2026-03-01T11:00:00Z")
    assert about_pools(draining, pool("new", shared, age=1)) == {"GPUPool old": reasons.DRAINING}
    three = [pool(name, shared, age=age) for name, age in (("a", 9), ("b", 8), ("c", 7))]
    assert about_pools(*three).keys() == {"GPUPool b", "GPUPool c"}


# Served names


def test_the_oldest_model_has_the_served_name() -> None:
    twins = model("new", {"servedName": "chat"}, age=1), model("old", {"servedName": "chat"}, age=9)
    models, findings = admitted_models(view_of(pool(), *twins))
    assert [one.metadata.name for one in models] == ["old"]
    assert findings["Model team/new"].reason == reasons.SERVED_NAME_TAKEN
    assert "team/old" in findings["Model team/new"].message


def test_who_has_which_served_name_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(models: Iterable[Model]) -> Mapping[str, Model]:
        asked.append(1)
        return owners(models)

    monkeypatch.setattr(admission, "owners", counted)
    assert about_models(pool(), *(model(f"m{number}") for number in range(20))) == {}
    assert len(asked) == 1


def test_a_models_own_name_is_a_served_name_in_every_namespace() -> None:
    found = about_models(pool(), model("chat", namespace="a", age=9), model("chat", namespace="b", age=1))
    assert found == {"Model b/chat": reasons.SERVED_NAME_TAKEN}


def test_twins_of_one_second_are_told_apart_by_name() -> None:
    found = about_models(pool(), model("a", {"servedName": "x"}), model("b", {"servedName": "x"}))
    assert found == {"Model team/b": reasons.SERVED_NAME_TAKEN}


def test_a_model_that_is_being_deleted_gives_its_served_name_up() -> None:
    leaving = model("old", {"servedName": "x"}, age=9, deletionTimestamp="2026-03-01T11:00:00Z")
    models, findings = admitted_models(view_of(pool(), leaving, model("new", {"servedName": "x"})))
    assert ([one.metadata.name for one in models], findings) == (["new"], {})


def test_a_refused_owner_keeps_its_served_name() -> None:
    """Otherwise a client's requests would go to another model as soon as its own is misspelt."""
    wrong = model("old", {"servedName": "x", "placement": {"pools": ["gone"]}}, age=9)
    found = about_models(pool(), wrong, model("new", {"servedName": "x"}, age=1))
    assert found == {"Model team/old": reasons.NO_POOL, "Model team/new": reasons.SERVED_NAME_TAKEN}


def test_everybody_else_is_left_alone_by_a_quarrel() -> None:
    view = view_of(pool(), model("a", {"servedName": "x"}, age=90), model("b", {"servedName": "x"}), model("c"))
    assert owners(view.models).keys() == {"x", "c"}
    assert [one.metadata.name for one in admitted_models(view)[0]] == ["a", "c"]


# Pools that a model may use


def test_without_any_pool_the_model_says_so() -> None:
    assert about_models(model()) == {"Model team/chat": reasons.NO_POOL}


def test_a_misspelt_pool_is_told_which_ones_there_are() -> None:
    _, findings = admitted_models(view_of(pool("l4"), pool("t4"), model("chat", {"placement": {"pools": ["l5"]}})))
    assert findings["Model team/chat"].message == "spec.placement.pools names l5; there are l4, t4"


def test_one_pool_that_exists_is_enough() -> None:
    assert about_models(pool("l4"), model("chat", {"placement": {"pools": ["gone", "l4"]}})) == {}


# Host paths


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/models/chat", True),
        ("/models", True),
        ("/models/", True),
        ("/models/./chat", True),
        ("/models/../etc", False),
        ("/models/chat/../../etc", False),
        ("/models/..", False),
        ("/models-evil/chat", False),
        ("/modelsx", False),
        ("/", False),
        ("/etc", False),
        ("//models/chat", False),
        ("models/chat", False),
        ("../models", False),
        ("/Models/chat", False),
    ],
)
def test_only_paths_inside_an_allowed_folder_may_be_mounted(path: str, allowed: bool) -> None:
    limits = a_fleet({"allowedHostPaths": ["/models", "/srv/weights"]})
    found = about_models(limits, pool(), model("chat", {"source": {"uri": f"file://{path}"}}))
    assert found == ({} if allowed else {"Model team/chat": reasons.HOST_PATH_NOT_ALLOWED})
    if path.startswith("/"):
        found = about_models(limits, pool(), model("chat", {"cache": {"hostPath": path}}))
        assert found == ({} if allowed else {"Model team/chat": reasons.HOST_PATH_NOT_ALLOWED})


def test_without_a_fleet_no_path_of_a_node_may_be_mounted() -> None:
    found = about_models(pool(), model("chat", {"source": {"uri": "file:///models/chat"}}))
    assert found == {"Model team/chat": reasons.HOST_PATH_NOT_ALLOWED}


def test_an_allowed_source_does_not_carry_a_forbidden_cache_along() -> None:
    both = {"source": {"uri": "file:///models/chat"}, "cache": {"hostPath": "/etc"}}
    _, findings = admitted_models(view_of(a_fleet({"allowedHostPaths": ["/models"]}), pool(), model("chat", both)))
    assert findings["Model team/chat"].message.startswith("/etc on the node")


@pytest.mark.parametrize("uri", ["hf://a/b", "s3://bucket/../../etc", "pvc://claim/../../etc"])
def test_other_sources_mount_nothing_of_the_node(uri: str) -> None:
    assert about_models(pool(), model("chat", {"source": {"uri": uri}})) == {}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "models", "etc", "", "a"]), max_size=6).map("/".join))
@example("models/a/../../models/../etc")
def test_no_path_leads_out_of_the_allowed_folder(path: str) -> None:

    view = view_of(
        a_fleet({"allowedHostPaths": ["/models"]}), pool(), model("chat", {"cache": {"hostPath": "/" + path}})
    )
    if not admitted_models(view)[1]:
        real = posixpath.normpath("/" + path)
        assert real == "/models" or real.startswith("/models/")


# Images and arguments


@pytest.mark.parametrize(
    ("image", "prefix", "allowed"),
    [
        ("reg.example.com/vllm", "reg.example.com/vllm", True),
        ("reg.example.com/vllm:v1", "reg.example.com/vllm", True),
        ("reg.example.com/vllm@sha256:00", "reg.example.com/vllm", True),
        ("reg.example.com/vllm/gpu:v1", "reg.example.com/vllm", True),
        ("reg.example.com/vllm/gpu:v1", "reg.example.com/", True),
        ("reg.example.com/vllm/gpu:v1", "reg.example.com", True),
        ("reg.example.com/vllm:v1", "reg.example.com/vllm:v1", True),
        ("reg.example.com/vllm:v1-evil", "reg.example.com/vllm:v1", False),
        ("reg.example.com/vllm:v10", "reg.example.com/vllm:v1", False),
        ("reg.example.com/vllm-evil", "reg.example.com/vllm", False),
        ("reg.example.com.evil.org/vllm", "reg.example.com", False),
        ("reg.example.com:4443/vllm", "reg.example.com", False),
        ("reg.example.com@evil.org/vllm", "reg.example.com", False),
        ("evil.org/reg.example.com/vllm", "reg.example.com/vllm", False),
        ("vllm", "reg.example.com/vllm", False),
        ("REG.example.com/vllm", "reg.example.com/vllm", False),
        ("reg:5000/vllm", "reg:5000/vllm", True),
        ("anything", "", False),
    ],
)
def test_images_are_allowed_by_whole_components_of_their_name(image: str, prefix: str, allowed: bool) -> None:
    found = about_models(a_fleet({"allowedImages": [prefix]}), pool(), model("chat", {"engine": {"image": image}}))
    assert found == ({} if allowed else {"Model team/chat": reasons.IMAGE_NOT_ALLOWED})


def test_an_empty_list_of_images_allows_only_the_operators_own() -> None:
    assert about_models(a_fleet({"allowedImages": []}), pool(), model()) == {}
    found = about_models(a_fleet({"allowedImages": []}), pool(), model("chat", {"engine": {"image": "a/b"}}))
    assert found == {"Model team/chat": reasons.IMAGE_NOT_ALLOWED}


def test_without_a_list_every_image_and_argument_is_allowed() -> None:
    assert about_models(a_fleet(), pool(), model("chat", {"engine": {"image": "a/b", "args": ["--x"]}})) == {}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ([], True),
        (["--seed", "7"], True),
        (["--seed=7"], True),
        (["--seed", "7", "--trust-remote-code"], False),
        (["--trust-remote-code"], False),
        (["--see=7"], False),
        (["--seedling"], False),
        (["-O3"], False),
        (["--Seed=7"], False),
        (["--trust_remote_code"], False),
        (["--seed=--trust-remote-code"], True),
    ],
)
def test_flags_are_allowed_by_their_whole_name(arguments: list[str], allowed: bool) -> None:
    found = about_models(
        a_fleet({"allowedArguments": ["--seed"]}), pool(), model("chat", {"engine": {"args": arguments}})
    )
    assert found == ({} if allowed else {"Model team/chat": reasons.ARGUMENT_NOT_ALLOWED})


# Shapes


def inspection(view: FleetView, message: str = "", source: str = SOURCE, **changes: Any) -> FleetView:
    job = InspectionView("team", "chat", source, True, False, message, "")
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
    assert about_models(a_fleet({"allowedImages": []}), pool(), forbidden) == {
        "Model team/chat": reasons.IMAGE_NOT_ALLOWED
    }


def test_findings_are_filed_under_kind_and_key() -> None:
    view = view_of(pool("l4"), model("chat"))
    assert (key_of(view.pools[0]), key_of(view.models[0])) == ("GPUPool l4", "Model team/chat")


@pytest.mark.parametrize(("name", "allowed"), [("VLLM_LOGGING_LEVEL", True), ("VLLM_X", False), ("LD_PRELOAD", False)])
def test_variables_that_change_the_engine_are_allowed_by_name_like_arguments(name: str, allowed: bool) -> None:
    spec = {"engine": {"env": [{"name": "HF_TOKEN", "value": "x"}, {"name": name, "value": "1"}]}}
    found = about_models(a_fleet({"allowedArguments": ["VLLM_LOGGING_LEVEL"]}), pool(), model("chat", spec))
    assert found == ({} if allowed else {"Model team/chat": reasons.ARGUMENT_NOT_ALLOWED})
