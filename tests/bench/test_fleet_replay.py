import pytest

from bench.fleet_replay import Fleet, Group, attainment, shares_by_input
from motley_solver.capacity import HOP_SECONDS, REQUEST_SECONDS
from motley_solver.plan import Assignment
from motley_solver.policy.batching import Limits
from motley_solver.problem import Slo
from motley_solver.replay import Request
from motley_solver.steptime import StepTime
from motley_solver.workload import Bucket, BucketLoad

STEP = 0.1  # seconds of every iteration, nearly
SHORT, LONG = Bucket(100, 10), Bucket(100, 1000)


def replica(kv_tokens: int) -> Group:
    return Group(1, StepTime(base=STEP, per_prefill_token=1e-9), Limits(8192, 256, kv_tokens))


def everything_to(**groups: Group) -> Fleet:
    return Fleet(groups, {100: {name: 1 / len(groups) for name in groups}})


def one_by_one(count: int) -> list[Request]:
    return [Request(10.0 * i, 100, 2) for i in range(count)]


def slo(ttft: float) -> Slo:
    return Slo(ttft, 0.0, tpot_seconds=1.0)


def test_shares_of_an_input_are_those_of_all_its_outputs_by_their_rates() -> None:
    loads = (BucketLoad(SHORT, 3.0), BucketLoad(LONG, 1.0))
    plan = (Assignment("m", SHORT, "L4", 1.0), Assignment("m", LONG, "L4", 0.5), Assignment("m", LONG, "H100", 0.5))
    assert shares_by_input(plan, loads) == {100: {"L4": 3.5, "H100": 0.5}}


def test_ttft_counts_the_way_to_the_replica() -> None:
    beside = HOP_SECONDS + REQUEST_SECONDS
    fleet = everything_to(any=replica(10_000))
    assert attainment(fleet, one_by_one(10), slo(STEP + beside + 1e-6), warm_up=0.0) == 1
    assert attainment(fleet, one_by_one(10), slo(STEP + beside - 1e-6), warm_up=0.0) == 0


def test_what_a_replica_cannot_hold_is_not_attained() -> None:
    fleet = everything_to(large=replica(10_000), small=replica(101))
    assert 0.3 < attainment(fleet, one_by_one(200), slo(1.0), warm_up=0.0) < 0.7


def test_requests_of_the_warm_up_do_not_count() -> None:
    first_is_too_large = [Request(0.0, 100, 10_000), *one_by_one(11)[1:]]
    fleet = everything_to(any=replica(1000))
    assert attainment(fleet, first_is_too_large, slo(1.0), warm_up=0.05) == 1
    assert attainment(fleet, first_is_too_large, slo(1.0), warm_up=0.0) == pytest.approx(10 / 11)
