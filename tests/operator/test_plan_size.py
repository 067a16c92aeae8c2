"""A Plan fits into one object of the API server, however much it has to say."""

import json

from motley_operator.planning import UNSERVED_ROWS, plan_of
from motley_solver.plan import Plan, Unserved
from motley_solver.problem import ModelDemand, Problem
from motley_solver.workload import Bucket, BucketLoad

LARGEST = 1_500_000
"""Bytes; etcd refuses more by default."""
BUCKETS = [Bucket(100 * (i + 1), 100) for i in range(64)]


def a_hundred_models() -> Problem:
    loads = tuple(BucketLoad(bucket, 0.123456789) for bucket in BUCKETS)
    return Problem(tuple(ModelDemand(f"a-namespace/a-model-with-a-long-name-{i}", loads, ()) for i in range(100)), ())


def test_a_hundred_models_of_which_nothing_is_served_fit_and_no_rate_is_lost() -> None:
    problem = a_hundred_models()
    why = "all nodes of pool h100 (4) are in use: raise its maximum or add a pool; " * 3
    unserved = tuple(Unserved(m.name, load.bucket, load.rate, why) for m in problem.models for load in m.buckets)
    solved = Plan((), (), 0.0, 0.0, 0.0, True, (), unserved, (), 0.1)
    plan = plan_of(problem, solved, "first plan", {m.name: "0123456789" for m in problem.models}, 1)
    assert len(json.dumps(plan.to_json())) < LARGEST
    assert len(plan.spec.unserved) <= UNSERVED_ROWS + 100
    assert abs(sum(one.rate for one in plan.spec.unserved) - 6400 * 0.123456789) < 1e-6


def test_nothing_is_folded_where_there_is_room() -> None:
    problem = Problem(a_hundred_models().models[:1], ())
    unserved = tuple(Unserved(problem.models[0].name, bucket, 1.0, "why") for bucket in BUCKETS)
    solved = Plan((), (), 0.0, 0.0, 0.0, True, (), unserved, (), 0.1)
    plan = plan_of(problem, solved, "first plan", {}, 1)
    assert [one.input_tokens for one in plan.spec.unserved] == [bucket.input_tokens for bucket in BUCKETS]
