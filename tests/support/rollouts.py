"""A tiny model of a cluster on which roll-outs are simulated to their end."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleets import NOW, allocation, deployed, model, models_of, plan, pool, pools_of

from motley_operator.api import Plan
from motley_operator.fleet import NO_FLEET, DeploymentView, FleetView, NodeView, PodView
from motley_operator.manifests import Group
from motley_operator.rollout import Step, crowded_pools, next_step

MODELS = models_of(model("a"), model("b"))
TICK = timedelta(seconds=5)
START_TICKS = 2
"""So long a placed pod takes until it is ready."""


@dataclass(frozen=True)
class Want:
    """Replicas of one configuration. Another revision is another group."""

    model: str
    pool: str
    tensor_parallel: int
    replicas: int
    revision: str = "new"

    @property
    def group(self) -> Group:
        return Group(
            MODELS[f"team/{self.model}"],
            allocation(f"team/{self.model}", self.pool, self.replicas, tensor_parallel=self.tensor_parallel),
            self.name,
            self.name,
            {},
        )

    @property
    def name(self) -> str:
        return f"{self.model}-{self.pool}-tp{self.tensor_parallel}-{self.revision}"


@dataclass
class Pod:
    deployment: DeploymentView
    number: int
    node: tuple[str, int] | None = None
    waits_since: datetime | None = None
    placed_ticks: int = 0

    @property
    def ready(self) -> bool:
        return self.node is not None and self.placed_ticks >= START_TICKS


@dataclass
class Cluster:
    """Deployments, a scheduler that packs unless told otherwise, kubelets that take two ticks; `pools`: nodes and GPUs
    per node."""

    pools: Mapping[str, tuple[int, int]]
    packs: bool = True
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    deployments: dict[str, DeploymentView] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    now: datetime = NOW
    made: int = 0

    def view(self) -> FleetView:
        ready = {name: sum(p.ready for p in self.pods if p.deployment.name == name) for name in self.deployments}
        return FleetView(
            now=self.now,
            fleet=NO_FLEET,
            pools=tuple(pools_of(*(pool(name, {"node": {"gpus": g}}) for name, (_, g) in self.pools.items())).values()),
            nodes=tuple(
                NodeView(f"{name}-{n}", {"pool": name}, True)
                for name, (nodes, _) in self.pools.items()
                for n in range(nodes)
            ),
            deployments=tuple(replace(one, ready=ready[one.name]) for one in self.deployments.values()),
            pods=tuple(
                PodView(
                    namespace="team",
                    name=str(one.number),
                    model=one.deployment.model,
                    pool=one.deployment.pool,
                    configuration=one.deployment.configuration,
                    ready=one.ready,
                    unschedulable_since=one.waits_since,
                    trouble="",
                    node=f"{one.node[0]}-{one.node[1]}" if one.node else "",
                )
                for one in self.pods
            ),
        )

    def tick(self) -> None:
        self.now += TICK
        self._make_pods()
        self._schedule()
        for one in self.pods:
            one.placed_ticks += one.node is not None

    def _make_pods(self) -> None:
        wanted = {name: one.replicas for name, one in self.deployments.items()}
        for name in sorted({one.deployment.name for one in self.pods} | wanted.keys()):
            own = [one for one in self.pods if one.deployment.name == name]
            self.chance.shuffle(own)
            own.sort(key=lambda one: (one.node is None, not one.ready))  # the best come first
            for one in own[wanted.get(name, 0) :]:
                self.pods.remove(one)
            for _ in range(wanted.get(name, 0) - len(own)):
                self.made += 1
                self.pods.append(Pod(self.deployments[name], self.made))

    def _schedule(self) -> None:
        used: dict[tuple[str, int], int] = {}
        for one in self.pods:
            if one.node:
                used[one.node] = used.get(one.node, 0) + one.deployment.tensor_parallel
        for one in sorted(self.pods, key=lambda pod: (-pod.deployment.tensor_parallel, pod.number)):
            if one.node is None:
                nodes, gpus = self.pools[one.deployment.pool]
                size = one.deployment.tensor_parallel
                fitting = [n for n in range(nodes) if used.get((one.deployment.pool, n), 0) + size <= gpus]
                if fitting:
                    fullest = max(fitting, key=lambda n, pool=one.deployment.pool: used.get((pool, n), 0))
                    one.node = one.deployment.pool, fullest if self.packs else self.chance.choice(fitting)
                    used[one.node] = used.get(one.node, 0) + size
                    one.waits_since = None
                elif one.waits_since is None:
                    one.waits_since = self.now

    def apply(self, groups: Iterable[Group], step: Step, killed_with: float = 0.0) -> None:
        """Each write goes missing with the chance of `killed_with`."""
        for group in groups:
            if self.chance.random() >= killed_with and group.name in step.replicas:
                self.put(deployed(group), step.replicas[group.name])
        for one, replicas in step.shrinking:
            if self.chance.random() >= killed_with:
                self.put(one, replicas)
        for one in step.gone:
            if self.chance.random() >= killed_with:
                self.deployments.pop(one.name, None)

    def put(self, one: DeploymentView, replicas: int) -> None:
        self.deployments[one.name] = replace(one, replicas=replicas)

    def ready(self, model: str) -> int:
        return sum(one.ready for one in self.pods if one.deployment.model == model)


def nodes_for(wants: Iterable[Want], gpus: int) -> int:
    """Nodes that so many replicas take; degrees divide one another."""
    taken: list[int] = []
    for size in sorted((w.tensor_parallel for w in wants for _ in range(w.replicas)), reverse=True):
        for index, used in enumerate(taken):
            if used + size <= gpus:
                taken[index] += size
                break
        else:
            taken.append(size)
    return len(taken)


def plan_for(wants: Sequence[Want], pools: Mapping[str, tuple[int, int]]) -> Plan:
    nodes = {name: nodes_for([w for w in wants if w.pool == name], gpus) for name, (_, gpus) in pools.items()}
    return plan(1, *(want.group.allocation for want in wants), nodes=nodes)


def running(cluster: Cluster, old: Sequence[Want]) -> Cluster:
    """The cluster with the old replicas up, where they fit."""
    for want in old:
        cluster.put(deployed(want.group), want.replicas)
    for _ in range(START_TICKS + 1):
        cluster.tick()
    return cluster


def done(cluster: Cluster, new: Sequence[Want]) -> bool:
    wanted = {want.name: want.replicas for want in new}
    return {n: one.replicas for n, one in cluster.deployments.items()} == wanted and all(p.ready for p in cluster.pods)


@dataclass(frozen=True)
class History:
    ready: Mapping[str, Sequence[int]]
    crowded: Sequence[bool]
    replicas: Mapping[str, Sequence[int]]
    """By name of a Deployment, while it was there."""


def rolled_out(cluster: Cluster, new: Sequence[Want], ticks: int = 300, killed_with: float = 0.0) -> History:
    """Every pass by a new operator that knows nothing; fails where it does not end."""
    groups, wanted = [want.group for want in new], plan_for(new, cluster.pools)
    ready: dict[str, list[int]] = {name: [cluster.ready(name)] for name in "ab"}
    crowded: list[bool] = []
    replicas: dict[str, list[int]] = {name: [one.replicas] for name, one in cluster.deployments.items()}
    for _ in range(ticks):
        view = cluster.view()
        step = next_step(groups, view, wanted)
        crowded.append(bool(crowded_pools(view, wanted)))
        cluster.apply(groups, step, killed_with)
        cluster.tick()
        for name in "ab":
            ready[name].append(cluster.ready(name))
        for name, one in cluster.deployments.items():
            replicas.setdefault(name, []).append(one.replicas)
        if done(cluster, new):
            assert next_step(groups, cluster.view(), wanted) == Step({want.name: want.replicas for want in new})
            return History(ready, crowded, replicas)
    stuck = {name: (one.replicas, cluster.view().deployments) for name, one in cluster.deployments.items()}
    raise AssertionError(f"the roll-out does not end: {stuck}")


def roll_out(pools: Mapping[str, tuple[int, int]], old: Sequence[Want], new: Sequence[Want]) -> History:
    return rolled_out(running(Cluster(pools), old), new)


def old(model: str, pool: str, tensor_parallel: int, replicas: int, revision: str = "old") -> Want:
    return Want(model, pool, tensor_parallel, replicas, revision)
