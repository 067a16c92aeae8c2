"""Which changes make another group of replicas, and what an engine pod asks for."""

import json
from typing import Any

import pytest
from fleets import A100, CPU, allocation, merged, model, models_of, plan, pool, pools_of
from groups import engine, environment, group_of

from motley_operator.labels import COMPONENT, MODEL, POOL, TENSOR_PARALLEL
from motley_operator.manifests import groups_of
from motley_operator.settings import Settings

# Groups


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


def test_labels_tell_model_pool_and_degree() -> None:
    labels = group_of(name="chat", on="l4", tensor_parallel=2).labels
    assert (labels[MODEL], labels[POOL], labels[TENSOR_PARALLEL], labels[COMPONENT]) == ("chat", "l4", "2", "engine")


def test_the_largest_replicas_come_first() -> None:
    wanted = [allocation("team/chat", "l4", 1, tensor_parallel=degree) for degree in (1, 4, 2)]
    found = groups_of(plan(1, *wanted), models_of(model()), pools_of(pool()), Settings())
    assert [one.allocation.tensor_parallel for one in found] == [4, 2, 1]


def test_allocations_without_model_pool_or_replicas_make_no_group() -> None:
    wanted = [allocation("team/gone"), allocation(pool="gone"), allocation(replicas=0)]
    assert groups_of(plan(1, *wanted), models_of(model()), pools_of(pool()), Settings()) == ()


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
