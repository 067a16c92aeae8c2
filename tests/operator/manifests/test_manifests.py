"""What holds for every manifest: names that the API server takes, security, nothing that a Model may bend."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fleets import A100, CPU, Json, allocation, merged, model, models_of, plan, pool, pools_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from motley_operator.api.plan import PlannedAssignment, PlannedBucket, Share
from motley_operator.labels import COMPONENT, CONFIGURATION, MODEL, POOL, TENSOR_PARALLEL
from motley_operator.manifests import (
    Group,
    deployment,
    groups_of,
    inspection_job,
    model_objects,
    routing_table,
    service,
)
from motley_operator.settings import Settings

LABEL_NAME = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
"""RFC 1035: what a Service may be called."""
SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")

_label = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(_label, min_size=1, max_size=4).map(".".join).filter(lambda name: len(name) <= 63)
"""Whatever the API server takes as an object's name and our rules leave room for."""


def group_of(
    spec: Json | None = None,
    name: str = "chat",
    on: str = "l4",
    pool_spec: Json | None = None,
    with_settings: Settings | None = None,
    namespace: str = "team",
    **changes: Any,
) -> Group:
    raw, raw_pool = model(name, spec or {}, namespace=namespace), pool(on, pool_spec or {})
    made = plan(1, allocation(f"{namespace}/{name}", on, **changes))
    (found,) = groups_of(made, models_of(raw), pools_of(raw_pool), with_settings or Settings())
    return found


def engine(group: Group) -> Json:
    (container,) = group.template["spec"]["containers"]
    found: Json = container
    return found


def job_of(spec: Json | None = None, *pools: Json, name: str = "chat", with_settings: Settings | None = None) -> Json:
    (found,) = models_of(model(name, spec or {})).values()
    return inspection_job(found, list(pools_of(*pools).values()), with_settings or Settings())


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
        group_of(name="a-b").name + "",
    }
    assert len(names) == 5
    assert job_of(name=long + "x")["metadata"]["name"] != job_of(name=long + "y")["metadata"]["name"]


def test_one_model_in_two_namespaces_makes_two_names() -> None:
    """Steps of a roll-out go by name."""
    assert group_of(namespace="a").name != group_of(namespace="b").name


@pytest.mark.parametrize(
    "changed",
    [
        {"spec": {"engine": {"args": ["--seed=1"]}}},
        {"spec": {"engine": {"env": [{"name": "A", "value": "1"}]}}},
        {"spec": {"servedName": "other"}},
        {"spec": {"source": {"revision": "v2"}}},
        {"pool_spec": {"nodeSelector": {"zone": "b"}}},
        {"with_settings": Settings(engine_image="other")},
        {"tensor_parallel": 2},
    ],
)
def test_another_pod_template_is_another_group(changed: dict[str, Any]) -> None:
    assert group_of(**changed).fingerprint != group_of().fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        {"replicas": 7},
        {"spec": {"traffic": {"rate": "9"}, "slo": {"ttft": "9s"}, "priority": 3, "scaling": {"maxReplicas": 9}}},
        {"pool_spec": {"pricePerNodeHour": "9", "maxNodes": 99}},
        {"estimated": True},
    ],
)
def test_what_does_not_touch_the_pods_starts_no_new_ones(changed: dict[str, Any]) -> None:
    assert group_of(**changed).name == group_of().name


def test_the_deployment_selects_its_own_pods_and_no_others() -> None:
    group = group_of()
    made = deployment(group, 3)
    labels, selector = made["spec"]["template"]["metadata"]["labels"], made["spec"]["selector"]["matchLabels"]
    assert selector.items() <= labels.items() and selector[CONFIGURATION] == group.fingerprint
    assert service(group)["spec"]["selector"] == selector
    assert made["spec"]["replicas"] == 3
    other = group_of({"engine": {"args": ["--x"]}})
    assert not selector.items() <= deployment(other, 1)["spec"]["template"]["metadata"]["labels"].items()


def test_labels_tell_model_pool_and_degree() -> None:
    labels = group_of(name="chat", on="l4", tensor_parallel=2).labels
    assert (labels[MODEL], labels[POOL], labels[TENSOR_PARALLEL], labels[COMPONENT]) == ("chat", "l4", "2", "engine")


def test_everything_belongs_to_its_model() -> None:
    for made in every_object("chat", "l4"):
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Model", "chat", "uid-Model-team-chat")
        assert owner["controller"] is True
        assert made["metadata"]["namespace"] == "team"
        assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "motley"


# Groups


def test_the_largest_replicas_come_first() -> None:
    wanted = [allocation("team/chat", "l4", 1, tensor_parallel=degree) for degree in (1, 4, 2)]
    found = groups_of(plan(1, *wanted), models_of(model()), pools_of(pool()), Settings())
    assert [one.allocation.tensor_parallel for one in found] == [4, 2, 1]


def test_allocations_without_model_pool_or_replicas_make_no_group() -> None:
    wanted = [allocation("team/gone"), allocation(pool="gone"), allocation(replicas=0)]
    assert groups_of(plan(1, *wanted), models_of(model()), pools_of(pool()), Settings()) == ()


# Security


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


def test_a_claim_is_mounted_read_only_as_a_whole() -> None:
    pod = group_of({"source": {"uri": "pvc://claim/path/in/it"}}).template["spec"]
    (claim,) = [one for one in pod["volumes"] if one["name"] == "weights"]
    assert claim["persistentVolumeClaim"] == {"claimName": "claim", "readOnly": True}


# Environment


def environment(container: Json) -> dict[str, Json]:
    names = [one["name"] for one in container["env"]]
    assert len(names) == len(set(names)), "of two variables of one name the last wins, silently"
    return {one["name"]: one for one in container["env"]}


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


# Pods


def test_a_gpu_replica_asks_for_its_gpus_by_the_pools_resource() -> None:
    found = engine(group_of(on="a", pool_spec=merged(A100, {"resourceName": "amd.com/gpu"}), tensor_parallel=2))
    assert found["resources"]["limits"] == {"amd.com/gpu": "2"}
    assert found["resources"]["requests"]["amd.com/gpu"] == "2"


def test_a_cpu_replica_asks_for_no_gpu_and_has_no_limit() -> None:
    assert engine(group_of(on="cpu", pool_spec=CPU))["resources"] == {"requests": {"cpu": "1000m", "memory": "4096Mi"}}


def test_pods_go_where_their_pool_is_and_tolerate_its_taints() -> None:
    pod = group_of(on="a100", pool_spec=A100).template["spec"]
    assert pod["nodeSelector"] == {"pool": "a100"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_small_groups_pack_so_that_they_do_not_strand_large_ones() -> None:
    affinity = group_of().template["spec"]["affinity"]["podAffinity"]
    (term,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["labelSelector"] == {"matchLabels": {POOL: "l4"}}
    assert term["podAffinityTerm"]["namespaceSelector"] == {}, "in all namespaces"


def test_a_pod_is_killed_only_after_it_may_have_drained() -> None:
    group = group_of(with_settings=Settings(drain_seconds=77))
    config = json.loads(environment(engine(group))["MOTLEY_WORKER_CONFIG"]["value"])
    assert (config["drainSeconds"], group.template["spec"]["terminationGracePeriodSeconds"]) == (77, 107)


def test_probes_ask_the_launcher_and_leave_time_to_start() -> None:
    found = engine(group_of())
    paths = {name: found[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/startup", "readinessProbe": "/ready", "livenessProbe": "/live"}
    assert found["startupProbe"]["periodSeconds"] * found["startupProbe"]["failureThreshold"] == 3600


def test_the_models_own_image_is_used_where_it_names_one() -> None:
    assert engine(group_of({"engine": {"image": "mine:1"}}))["image"] == "mine:1"
    assert engine(group_of(with_settings=Settings(engine_image="default:1")))["image"] == "default:1"


# Inspection


def test_an_inspection_runs_on_any_node_that_the_model_may_use() -> None:
    pod = job_of({}, pool("l4"), pool("a100", A100))["spec"]["template"]["spec"]
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    terms = [term["matchExpressions"] for term in required["nodeSelectorTerms"]]
    assert terms == [
        [{"key": "pool", "operator": "In", "values": ["l4"]}],
        [{"key": "pool", "operator": "In", "values": ["a100"]}],
    ]
    assert {one["key"] for one in pod["tolerations"]} == {"nvidia.com/gpu"}
    assert pod["restartPolicy"] == "Never"


def test_an_inspection_asks_for_no_gpu() -> None:
    (container,) = job_of({}, pool("l4"))["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("spec", [{"source": {"uri": "hf://other/one"}}, {"source": {"secretName": "s"}}])
def test_another_source_is_another_job(spec: Json) -> None:
    assert job_of(spec)["metadata"]["name"] != job_of()["metadata"]["name"]


def test_the_job_says_what_it_reads() -> None:
    job = job_of({"source": {"revision": "v2"}})
    assert job["metadata"]["annotations"] == {"motley.dev/source": "hf://example/chat-8b@v2"}


# Routing


def table(shares: list[tuple[str, float]], *groups: Group, leaving: tuple[str, ...] = ()) -> Json:
    bucket = PlannedBucket(
        input_tokens=500,
        output_tokens=200,
        rate=1,
        shares=tuple(Share(pool=name, tensor_parallel=1, share=share) for name, share in shares),
    )
    made = plan(1, assignment=(PlannedAssignment(model="team/chat", buckets=(bucket,)),))
    (chat,) = models_of(model()).values()
    found: Json = routing_table(chat, groups, leaving, made)["spec"]
    return found


L4, T4 = group_of(on="l4", replicas=3), group_of(on="t4", replicas=1)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([("l4", 0.25), ("t4", 0.75)], [0.25, 0.75]),
        ([("l4", 0.2), ("t4", 0.2)], [0.5, 0.5]),  # the rest is left out by the plan, and tried all the same
        ([("t4", 1.0)], [0.0, 1.0]),
        ([], [0.75, 0.25]),  # nothing is planned for it: by replicas
        ([("gone", 1.0)], [0.75, 0.25]),
        ([("gone", 0.5), ("t4", 0.5)], [0.0, 1.0]),
    ],
)
def test_shares_follow_the_plan_and_sum_to_one(shares: list[tuple[str, float]], expected: list[float]) -> None:
    (size,) = table(shares, L4, T4)["sizes"]
    assert size["shares"] == pytest.approx(expected)


def test_sizes_that_the_router_cannot_tell_apart_share_their_replicas_as_planned() -> None:
    """Of 1000 tokens in, one in four has a long output and is planned for t4: nobody knows which when it arrives."""
    planned = {100: ("l4", 3.0), 800: ("t4", 1.0)}
    buckets = tuple(
        PlannedBucket(
            input_tokens=1000, output_tokens=out, rate=rate, shares=(Share(pool=on, tensor_parallel=1, share=1.0),)
        )
        for out, (on, rate) in planned.items()
    )
    made = plan(1, assignment=(PlannedAssignment(model="team/chat", buckets=buckets),))
    (chat,) = models_of(model()).values()
    sizes = routing_table(chat, (L4, T4), (), made)["spec"]["sizes"]
    assert [size["shares"] for size in sizes] == [[0.75, 0.25], [0.75, 0.25]]


def test_leaving_groups_stay_listed_without_a_share() -> None:
    spec = table([("l4", 1.0)], L4, leaving=("old-1", "old-2"))
    assert [one["service"] for one in spec["backends"]] == [L4.name, "old-1", "old-2"]
    assert spec["sizes"][0]["shares"] == [1.0, 0.0, 0.0]


def test_a_model_with_nothing_running_still_has_its_table() -> None:
    """So that its name is known, and the answer is 503 and not 404."""
    spec = table([("l4", 1.0)])
    assert (spec["servedName"], spec["backends"], spec["sizes"]) == ("chat", [], [])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=2))
def test_shares_sum_to_one_whatever_the_plan_left_out(shares: list[float]) -> None:
    (size,) = table([("l4", shares[0]), ("t4", shares[1])], L4, T4)["sizes"]
    assert sum(size["shares"]) == pytest.approx(1, abs=1e-5) and min(size["shares"]) >= 0


# Policies


def test_engines_admit_the_router_and_nobody_else() -> None:
    (chat,) = models_of(model()).values()
    policy, budget = model_objects(chat, Settings(namespace="serving", router_labels={"app": "router"}))
    (rule,) = policy["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "serving"}
    assert peer["podSelector"]["matchLabels"] == {"app": "router"}
    assert [port["port"] for port in rule["ports"]] == [8000]
    labels = group_of().template["metadata"]["labels"]
    for selector in (policy["spec"]["podSelector"]["matchLabels"], budget["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels.items(), "it selects the engines"
        assert not selector.items() <= job_of()["spec"]["template"]["metadata"]["labels"].items()


def test_scraping_is_let_in_where_it_is_asked_for() -> None:
    (chat,) = models_of(model()).values()
    policy, _ = model_objects(chat, Settings(scrape_namespaces=("monitoring",)))
    _, rule = policy["spec"]["ingress"]
    assert rule["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
