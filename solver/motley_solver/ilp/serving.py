"""One model's part of the program: whole replicas, and the flows of its requests to them (design: flows, not pairs).
It knows neither nodes nor what they cost; those who call it say what else a replica takes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from motley_solver.ilp.program import EQ, GE, LE, Program, Terms, Variable
from motley_solver.packing import per_node, size_of
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem, Role
from motley_solver.reasons import room_in
from motley_solver.rounding import Group, kv_group, usable_capacity
from motley_solver.switching import Place, running_replicas, starting_cost
from motley_solver.workload import Bucket

_TINY_LOAD = 1e-7  # replicas; HiGHS drops smaller coefficients, so smaller loads are planned as this much
_LEAST_SHARE = 1e-8  # of a bucket, that replicas are taken to serve at least, for the same reason


@dataclass(frozen=True)
class Kind:
    """Configurations of one model that serve exactly alike; only their replicas differ (in size, pools or price)."""

    role: Role
    group: Group
    rates: tuple[tuple[float, float], ...]  # per bucket with traffic: a replica's requests/s, part outside the SLO
    members: tuple[tuple[Configuration, tuple[Pool, ...]], ...]  # with the pools that have room


class Flow(NamedTuple):
    """The share of a bucket that a kind serves: a part of the most that all its replicas could. So no coefficient is
    larger than replicas are many; wide ones mislead the solver, up to proofs of what is not so."""

    variable: Variable  # from 0 to 1
    most: float  # the share at 1

    @property
    def share(self) -> float:
        return (self.variable.varValue or 0.0) * self.most


@dataclass(frozen=True)
class Serving:
    """The variables of one model."""

    model: ModelDemand
    kinds: tuple[Kind, ...]
    replicas: dict[Place, Variable] = field(default_factory=dict)
    flows: dict[tuple[Bucket, int], Flow] = field(default_factory=dict)  # (bucket, index of the kind)
    survivals: dict[str, dict[tuple[Bucket, int], Flow]] = field(default_factory=dict)  # by spot pool that is lost
    missing: list[Variable] = field(default_factory=list)  # replicas below the minimum, where that is allowed

    def served(self) -> Terms:
        """The fraction of the model's requests that is served."""
        rates = {load.bucket: load.rate / self.model.rate for load in self.model.buckets if load.rate > 0}
        return [(f.variable, rates[b] * f.most) for (b, k), f in self.flows.items() if self.kinds[k].role != "decode"]


def kinds_of(problem: Problem, model: ModelDemand) -> tuple[Kind, ...]:
    """What the model may run, without what a smaller replica in the same pools does at least as well."""
    pools = {pool.name: pool for pool in problem.pools}
    loads = [load for load in model.buckets if load.rate > 0]
    found: dict[tuple[Role, Group, tuple[tuple[float, float], ...]], list[tuple[Configuration, tuple[Pool, ...]]]]
    found = defaultdict(list)
    for c in model.configurations:
        rates = tuple(usable_capacity(model, c.capacity(load.bucket)) for load in loads)
        room = tuple(room_in(c, pools))
        group = ("", "") if c.role == "aggregated" else kv_group(c, pools)
        idle = not loads and _could_serve(model, c)
        if room and group is not None and (idle or any(rate > 0 for rate, _ in rates)):
            found[c.role, group, rates].append((c, room))
    kinds = [Kind(*key, tuple(members)) for key, members in found.items()]
    return tuple(_without_dominated(problem, model, kinds))


def _could_serve(model: ModelDemand, configuration: Configuration) -> bool:
    return not model.buckets or any(usable_capacity(model, c)[0] > 0 for c in configuration.capacities)


def _without_dominated(problem: Problem, model: ModelDemand, kinds: list[Kind]) -> Iterator[Kind]:
    """Where a large replica serves no more than the smaller ones in its place, nobody needs it."""
    running = {r.configuration for r in problem.running if r.model == model.name}
    everyone = [(kind, *member) for kind in kinds for member in kind.members]
    for kind in kinds:
        kept = tuple(
            (c, room)
            for c, room in kind.members
            if c.key in running
            or not any(
                _replaces(model, other, kind, k, c)
                for other, k, elsewhere in everyone
                if k is not c and set(room) <= set(elsewhere)
            )
        )
        if kept:
            yield Kind(kind.role, kind.group, kind.rates, kept)


def _replaces(model: ModelDemand, other: Kind, kind: Kind, small: Configuration, large: Configuration) -> bool:
    if (other.role, other.group) != (kind.role, kind.group) or small.gpus < 1:
        return False
    times = large.gpus // small.gpus
    larger = large.cpus >= small.cpus * times and large.memory_gib >= small.memory_gib * times
    if times < 1 or not larger or (times > 1 and model.max_replicas is not None):
        return False
    if size_of(small) == size_of(large) and other.rates == kind.rates:
        return small.key < large.key  # of equals the first
    return all(
        times * mine >= theirs and (outside <= theirs_outside or theirs == 0)
        for (mine, outside), (theirs, theirs_outside) in zip(other.rates, kind.rates, strict=True)
    )


def add_serving(
    program: Program,
    problem: Problem,
    model: ModelDemand,
    everything: bool,
    kinds: tuple[Kind, ...] | None = None,
    overload: Variable | None = None,
) -> Serving:
    """Adds variables and rows of one model. With `everything`, each bucket that some kind can serve is served whole
    and the model has its minimum of replicas; otherwise as far as it goes. With `overload`, work may exceed replicas
    by that much.  `kinds` are those of `kinds_of`, where they are known.

    For each bucket: aggregated and prefill flows add up to 1; for each (bucket, fabric, KV class) the prefill flows
    equal the decode flows. For each kind: rate·(1 + headroom)/capacity over its flows ≤ its replicas."""
    serving = Serving(model, kinds_of(problem, model) if kinds is None else kinds)
    add_replicas(program, serving, everything)
    flows = _Flows(program, serving, overload)
    sums = flows.add(serving.flows, 1 + problem.headroom)
    for terms in sums.values():
        program.require(terms, EQ if everything else LE, 1)
    if model.survivability > 0:
        for pool in (pool for pool in problem.pools if pool.spot and _may_stand_in(serving, pool.name)):
            survival = serving.survivals.setdefault(pool.name, {})
            rest = flows.add(survival, 1.0, lost=pool.name)
            for bucket, terms in sums.items():
                floor = [(variable, -model.survivability * most) for variable, most in terms]
                program.require([*rest.get(bucket, []), *floor], EQ, 0)
    return serving


def _may_stand_in(serving: Serving, pool: str) -> bool:
    return any(name == pool for _, name in serving.replicas)


def add_replicas(program: Program, serving: Serving, everything: bool, whole: bool = True) -> None:
    """The model's whole replicas, within their limits; all that it is where its flows are projected out."""
    model = serving.model
    for kind in serving.kinds:
        for c, room in kind.members:
            for pool in room:
                most = per_node(size_of(c), pool) * pool.max_nodes
                serving.replicas[c.key, pool.name] = program.variable(most, whole)
    mine = [(variable, 1.0) for variable in serving.replicas.values()]
    if mine and model.min_replicas > 0:
        if not everything:
            serving.missing.append(program.variable(model.min_replicas, whole=False))
        enough = [*_answering(program, serving), *((variable, 1.0) for variable in serving.missing)]
        program.require(enough, GE, model.min_replicas)
    if mine and model.max_replicas is not None:
        program.require(mine, LE, model.max_replicas)


def _answering(program: Program, serving: Serving) -> Terms:
    """`rounding.answering` as far as the minimum asks for it: aggregated replicas, and pairs of a prefill and a decode
    replica."""
    terms: Terms = []
    halves: dict[Group, dict[Role, Terms]] = defaultdict(lambda: {"prefill": [], "decode": []})
    for kind in serving.kinds:
        part = terms if kind.role == "aggregated" else halves[kind.group][kind.role]
        part += [(serving.replicas[c.key, pool.name], 1.0) for c, room in kind.members for pool in room]
    for both in halves.values():
        pairs = program.variable(serving.model.min_replicas, whole=False)
        for half in both.values():
            program.require([*half, (pairs, -1.0)], GE, 0)
        terms.append((pairs, 1.0))
    return terms


class _Flows:
    """Adds flows of one model, to all its replicas or to those outside a lost pool."""

    def __init__(self, program: Program, serving: Serving, overload: Variable | None) -> None:
        self.program, self.serving = program, serving
        self.slack: Terms = [] if overload is None else [(overload, -1.0)]
        self.loads = [load for load in serving.model.buckets if load.rate > 0]

    def add(self, flows: dict[tuple[Bucket, int], Flow], factor: float, lost: str = "") -> dict[Bucket, Terms]:
        """Returns per bucket what adds up to its served share."""
        sums: dict[Bucket, Terms] = defaultdict(list)
        balance: dict[tuple[Bucket, Group], Terms] = defaultdict(list)
        outside: Terms = []
        for index, kind in enumerate(self.serving.kinds):
            replicas = _replicas_of(self.serving, kind, lost)
            most = sum(variable.upBound for variable, _ in replicas)
            work: Terms = []
            for load, (rate, late) in zip(self.loads, kind.rates, strict=True):
                if rate <= 0 or not replicas:
                    continue
                needed = max(_TINY_LOAD, load.rate * factor / rate)
                share = 1.0 if self.slack else max(_LEAST_SHARE, min(1.0, most / needed))
                flow = self.program.variable(1, whole=False)
                flows[load.bucket, index] = Flow(flow, share)
                work.append((flow, needed * share))
                if kind.role != "decode":
                    sums[load.bucket].append((flow, share))
                if kind.role != "aggregated":
                    balance[load.bucket, kind.group].append((flow, share if kind.role == "prefill" else -share))
                if late > 0:
                    outside.append((flow, share * late * load.rate / self.serving.model.rate))
            self._require_work(work, replicas)
        for terms in balance.values():
            self.program.require(terms, EQ, 0)
        if outside:
            self.program.require(outside, LE, 1 - self.serving.model.attainment)
        return sums

    def _require_work(self, work: Terms, replicas: Terms) -> None:
        """A kind's work is at most its replicas."""
        if work:
            self.program.require([*work, *replicas, *self.slack], LE, 0)


def _replicas_of(serving: Serving, kind: Kind, lost: str) -> Terms:
    """The replicas of a kind, as what is taken off its work."""
    names = ((c.key, pool.name) for c, room in kind.members for pool in room if pool.name != lost)
    return [(serving.replicas[name], -1.0) for name in names]


def started(program: Program, problem: Problem, serving: Serving) -> dict[Place, Variable]:
    """The replicas of this model beyond those that run there now."""
    running = running_replicas(problem, serving.model)
    found = dict(serving.replicas)
    for place in (place for place in found if running[place]):
        found[place] = program.variable(None, whole=False)
        program.require([(serving.replicas[place], 1.0), (found[place], -1.0)], LE, running[place])
    return found


def switching(problem: Problem, serving: Serving, beyond: Mapping[Place, Variable]) -> Terms:
    """The cost per hour of starting these replicas."""
    if problem.start_hours <= 0:
        return []
    sizes = {c.key: size_of(c) for kind in serving.kinds for c, _ in kind.members}
    pools = {pool.name: pool for pool in problem.pools}
    return [(v, starting_cost(problem, sizes[key], pools[pool])) for (key, pool), v in beyond.items()]


def changes(serving: Serving, beyond: Mapping[Place, Variable]) -> Terms:
    """What decides between plans that cost the same: replicas that must be started, then replicas at all."""
    return [*((variable, 1.0) for variable in beyond.values()), *((v, 1e-3) for v in serving.replicas.values())]


def shares_of(
    serving: Serving, flows: Mapping[tuple[Bucket, int], Flow], lost: str = ""
) -> Iterable[tuple[Bucket, str, float]]:
    """(bucket, configuration, share): a kind's flow is shared out by the replicas of its configurations."""
    for index, kind in enumerate(serving.kinds):
        counts = {
            c.key: sum(round(serving.replicas[c.key, pool.name].varValue or 0.0) for pool in room if pool.name != lost)
            for c, room in kind.members
        }
        total = sum(counts.values())
        if not total:  # a load within the tolerance of none
            counts, total = {kind.members[0][0].key: 1}, 1
        for (bucket, k), flow in flows.items():
            if k == index and flow.share > 0:
                yield from ((bucket, key, flow.share * count / total) for key, count in counts.items() if count)
