"""What a Model may mount and set, and what it may not bend."""

import json

import pytest
from groups import engine, environment, group_of, job_of
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_operator.settings import Settings

# Mounts


def test_nothing_of_the_node_is_mounted_writably_but_an_allowed_cache() -> None:
    spec = {"source": {"uri": "file:///models/chat"}, "cache": {"hostPath": "/models/cache"}}
    pod = group_of(spec, with_settings=Settings(engine_host_paths=("/opt/engine",))).template["spec"]
    hosts = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one}
    mounts = {
        one["name"]: one
        for one in engine(group_of(spec, with_settings=Settings(engine_host_paths=("/opt/engine",))))["volumeMounts"]
    }
    assert hosts == {"cache": "/models/cache", "host-0": "/opt/engine", "host-1": "/models/chat"}
    assert [name for name in hosts if not mounts[name].get("readOnly")] == ["cache"]


def test_a_claim_is_mounted_read_only_as_a_whole() -> None:
    pod = group_of({"source": {"uri": "pvc://claim/path/in/it"}}).template["spec"]
    (claim,) = [one for one in pod["volumes"] if one["name"] == "weights"]
    assert claim["persistentVolumeClaim"] == {"claimName": "claim", "readOnly": True}


# Environment


@pytest.mark.parametrize("name", ["MOTLEY_WORKER_CONFIG", "HOME", "USER"])
def test_a_model_cannot_set_what_the_operator_sets(name: str) -> None:
    for entry in ({"name": name, "value": "mine"}, {"name": name, "secretKey": {"name": "s", "key": "k"}}):
        spec = {"engine": {"env": [entry]}}
        (job,) = job_of(spec)["spec"]["template"]["spec"]["containers"]
        for container in (engine(group_of(spec)), job):
            found = environment(container)[name]
            assert found == environment(engine(group_of()))[name] or name == "MOTLEY_WORKER_CONFIG"
            assert found["value"] != "mine" and "valueFrom" not in found


def test_a_model_may_change_the_operators_defaults() -> None:
    defaults = Settings(engine_env={"HF_ENDPOINT": "http://mirror", "LEVEL": "info"})
    spec = {"engine": {"env": [{"name": "LEVEL", "value": "debug"}, {"name": "LEVEL", "value": "trace"}]}}
    found = environment(engine(group_of(spec, with_settings=defaults)))
    assert (found["HF_ENDPOINT"]["value"], found["LEVEL"]["value"]) == ("http://mirror", "trace")
    secret = {"engine": {"env": [{"name": "LEVEL", "secretKey": {"name": "s", "key": "k"}}]}}
    found = environment(engine(group_of(secret, with_settings=defaults)))
    assert found["LEVEL"] == {"name": "LEVEL", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}


def test_secrets_of_the_source_come_as_variables() -> None:
    assert engine(group_of({"source": {"secretName": "hub"}}))["envFrom"] == [{"secretRef": {"name": "hub"}}]
    assert engine(group_of())["envFrom"] == []


@pytest.mark.parametrize("argument", ["$(SMUGGLED)", "$$(SMUGGLED)", "a$(SMUGGLED)b", "$"])
def test_no_argument_is_filled_in_by_the_kubelet(argument: str) -> None:
    """`$(NAME)` in a value stands for another variable: arguments would come in past every rule about them."""
    spec = {"engine": {"args": [argument], "env": [{"name": "SMUGGLED", "value": '", "--trust-remote-code'}]}}
    text = environment(engine(group_of(spec)))["MOTLEY_WORKER_CONFIG"]["value"]
    assert "$" not in text
    assert json.loads(text)["extraArgs"] == [argument]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_any_argument_arrives_as_it_was_written(argument: str) -> None:
    text = environment(engine(group_of({"engine": {"args": [argument]}})))["MOTLEY_WORKER_CONFIG"]["value"]
    assert json.loads(text)["extraArgs"] == [argument]
