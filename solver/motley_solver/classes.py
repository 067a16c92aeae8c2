"""What a router can tell apart: it knows the input of a request and not how long the answer will be. Where outputs are
unknown, the sizes of one input are therefore planned as one, with the same shares for all: replicas meant for short
answers would get long ones too."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from motley_solver.problem import Capacity, Configuration, ModelDemand, Pool, Problem
from motley_solver.reasons import room_in, servable
from motley_solver.rounding import Shares, Solution, usable_capacity
from motley_solver.workload import Bucket, BucketLoad

Members = Mapping[tuple[str, Bucket], Sequence[Bucket]]  # by model, and by the largest of those planned as one


def by_class(problem: Problem) -> tuple[Problem, Members]:
    """The problem with one bucket for all sizes that cannot be told apart, and what that bucket stands for. What cannot
    serve one of them serves none; otherwise a replica serves 1 / Σ (part of the requests / capacity) of them per
    second."""
    pools = {pool.name: pool for pool in problem.pools}
    members: dict[tuple[str, Bucket], Sequence[Bucket]] = {}
    models = []
    for model in problem.models:
        classes = [] if model.outputs_known else list(_classes(model, pools))
        if any(len(sizes) > 1 for sizes in classes):
            members |= {(model.name, sizes[-1].bucket): [load.bucket for load in sizes] for sizes in classes}
            loads = tuple(BucketLoad(sizes[-1].bucket, sum(load.rate for load in sizes)) for sizes in classes)
            choices = tuple(
                replace(c, capacities=tuple(_of_class(model, c, sizes) for sizes in classes))
                for c in model.configurations
            )
            model = replace(model, buckets=loads, configurations=choices)
        models.append(model)
    return (replace(problem, models=tuple(models)), members) if members else (problem, members)


def spread(solution: Solution, members: Members) -> Solution:
    """Each size has the shares of its class."""

    def each(shares: Shares) -> Shares:
        return {
            (model, size, key): share
            for (model, bucket, key), share in shares.items()
            for size in members.get((model, bucket), (bucket,))
        }

    survivals = {lost: each(shares) for lost, shares in solution.survivals.items()}
    return replace(solution, shares=each(solution.shares), survivals=survivals)


def _classes(model: ModelDemand, pools: Mapping[str, Pool]) -> Iterator[Sequence[BucketLoad]]:
    """Sizes with traffic, by input and then output. By itself stays what no route serves anyway; and all sizes of an
    input do where no route serves all of them."""
    inputs: dict[int, list[BucketLoad]] = defaultdict(list)
    for load in sorted((load for load in model.buckets if load.rate > 0), key=lambda load: load.bucket):
        inputs[load.bucket.input_tokens].append(load)
    there = [c for c in model.configurations if room_in(c, pools)]
    for loads in inputs.values():
        served = [load for load in loads if servable(_able(model, there, [load]), pools)]
        together = served if servable(_able(model, there, served), pools) else []
        yield from ([load] for load in loads if load not in together)
        if together:
            yield together


def _able(
    model: ModelDemand, configurations: Collection[Configuration], loads: Sequence[BucketLoad]
) -> list[Configuration]:
    """Those that serve all of these."""
    return [c for c in configurations if all(usable_capacity(model, c.capacity(load.bucket))[0] > 0 for load in loads)]


def _of_class(model: ModelDemand, configuration: Configuration, loads: Sequence[BucketLoad]) -> Capacity:
    if len(loads) == 1:
        return configuration.capacity(loads[0].bucket)
    usable = [usable_capacity(model, configuration.capacity(load.bucket)) for load in loads]
    total = sum(load.rate for load in loads)
    if any(rate <= 0 for rate, _ in usable):
        return Capacity(loads[-1].bucket, 0.0)
    rate = total / sum(load.rate / rate for load, (rate, _) in zip(loads, usable, strict=True))
    outside = sum(load.rate * outside for load, (_, outside) in zip(loads, usable, strict=True)) / total
    return Capacity(loads[-1].bucket, 0.0 if outside else rate, rate, outside=outside)
