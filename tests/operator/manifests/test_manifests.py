"""What holds for every manifest: names that the API server takes, an owner, no rights, mounts that fit together."""

import re
from collections.abc import Iterator

import pytest
from fleets import CPU, Json, plan
from groups import group_of, job_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from motley_operator.manifests import deployment, inspection_job, model_objects, routing_table, service
from motley_operator.settings import Settings

LABEL_NAME = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
"""RFC 1035: what a Service may be called."""
SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")

_label = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(_label, min_size=1, max_size=4).map(".".join).filter(lambda name: len(name) <= 63)
"""Whatever the API server takes as an object's name and our rules leave room for."""


def every_object(name: str, on: str, degree: int = 1) -> Iterator[Json]:
    group = group_of(name=name, on=on, tensor_parallel=degree)
    yield from (deployment(group, 1), service(group), *model_objects(group.model, Settings()))
    yield routing_table(group.model, [group], [], plan(1))
    yield inspection_job(group.model, [], Settings())


# Names and labels


@settings(max_examples=150, deadline=None)
@given(NAMES, NAMES, st.sampled_from([1, 2, 4, 8]))
@example("a" * 63, "b" * 63, 8)
@example("1.2.3", "0", 1)
@example("a." * 31 + "a", "x", 1)
@example("a" * 49 + "-b", "0--0", 1)
def test_every_name_is_one_that_the_api_server_takes(name: str, on: str, degree: int) -> None:
    for made in every_object(name, on, degree):
        found, kind = made["metadata"]["name"], made["kind"]
        assert len(found) <= 253 and SUBDOMAIN.match(found), found
        if kind in ("Deployment", "Service"):
            assert LABEL_NAME.match(found), f"{kind} {found}"
        if kind == "Job":
            assert len(found) <= 63, "its pods carry it as a label"
        for key, value in made["metadata"]["labels"].items():
            assert LABEL_VALUE.match(value), f"{kind} {key}={value}"


def test_two_names_that_look_alike_when_shortened_stay_apart() -> None:
    long = "a" * 62
    names = {
        group_of(name=long + "x").name,
        group_of(name=long + "y").name,
        group_of(name="a.b").name,
        group_of(name="a-b").name,
        group_of(name="a", on="b-l4").name,
    }
    assert len(names) == 5
    assert job_of(name=long + "x")["metadata"]["name"] != job_of(name=long + "y")["metadata"]["name"]


def test_one_model_in_two_namespaces_makes_two_names() -> None:
    """Steps of a roll-out go by name."""
    assert group_of(namespace="a").name != group_of(namespace="b").name


def test_everything_belongs_to_its_model() -> None:
    for made in every_object("chat", "l4"):
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Model", "chat", "uid-Model-team-chat")
        assert owner["controller"] is True
        assert made["metadata"]["namespace"] == "team"
        assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "motley"


# Pods


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"source": {"uri": "file:///models/chat"}},
        {"cache": {"hostPath": "/models/cache"}},
        {"engine": {"image": "evil", "env": [{"name": "A", "value": "b"}]}},
    ],
)
@pytest.mark.parametrize("device", [{}, CPU])
def test_every_pod_is_locked_down(spec: Json, device: Json) -> None:
    for pod in (group_of(spec, pool_spec=device).template["spec"], job_of(spec)["spec"]["template"]["spec"]):
        assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & pod.keys()
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]} and "privileged" not in context


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"source": {"uri": "pvc://claim/path/in/it"}},
        {"source": {"uri": "file:///models/chat"}, "cache": {"persistentVolumeClaim": "c"}},
    ],
)
def test_every_mount_has_its_volume_and_no_path_is_taken_twice(spec: Json) -> None:
    with_settings = Settings(engine_host_paths=("/opt/engine", "/models/chat"))
    for pod in (group_of(spec, with_settings=with_settings).template["spec"], job_of(spec)["spec"]["template"]["spec"]):
        names = [one["name"] for one in pod["volumes"]]
        assert len(names) == len(set(names))
        for container in pod["containers"]:
            paths = [one["mountPath"] for one in container["volumeMounts"]]
            assert len(paths) == len(set(paths))
            assert {one["name"] for one in container["volumeMounts"]} == set(names)
            assert {"/tmp", "/dev/shm", "/cache", "/home/motley"} <= set(paths), "the root file system is read-only"
