"""What the solver's tolerances leave is not paid for."""

import pytest

from motley_solver.problem import Problem, Role
from motley_solver.rounding import Solution, rounded
from tests.solver.fleets import SHORT, configuration, model, pool, problem

GPUS = ("A", "B")


def fleet(rate: float = 3.0) -> Problem:
    return problem([model("m", {SHORT: rate}, *(configuration(gpu, {SHORT: 1.0}) for gpu in GPUS))], POOLS)


POOLS = [pool(gpu, 1.0, fabric="ib") for gpu in GPUS]


def solved(shares: dict[str, float], replicas: dict[str, float]) -> Solution:
    return Solution(
        {("test/m", SHORT, key): share for key, share in shares.items()},
        {("test/m", key, key.split("-")[0]): count for key, count in replicas.items()},
        {"A": replicas.get("A-tp1", 0.0), "B": replicas.get("B-tp1", 0.0)},
        {},
    )


def test_a_crumb_that_the_solver_left_where_nothing_stands_gets_no_replica() -> None:
    found = rounded(fleet(), solved({"A-tp1": 1 - 3e-9, "B-tp1": 3e-9}, {"A-tp1": 3.0, "B-tp1": 9e-9}))
    assert found.replicas == {("test/m", "A-tp1", "A"): 3}
    assert found.shares == {("test/m", SHORT, "A-tp1"): 1.0}
    assert found.nodes == {"A": 3, "B": 0}


def test_a_tiny_load_of_a_size_has_no_replica_by_the_solvers_tolerance_and_goes_where_there_is_one() -> None:
    found = rounded(fleet(1e-9), solved({"A-tp1": 0.6, "B-tp1": 0.4}, {"A-tp1": 1.0, "B-tp1": 4e-10}))
    assert found.replicas == {("test/m", "A-tp1", "A"): 1}
    assert found.shares == {("test/m", SHORT, "A-tp1"): pytest.approx(1.0)}


def test_what_others_have_no_room_for_gets_its_replica() -> None:
    found = rounded(fleet(), solved({"A-tp1": 0.6, "B-tp1": 0.4}, {"A-tp1": 1.8, "B-tp1": 0.0}))
    assert found.replicas == {("test/m", "A-tp1", "A"): 2, ("test/m", "B-tp1", "B"): 2}
    assert found.shares == {("test/m", SHORT, "A-tp1"): 0.6, ("test/m", SHORT, "B-tp1"): 0.4}


def test_a_crumb_of_a_disaggregated_route_goes_with_both_its_halves() -> None:
    halves: list[tuple[str, Role]] = [("A", "prefill"), ("B", "decode")]
    pairs = [configuration(gpu, {SHORT: 9.0}, role=role, kv_class="k") for gpu, role in halves]
    whole = configuration("A", {SHORT: 1.0})
    asked = problem([model("m", {SHORT: 3.0}, whole, *pairs)], POOLS)
    shares = {whole.key: 1 - 2e-9, **{c.key: 2e-9 for c in pairs}}
    found = rounded(asked, solved(shares, {whole.key: 3.0}))
    assert found.shares == {("test/m", SHORT, whole.key): 1.0}
    assert found.replicas == {("test/m", whole.key, "A"): 3}
