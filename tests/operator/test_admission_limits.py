"""What a Model may ask of nodes and engines: folders, images, arguments and variables that the Fleet allows."""

import posixpath

import pytest
from fleets import about_models, fleet, model, pool, view_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from motley_operator import reasons
from motley_operator.admission import admitted_models

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
    limits = fleet({"allowedHostPaths": ["/models", "/srv/weights"]})
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
    _, findings = admitted_models(view_of(fleet({"allowedHostPaths": ["/models"]}), pool(), model("chat", both)))
    assert findings["Model team/chat"].message.startswith("/etc on the node")


@pytest.mark.parametrize("uri", ["hf://a/b", "s3://bucket/../../etc", "pvc://claim/../../etc"])
def test_other_sources_mount_nothing_of_the_node(uri: str) -> None:
    assert about_models(pool(), model("chat", {"source": {"uri": uri}})) == {}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "models", "etc", "", "a"]), max_size=6).map("/".join))
@example("models/a/../../models/../etc")
def test_no_path_leads_out_of_the_allowed_folder(path: str) -> None:

    view = view_of(fleet({"allowedHostPaths": ["/models"]}), pool(), model("chat", {"cache": {"hostPath": "/" + path}}))
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
    found = about_models(fleet({"allowedImages": [prefix]}), pool(), model("chat", {"engine": {"image": image}}))
    assert found == ({} if allowed else {"Model team/chat": reasons.IMAGE_NOT_ALLOWED})


def test_an_empty_list_of_images_allows_only_the_operators_own() -> None:
    assert about_models(fleet({"allowedImages": []}), pool(), model()) == {}
    found = about_models(fleet({"allowedImages": []}), pool(), model("chat", {"engine": {"image": "a/b"}}))
    assert found == {"Model team/chat": reasons.IMAGE_NOT_ALLOWED}


def test_without_a_list_every_image_and_argument_is_allowed() -> None:
    assert about_models(fleet(), pool(), model("chat", {"engine": {"image": "a/b", "args": ["--x"]}})) == {}


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
        fleet({"allowedArguments": ["--seed"]}), pool(), model("chat", {"engine": {"args": arguments}})
    )
    assert found == ({} if allowed else {"Model team/chat": reasons.ARGUMENT_NOT_ALLOWED})


@pytest.mark.parametrize(("name", "allowed"), [("VLLM_LOGGING_LEVEL", True), ("VLLM_X", False), ("LD_PRELOAD", False)])
def test_variables_that_change_the_engine_are_allowed_by_name_like_arguments(name: str, allowed: bool) -> None:
    spec = {"engine": {"env": [{"name": "HF_TOKEN", "value": "x"}, {"name": name, "value": "1"}]}}
    found = about_models(fleet({"allowedArguments": ["VLLM_LOGGING_LEVEL"]}), pool(), model("chat", spec))
    assert found == ({} if allowed else {"Model team/chat": reasons.ARGUMENT_NOT_ALLOWED})
