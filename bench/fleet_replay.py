"""A fleet under a sequence of requests: each is sent to a GPU type as a router would, which knows its input size and
the planned shares but not how long the answer will be, and there to one replica. What attains the SLO is counted, with
the planner's own deduction from TTFT. It knows no price."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from motley_solver.capacity import HOP_SECONDS, REQUEST_SECONDS, Engine
from motley_solver.plan import Assignment
from motley_solver.policy.batching import Limits
from motley_solver.problem import EngineSettings, Slo
from motley_solver.replay import Replica, Request
from motley_solver.steptime import StepTime
from motley_solver.workload import BucketLoad

SEED = 4  # of the router's draws


@dataclass(frozen=True)
class Group:
    """Equal replicas."""

    replicas: int
    step_time: StepTime
    limits: Limits


@dataclass(frozen=True)
class Fleet:
    groups: Mapping[str, Group]
    shares: Mapping[int, Mapping[str, float]]  # by the upper edge of the input: of those requests, by group


def group_of(engine: Engine, settings: EngineSettings, replicas: int) -> Group:
    limits = Limits(settings.max_num_batched_tokens, settings.max_num_seqs, engine.kv_tokens)
    return Group(replicas, engine.step_time, limits)


def shares_by_input(assignment: Iterable[Assignment], loads: Iterable[BucketLoad]) -> dict[int, dict[str, float]]:
    """The planned shares of each input size: of all its outputs together."""
    rates = {load.bucket: load.rate for load in loads}
    sums: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for route in assignment:
        sums[route.bucket.input_tokens][route.configuration] += route.share * rates[route.bucket]
    return {edge: dict(by_group) for edge, by_group in sums.items()}


def arrivals(lengths: Iterable[tuple[int, int]], rate: float, random: Random) -> Iterable[Request]:
    """Poisson arrivals at `rate` per second."""
    now = 0.0
    for input_tokens, output_tokens in lengths:
        now += random.expovariate(rate)
        yield Request(now, input_tokens, output_tokens)


def least_outstanding(replicas: Sequence[Replica]) -> Replica:
    return min(replicas, key=lambda replica: replica.outstanding)


def attainment(
    fleet: Fleet,
    requests: Sequence[Request],
    slo: Slo,
    warm_up: float,
    dispatch: Callable[[Sequence[Replica]], Replica] = least_outstanding,
) -> float:
    """The fraction of requests, those after the first part `warm_up` of the time, whose TTFT (at the client: a hop and
    a server away) and mean TPOT are both within the target. What a replica cannot hold is not."""
    replicas = {name: [Replica(g.step_time, g.limits) for _ in range(g.replicas)] for name, g in fleet.groups.items()}
    everyone = [replica for group in replicas.values() for replica in group]
    edges, random, served = sorted(fleet.shares), Random(SEED), []
    for request in requests:
        for replica in everyone:
            served += replica.advance(request.arrival)
        shares = fleet.shares[edges[bisect_left(edges, request.input_tokens)]]
        [name] = random.choices(list(shares), list(shares.values()))
        if request.input_tokens + request.output_tokens <= fleet.groups[name].limits.kv_tokens:
            dispatch(replicas[name]).admit(request)
    for replica in everyone:
        served += replica.advance()
    begin, beside = warm_up * requests[-1].arrival, HOP_SECONDS + REQUEST_SECONDS
    good = [
        one.ttft + beside <= slo.ttft_seconds(one.request.input_tokens) and one.tpot <= slo.tpot_seconds
        for one in served
        if one.request.arrival >= begin
    ]
    return sum(good) / sum(request.arrival >= begin for request in requests)
