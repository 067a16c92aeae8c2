"""What a Model asks for: load, SLO, limits, and the configurations that may serve it."""

from typing import Any

import fleets
import pytest
from fleets import A100, CPU, RACK, declared, model, pool, profile, view_of

from motley_operator import declarations
from motley_operator.api.plan import PlannedAllocation
from motley_operator.declarations import Candidate, demands_of, replica_resources, solver_slo
from motley_operator.manifests import deployment, groups_of
from motley_operator.settings import Settings
from motley_solver.capacity import Engine
from motley_solver.problem import Shortfall


def candidates(*objects: dict[str, Any], disaggregated: bool = False) -> dict[str, Candidate]:
    return {one.key: one for one in declared(*objects, disaggregated=disaggregated).candidates}


def test_the_slo_is_in_seconds() -> None:
    (chat,) = view_of(model("chat", {"slo": {"ttft": "2s", "ttftPerThousandInputTokens": "250ms"}})).models
    slo = solver_slo(chat.spec.slo)
    assert (slo.ttft_seconds(0), slo.ttft_seconds(4000), slo.tpot_seconds) == pytest.approx((2, 3, 0.1))


def test_the_rate_is_split_by_weight() -> None:
    found = declared(pool(), model())
    assert {(load.bucket.input_tokens, load.rate) for load in found.loads} == {(500, 3.0), (4000, 1.0)}


def test_a_model_says_its_limits_and_priority() -> None:
    scaling = {"minReplicas": 2, "maxReplicas": 5, "survivability": "0.5"}
    found = declared(pool(), model("chat", {"scaling": scaling, "priority": 7}), profile())
    assert (found.name, found.min_replicas, found.max_replicas, found.priority) == ("team/chat", 2, 5, 7)
    (demand,) = demands_of((found,))
    assert (demand.name, demand.min_replicas, demand.max_replicas, demand.priority) == ("team/chat", 2, 5, 7)
    assert (demand.attainment, demand.survivability) == (0.99, 0.5)


def test_a_model_says_how_its_requests_come_and_what_is_cached_of_them() -> None:
    found = declared(pool(), model("chat", {"traffic": {"prefixReuse": "0.4", "burstiness": "2.5"}}))
    assert (found.prefix_reuse, found.arrival_cv) == (0.4, 2.5)
    plain = declared(pool(), model())
    assert (plain.prefix_reuse, plain.arrival_cv) == (0.0, 1.0)


def test_there_is_a_configuration_for_every_pool_and_degree_that_fits_a_node() -> None:
    every = {"placement": {"tensorParallel": []}}
    assert candidates(pool("l4"), pool("a100", A100), model("chat", every)).keys() == {
        "l4/tp1",
        "a100/tp1",
        "a100/tp2",
    }


def test_placement_limits_pools_and_degrees() -> None:
    chosen = {"placement": {"pools": ["a100"], "tensorParallel": [2]}}
    assert candidates(pool("l4"), pool("a100", A100), model("chat", chosen)).keys() == {"a100/tp2"}


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
    configuration = candidates(raw_pool, raw)["l4/tp1"]
    allocation: PlannedAllocation = fleets.allocation()
    (group,) = groups_of(fleets.plan(1, allocation), fleets.models_of(raw), fleets.pools_of(raw_pool), Settings())
    requests = deployment(group, 1)["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert float(requests["cpu"].removesuffix("m")) / 1000 <= configuration.cpus + 0.0005
    assert float(requests["memory"].removesuffix("Mi")) / 1024 <= configuration.memory_gib + 1e-9


def test_a_pool_of_cpus_has_no_gpus_and_one_degree() -> None:
    (found,) = declared(pool("cpu", CPU), model("chat", {"placement": {"tensorParallel": []}})).candidates
    assert (found.gpus, found.tensor_parallel, found.cpus, found.memory_gib) == (0, 1, 1.0, 4.0)


def test_what_did_not_change_is_not_worked_out_again() -> None:
    first = declared(pool(), model(), profile())
    assert declared(pool(), model(), profile()) is first
    others = [
        declared(pool("l4", {"node": {"memory": "24Gi"}}), model(), profile()),
        declared(pool(), model("chat", {"traffic": {"rate": "9"}}), profile()),
        declared(pool(), model(), profile("chat-l4", {"error": "0.2"})),
        declared(pool("l4", RACK), model(), disaggregated=True),
    ]
    assert all(other != first and other.fingerprint != first.fingerprint for other in others)


def test_of_equal_declarations_nothing_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = declarations.configuration_of

    def counted(**given: Any) -> Any:
        asked.append(given["key"])
        return original(**given)

    monkeypatch.setattr(declarations, "configuration_of", counted)
    objects = pool(), model("asked-once", {"traffic": {"rate": "0.777"}}), profile()
    first = demands_of((declared(*objects),))
    assert asked == ["l4/tp1"]
    assert demands_of((declared(*objects),)) is first and asked == ["l4/tp1"]


# Prefill and decode on engines of their own


def roles(*objects: dict[str, Any], disaggregated: bool = True) -> list[tuple[str, str]]:
    return [(key, one.role) for key, one in candidates(*objects, disaggregated=disaggregated).items()]


def modes(*wanted: str) -> dict[str, Any]:
    return model("chat", {"placement": {"modes": list(wanted)}})


def test_where_a_fabric_joins_engines_prefill_and_decode_may_part() -> None:
    assert roles(pool("l4", RACK), pool("a10g", {"gpu": "A10G"}), model()) == [
        ("a10g/tp1", "aggregated"),
        ("l4/tp1", "aggregated"),
        ("l4/tp1/prefill", "prefill"),
        ("l4/tp1/decode", "decode"),
    ]


def test_nothing_parts_unless_it_is_asked_for() -> None:
    assert roles(pool("l4", RACK), model(), disaggregated=False) == [("l4/tp1", "aggregated")]


def test_a_model_may_keep_to_one_mode() -> None:
    assert roles(pool("l4", RACK), modes("Aggregated")) == [("l4/tp1", "aggregated")]
    assert roles(pool("l4", RACK), modes("Disaggregated")) == [
        ("l4/tp1/prefill", "prefill"),
        ("l4/tp1/decode", "decode"),
    ]


def test_a_throughput_table_says_nothing_of_prefill_or_decode_alone() -> None:
    found = candidates(pool("l4", RACK), model(), profile(), disaggregated=True)
    assert found["l4/tp1/prefill"].speed == found["l4/tp1/decode"].speed == Shortfall("profile")
    given = {"throughput": [], "coefficients": {"base": 0.02, "perPrefillToken": 0.0001}}
    found = candidates(pool("l4", RACK), model(), profile("p", given), disaggregated=True)
    assert isinstance(found["l4/tp1/decode"].speed, Engine)
    assert found["l4/tp1/decode"].speed == found["l4/tp1"].speed


def test_a_token_takes_its_kv_bytes_over_the_slowest_bandwidth_of_the_fabric() -> None:
    slow = {"gpu": "A10G", "fabric": {"name": "rack", "bandwidthGBs": "12.5"}}
    other = {"gpu": "A10G", "fabric": {"name": "row", "bandwidthGBs": "1"}}
    found = candidates(pool("l4", RACK), pool("slow", slow), pool("other", other), model(), disaggregated=True)
    kv_bytes = 2 * 32 * 8 * 128 * 2
    assert found["l4/tp1/prefill"].transfer_seconds_per_token == pytest.approx(kv_bytes / 12.5e9)
    assert found["slow/tp1/decode"].transfer_seconds_per_token == pytest.approx(kv_bytes / 12.5e9)
    assert found["other/tp1/decode"].transfer_seconds_per_token == pytest.approx(kv_bytes / 1e9)
    assert found["l4/tp1"].transfer_seconds_per_token == 0


def test_a_kv_class_names_what_must_be_equal_for_a_cache_to_be_read() -> None:
    latent = {"shape": {"kvLoraRank": 512, "qkRopeHeadDim": 64}, "kvDtype": "fp8"}
    for spec, expected in ({}, "bfloat16 32x8x128 block 16"), (latent, "fp8 32x576 block 16"):
        found = candidates(pool("a100", A100, RACK), model("chat", spec), disaggregated=True)
        assert {one.kv_class for one in found.values() if one.role != "aggregated"} == {expected}


def test_a_configuration_has_the_role_and_the_kv_class_of_its_candidate() -> None:
    (demand,) = demands_of((declared(pool("l4", RACK), model(), disaggregated=True),))
    assert [(one.key, one.role, one.kv_class) for one in demand.configurations] == [
        ("l4/tp1", "aggregated", ""),
        ("l4/tp1/prefill", "prefill", "bfloat16 32x8x128 block 16"),
        ("l4/tp1/decode", "decode", "bfloat16 32x8x128 block 16"),
    ]
