"""FleetView → who takes part, with which pools and limits, and what runs."""

from dataclasses import replace
from typing import Any

import fleets
import pytest
from fleets import A100, RACK, deployment, model, pool, profile, view_of

from motley_operator import reasons
from motley_operator.declarations import configuration_key
from motley_operator.formulation import FOREVER, formulated
from motley_solver.problem import Pool, Running


def test_the_fleet_gives_budget_and_headroom() -> None:
    frame = formulated(view_of(fleets.fleet({"budgetPerHour": "60", "headroom": "0.2"}), pool(), model())).frame
    assert (frame.budget_per_hour, frame.headroom) == (60.0, 0.2)
    assert formulated(view_of(pool(), model())).frame.budget_per_hour is None


def test_what_starting_a_replica_costs_follows_from_the_start_and_the_horizon() -> None:
    frame = formulated(view_of(fleets.fleet({"startTime": "3m", "replanHorizon": "30m"}), pool(), model())).frame
    assert (frame.start_hours, frame.horizon_hours) == (0.05, 0.5)
    frame = formulated(view_of(pool(), model())).frame
    assert (frame.start_hours, frame.horizon_hours) == (5 / 60, 1.0)


def solver_pool(*spec: dict[str, Any]) -> Pool:
    (found,) = formulated(view_of(pool("l4", *spec))).frame.pools
    return found


@pytest.mark.parametrize(
    ("spec", "reserved"),
    [
        ({}, 0),
        ({"capacityType": "Reserved"}, 4),
        ({"capacityType": "Reserved", "reservedNodes": 3}, 3),
        ({"capacityType": "Reserved", "reservedNodes": 0}, 0),
    ],
)
def test_of_a_reserved_pool_all_nodes_are_paid_for_or_as_many_as_it_says(spec: dict[str, Any], reserved: int) -> None:
    assert (solver_pool(spec).reserved_nodes, solver_pool(spec).max_nodes) == (reserved, 4)


def test_a_spot_pool_says_how_often_a_node_is_taken_away() -> None:
    spot = solver_pool({"capacityType": "Spot", "interruptionsPerHour": "0.05"})
    assert spot.spot and spot.interruptions_per_hour == 0.05
    assert not solver_pool({"interruptionsPerHour": "0.05"}).spot


def test_pools_of_one_fabric_name_it() -> None:
    assert solver_pool({"fabric": {"name": "rack", "bandwidthGBs": "50"}}).fabric == "rack"
    assert solver_pool().fabric == ""


def test_a_pool_with_max_zero_gives_no_configuration_and_is_still_known() -> None:
    formulation = formulated(view_of(pool("l4", {"maxNodes": 0}), pool("a100", A100), model()))
    assert [one.key for one in formulation.declarations[0].candidates] == ["a100/tp1"]
    assert {one.name: one.max_nodes for one in formulation.frame.pools} == {"l4": 0, "a100": 4}


def test_pools_that_name_one_gpu_type_differently_are_of_one_type() -> None:
    problem = formulated(view_of(pool("x", {"gpu": "A100"}), pool("y", {"gpu": "a100-80gb"}), model())).problem
    assert {one.gpu for one in problem.pools} == {"A100-80GB"}
    assert {one.gpu for one in problem.models[0].configurations} == {"A100-80GB"}


def test_a_draining_pool_has_no_part() -> None:
    formulation = formulated(view_of(pool("l4", deletionTimestamp="2026-03-01T11:00:00Z"), pool("a100", A100), model()))
    assert [one.name for one in formulation.frame.pools] == ["a100"]
    assert formulation.pools.keys() == {"a100"}
    assert formulation.findings.keys() == {"GPUPool l4"}


def test_a_refused_model_does_not_hide_the_others() -> None:
    formulation = formulated(view_of(pool(), model("bad", {"placement": {"pools": ["x"]}}), model("good")))
    assert [one.name for one in formulation.declarations] == ["team/good"]
    assert formulation.models.keys() == {"team/good"} and formulation.findings.keys() == {"Model team/bad"}


# Modes

APART = model("chat", {"placement": {"modes": ["Disaggregated"]}})


def finding(*objects: dict[str, Any], disaggregated: bool) -> str:
    found = formulated(view_of(*objects), disaggregated).findings
    return found["Model team/chat"].reason if found else ""


def test_a_model_that_must_not_be_aggregated_is_told_that_nothing_else_is_deployed_yet() -> None:
    assert finding(pool("l4", RACK), APART, disaggregated=False) == reasons.MODE_NOT_DEPLOYED
    assert finding(pool("l4", RACK), APART, disaggregated=True) == ""


def test_a_model_that_must_not_be_aggregated_needs_a_pool_with_a_fabric() -> None:
    assert finding(pool("l4"), APART, disaggregated=True) == reasons.NO_FABRIC
    elsewhere = model("chat", {"placement": {"modes": ["Disaggregated"], "pools": ["l4"]}})
    assert finding(pool("l4"), pool("a100", A100, RACK), elsewhere, disaggregated=True) == reasons.NO_FABRIC


@pytest.mark.parametrize("modes", [[], ["Aggregated"], ["Disaggregated", "Aggregated"]])
@pytest.mark.parametrize("disaggregated", [True, False])
def test_a_model_that_may_be_aggregated_is_planned_whatever_there_is(modes: list[str], disaggregated: bool) -> None:
    assert finding(pool(), model("chat", {"placement": {"modes": modes}}), disaggregated=disaggregated) == ""


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


# What runs


def running(*deployments: tuple[str, str, str, int]) -> tuple[Running, ...]:
    raw = [
        deployment(f"{name}-{number}", replicas, model=name, pool=on, tensor_parallel=degree, configuration=str(number))
        for number, (name, on, degree, replicas) in enumerate(deployments)
    ]
    return formulated(view_of(pool(), model(), *raw)).running


def test_where_nothing_runs_there_is_nothing_to_switch_from() -> None:
    formulation = formulated(view_of(pool(), model(), profile()))
    assert formulation.problem.horizon_hours == FOREVER and formulation.frame.horizon_hours == 1.0
    kept = replace(formulation, running=(Running("team/chat", "l4", configuration_key("l4", 1), 1),))
    assert kept.problem.horizon_hours == 1.0 and kept.problem.running == kept.running


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
