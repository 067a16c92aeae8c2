"""FleetView → Problem: loads, configurations, resources and speeds as the resources state them."""

from typing import Any

import fleets
import pytest
from fleets import A100, CPU, model, pool, profile, view_of

from motley_operator import reasons
from motley_operator.api.plan import PlannedAllocation
from motley_operator.formulation import (
    configuration_key,
    formulated,
    gpu_of,
    gpu_type,
    replica_resources,
    solver_slo,
    weight_dtype,
)
from motley_operator.manifests import deployment, groups_of
from motley_operator.settings import Settings
from motley_solver.problem import Configuration, ModelDemand, Running


def demand(*objects: dict[str, Any]) -> ModelDemand:
    (found,) = formulated(view_of(*objects)).problem.models
    return found


def configurations(*objects: dict[str, Any]) -> dict[str, Configuration]:
    return {one.key: one for one in demand(*objects).configurations}


def test_the_rate_is_split_by_weight() -> None:
    found = demand(pool(), model())
    assert {(load.bucket.input_tokens, load.rate) for load in found.buckets} == {(500, 3.0), (4000, 1.0)}


def test_a_model_says_its_limits_and_priority() -> None:
    found = demand(pool(), model("chat", {"scaling": {"minReplicas": 2, "maxReplicas": 5}, "priority": 7}))
    assert (found.name, found.min_replicas, found.max_replicas, found.priority) == ("team/chat", 2, 5, 7)
    assert found.attainment == 0.99


def test_the_fleet_gives_budget_and_headroom() -> None:
    problem = formulated(view_of(fleets.fleet({"budgetPerHour": "60", "headroom": "0.2"}), pool(), model())).problem
    assert (problem.budget_per_hour, problem.headroom) == (60.0, 0.2)
    assert formulated(view_of(pool(), model())).problem.budget_per_hour is None


def test_there_is_a_configuration_for_every_pool_and_degree_that_fits_a_node() -> None:
    every = {"placement": {"tensorParallel": []}}
    assert configurations(pool("l4"), pool("a100", A100), model("chat", every)).keys() == {
        "l4/tp1",
        "a100/tp1",
        "a100/tp2",
    }


def test_placement_limits_pools_and_degrees() -> None:
    chosen = {"placement": {"pools": ["a100"], "tensorParallel": [2]}}
    assert configurations(pool("l4"), pool("a100", A100), model("chat", chosen)).keys() == {"a100/tp2"}


def test_a_pool_with_max_zero_gives_no_configuration_and_is_still_known() -> None:
    formulation = formulated(view_of(pool("l4", {"maxNodes": 0}), pool("a100", A100), model()))
    assert [one.key for one in formulation.problem.models[0].configurations] == ["a100/tp1"]
    assert {one.name: one.max_nodes for one in formulation.problem.pools} == {"l4": 0, "a100": 4}


def test_a_draining_pool_has_no_part() -> None:
    formulation = formulated(view_of(pool("l4", deletionTimestamp="2026-03-01T11:00:00Z"), pool("a100", A100), model()))
    assert [one.name for one in formulation.problem.pools] == ["a100"]
    assert formulation.pools.keys() == {"a100"}
    assert formulation.findings.keys() == {"GPUPool l4"}


def test_a_refused_model_does_not_hide_the_others() -> None:
    formulation = formulated(view_of(pool(), model("bad", {"placement": {"pools": ["x"]}}), model("good")))
    assert [one.name for one in formulation.problem.models] == ["team/good"]
    assert formulation.models.keys() == {"team/good"} and formulation.findings.keys() == {"Model team/bad"}


def test_a_replica_asks_for_its_gpus_share_of_four_fifths_of_the_node() -> None:
    (chat,) = view_of(model()).models
    (a100,) = view_of(pool("a100", A100)).pools
    assert replica_resources(chat, a100, 1) == pytest.approx((0.8 * 48 / 2, 0.8 * 400 / 2))
    assert replica_resources(chat, a100, 2) == pytest.approx((0.8 * 48, 0.8 * 400))


def test_a_model_may_say_what_a_replica_asks_for() -> None:
    (chat,) = view_of(model("chat", {"resources": {"cpu": "1500m", "memory": "512Mi"}})).models
    (a100,) = view_of(pool("a100", A100)).pools
    assert replica_resources(chat, a100, 2) == (1.5, 0.5)


@pytest.mark.parametrize("node", [{"cpu": "7", "memory": "31Gi"}, {"cpu": "3.333", "memory": "999Mi", "gpus": 3}])
@pytest.mark.parametrize("asked", [{}, {"cpu": "1234m", "memory": "777.7Mi"}, {"cpu": "0.0001", "memory": "3"}])
def test_pods_request_what_the_planner_reckoned_with(node: dict[str, Any], asked: dict[str, Any]) -> None:
    """Were the pods larger, the scheduler could not place what was planned."""
    raw_pool, raw = pool("l4", {"node": node}), model("chat", {"resources": asked})
    configuration = configurations(raw_pool, raw)["l4/tp1"]
    allocation: PlannedAllocation = fleets.allocation()
    (group,) = groups_of(fleets.plan(1, allocation), fleets.models_of(raw), fleets.pools_of(raw_pool), Settings())
    requests = deployment(group, 1)["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert float(requests["cpu"].removesuffix("m")) / 1000 <= configuration.cpus + 0.0005
    assert float(requests["memory"].removesuffix("Mi")) / 1024 <= configuration.memory_gib + 1e-9


def test_a_pool_of_cpus_has_no_gpus_and_one_degree() -> None:
    found = formulated(view_of(pool("cpu", CPU), model("chat", {"placement": {"tensorParallel": []}})))
    (pool_,), (configuration,) = found.problem.pools, found.problem.models[0].configurations
    assert (pool_.gpus_per_node, configuration.gpus, configuration.tensor_parallel) == (0, 0, 1)
    assert (configuration.cpus, configuration.memory_gib) == (1.0, 4.0)


def test_an_inline_sheet_goes_before_the_catalogue() -> None:
    sheet = {"memory": "10Gi", "bandwidthGBs": "100", "bf16TFLOPS": "50", "linkGBs": "64"}
    (own,), (plain,) = (view_of(pool("l4", {"sheet": sheet})).pools, view_of(pool("l4")).pools)
    assert (gpu_of(own).memory_gib, gpu_of(own).bandwidth_gb_s, gpu_of(own).link_gb_s) == (10, 100, 64)
    assert gpu_of(plain).memory_gib == 24


def test_the_slo_is_in_seconds() -> None:
    (chat,) = view_of(model("chat", {"slo": {"ttft": "2s", "ttftPerThousandInputTokens": "250ms"}})).models
    slo = solver_slo(chat.spec.slo)
    assert (slo.ttft_seconds(0), slo.ttft_seconds(4000), slo.tpot_seconds) == pytest.approx((2, 3, 0.1))


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        ({}, "bfloat16"),
        ({"dtype": "float16"}, "float16"),
        ({"quantization": "fp8"}, "fp8"),
        ({"quantization": "awq"}, "int4"),
    ],
)
def test_weights_are_stored_as_quantised(spec: dict[str, Any], dtype: str) -> None:
    assert weight_dtype(view_of(model("chat", spec)).models[0]) == dtype


# Numbers that cannot be right together

MORE_DENSE_LAYERS_THAN_LAYERS = {"shape": {**dict.fromkeys(fleets.SHAPE, 1), "denseLayers": 1000, "experts": 10_000}}


def test_one_models_impossible_shape_does_not_keep_the_others_from_being_planned() -> None:
    formulation = formulated(view_of(pool(), model("odd", MORE_DENSE_LAYERS_THAN_LAYERS), model("chat")))
    assert [one.name for one in formulation.problem.models] == ["team/chat"]
    assert formulation.models.keys() == {"team/chat"}
    finding = formulation.findings["Model team/odd"]
    assert finding.reason == reasons.IMPOSSIBLE_NUMBERS and "spec.shape" in finding.message


def test_a_profile_beyond_all_measure_stops_only_the_models_of_its_shape() -> None:
    endless = {"throughput": [], "coefficients": {"base": 1e300, "perPrefillToken": 1e300}}
    other = {"shape": {"layers": 33}}
    formulation = formulated(view_of(pool(), model("odd"), model("chat", other), profile("p", endless)))
    assert "team/chat" in formulation.models
    served = {
        one.name: max(c.rate for k in one.configurations for c in k.capacities) for one in formulation.problem.models
    }
    assert served["team/chat"] > 0 and not served.get("team/odd")


# Profiles


def rate(*profiles: dict[str, Any], spec: dict[str, Any] | None = None) -> Configuration:
    return configurations(pool(), model("chat", spec or {}), *profiles)["l4/tp1"]


def throughput(requests: str) -> list[dict[str, Any]]:
    return [
        {"inputTokens": 500, "outputTokens": 200, "requestsPerSecond": requests},
        {"inputTokens": 4000, "outputTokens": 200, "requestsPerSecond": requests},
    ]


def rates(configuration: Configuration) -> set[float]:
    return {capacity.rate for capacity in configuration.capacities}


def test_a_profile_says_what_a_replica_serves() -> None:
    found = rate(profile("p", {"throughput": throughput("3")}))
    assert rates(found) == {3.0} and not found.estimated and found.error == 0.1


def test_without_a_profile_a_roofline_is_estimated() -> None:
    found = rate()
    assert found.estimated and found.error > 0 and max(rates(found)) > 0


def test_a_measurement_goes_before_an_import_and_the_newest_before_older_ones() -> None:
    imported = profile("c", {"source": "Imported", "date": "2026-02-01", "throughput": throughput("1")})
    older = profile("b", {"source": "Measured", "date": "2025-01-01", "throughput": throughput("2")})
    newer = profile("a", {"source": "Measured", "date": "2025-06-01", "throughput": throughput("3")})
    assert rates(rate(imported, newer, older)) == {3.0}
    assert rates(rate(imported, older)) == {2.0}
    assert rates(rate(imported)) == {1.0}


@pytest.mark.parametrize(
    "other",
    [
        {"gpu": "A100"},
        {"tensorParallel": 2},
        {"dtype": "fp8"},
        {"kvDtype": "fp8"},
        {"shape": {"layers": 33}},
    ],
)
def test_a_profile_of_something_else_is_not_used(other: dict[str, Any]) -> None:
    assert rate(profile("p", other)).estimated


def test_the_context_limit_of_a_model_does_not_make_it_another_shape() -> None:
    assert not rate(profile("p", {"shape": {"maxModelLen": 131072}})).estimated


def test_a_profile_with_coefficients_is_no_estimate() -> None:
    coefficients = {"throughput": [], "coefficients": {"base": 0.02, "perPrefillToken": 0.0001}}
    found = rate(profile("p", coefficients))
    assert not found.estimated and max(rates(found)) > 0


def test_weights_that_do_not_fit_say_so_even_with_a_profile() -> None:
    huge = {"shape": {"layers": 500}}
    found = rate(profile("p", huge), spec=huge)
    assert rates(found) == {0.0}
    assert {c.shortfall.kind for c in found.capacities if c.shortfall} == {"memory"}


# What runs

OWNER = {"apiVersion": "motley.dev/v1alpha1", "kind": "Model", "name": "chat", "uid": "u", "controller": True}


def running(*deployments: tuple[str, str, str, int]) -> tuple[Running, ...]:
    raw = [
        {
            "kind": "Deployment",
            "metadata": {
                "name": f"{name}-{number}",
                "namespace": "team",
                "ownerReferences": [OWNER],
                "labels": {
                    "motley.dev/model": name,
                    "motley.dev/pool": on,
                    "motley.dev/tensor-parallel": degree,
                    "motley.dev/configuration": str(number),
                },
            },
            "spec": {"replicas": replicas},
        }
        for number, (name, on, degree, replicas) in enumerate(deployments)
    ]
    return formulated(view_of(pool(), model(), *raw)).problem.running


def test_what_runs_is_counted_by_configuration_whatever_its_template() -> None:
    found = running(("chat", "l4", "1", 2), ("chat", "l4", "1", 1), ("chat", "a100", "2", 1), ("chat", "l4", "1", 0))
    assert found == (
        Running("team/chat", "a100", configuration_key("a100", 2), 1),
        Running("team/chat", "l4", configuration_key("l4", 1), 3),
    )


def test_what_runs_for_a_model_that_is_gone_does_not_count() -> None:
    assert running(("talk", "l4", "1", 2)) == ()


def test_the_order_in_which_objects_are_listed_changes_nothing() -> None:
    objects = [pool("l4"), pool("a100", A100), model("a"), model("b"), profile()]
    assert formulated(view_of(*objects)).problem == formulated(view_of(*reversed(objects))).problem


def test_what_did_not_change_is_not_worked_out_again() -> None:
    first = demand(pool(), model(), profile())
    assert demand(pool(), model(), profile()) is first
    others = [
        demand(pool("l4", {"node": {"memory": "24Gi"}}), model(), profile()),
        demand(pool(), model("chat", {"traffic": {"rate": "9"}}), profile()),
        demand(pool(), model(), profile("chat-l4", {"error": "0.2"})),
    ]
    assert all(other != first and other.fingerprint != first.fingerprint for other in others)


def test_a_profile_of_a_gpu_by_its_alias_is_found_for_the_pool_that_names_it_in_full() -> None:
    assert gpu_type("A100") == gpu_type("a100-80gb") == "A100-80GB"
    assert gpu_type("Own") == "Own"
