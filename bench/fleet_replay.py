"""A fleet under a sequence of requests: each is sent to a GPU type as the assignment says, and there to the replica
with the fewest requests in hand. What attains the SLO is counted. It knows no price and no planner."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random

from motley_solver.policy.batching import Limits
from motley_solver.problem import Slo
from motley_solver.replay import Replica, Request, Served
from motley_solver.steptime import StepTime
from motley_solver.workload import Bucket


@dataclass(frozen=True)
class Group:
    """Equal replicas."""

    replicas: int
    step_time: StepTime
    limits: Limits


@dataclass(frozen=True)
class Fleet:
    groups: Mapping[str, Group]
    shares: Mapping[Bucket, Mapping[str, float]]  # of each bucket's requests, by group


def arrivals(lengths: Iterable[tuple[int, int]], rate: float, random: Random) -> Iterable[Request]:
    """Poisson arrivals at `rate` per second."""
    now = 0.0
    for input_tokens, output_tokens in lengths:
        now += random.expovariate(rate)
        yield Request(now, input_tokens, output_tokens)


def attainment(
    fleet: Fleet, requests: Iterable[Request], bucket_of: Callable[[int, int], Bucket], slo: Slo, warm_up: float
) -> float:
    """The fraction of requests, those that arrive after `warm_up` seconds, whose TTFT and mean TPOT are both within
    the target."""
    replicas = {name: [Replica(g.step_time, g.limits) for _ in range(g.replicas)] for name, g in fleet.groups.items()}
    everyone = [replica for group in replicas.values() for replica in group]
    owed: dict[Bucket, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    served: list[Served] = []
    for request in requests:
        for replica in everyone:
            served += replica.advance(request.arrival)
        bucket = bucket_of(request.input_tokens, request.output_tokens)
        name = _turn(owed[bucket], fleet.shares[bucket])
        min(replicas[name], key=lambda replica: replica.outstanding).admit(request)
    for replica in everyone:
        served += replica.advance()
    counted = [one for one in served if one.request.arrival >= warm_up]
    good = [s for s in counted if s.ttft <= slo.ttft_seconds(s.request.input_tokens) and s.tpot <= slo.tpot_seconds]
    return len(good) / len(counted)


def _turn(owed: dict[str, float], shares: Mapping[str, float]) -> str:
    """Smooth weighted round robin: whose share is furthest behind."""
    for name, share in shares.items():
        owed[name] += share
    chosen = max(shares, key=lambda name: owed[name])
    owed[chosen] -= sum(shares.values())
    return chosen
