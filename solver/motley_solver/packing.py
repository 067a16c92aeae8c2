"""Which replicas fit together on the nodes of one pool: GPUs, CPUs and memory at once.
It knows sizes and nodes; models, prices and the optimisation are not its affair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from motley_solver.problem import Configuration, Pool

PODS_PER_NODE = 100  # a replica that takes nothing still takes a pod (the kubelet's default limit is 110)
_SLACK = 1e-9


@dataclass(frozen=True, order=True)
class Size:
    """What one replica takes of a node."""

    gpus: int
    cpus: float
    memory_gib: float


def size_of(configuration: Configuration) -> Size:
    return Size(configuration.gpus, configuration.cpus, configuration.memory_gib)


def per_node(size: Size, pool: Pool) -> int:
    """How many replicas of this size one node holds."""
    parts = (
        (pool.gpus_per_node, size.gpus),
        (pool.cpus_per_node, size.cpus),
        (pool.memory_gib_per_node, size.memory_gib),
    )
    return min([PODS_PER_NODE, *(int((have + _SLACK) / take) for have, take in parts if take > 0)])


def is_nested(sizes: Sequence[Size], pool: Pool) -> bool:
    """Only GPUs bind, and their numbers divide one another (1, 2, 4, 8): then counting slots is exact."""
    gpus = sorted({size.gpus for size in sizes})
    if not gpus or gpus[0] < 1 or pool.gpus_per_node > PODS_PER_NODE:
        return False
    dividing = all(large % small == 0 for small, large in pairwise(gpus))
    cpus = max(size.cpus / size.gpus for size in sizes) * pool.gpus_per_node
    memory = max(size.memory_gib / size.gpus for size in sizes) * pool.gpus_per_node
    return dividing and cpus <= pool.cpus_per_node + _SLACK and memory <= pool.memory_gib_per_node + _SLACK


def _left(pool: Pool, size: Size, count: int) -> Pool:
    return Pool(
        pool.name,
        pool.gpu,
        pool.gpus_per_node - size.gpus * count,
        pool.cpus_per_node - size.cpus * count,
        pool.memory_gib_per_node - size.memory_gib * count,
        pool.price_per_node_hour,
        pool.max_nodes,
    )


def patterns(sizes: Sequence[Size], pool: Pool, limit: int) -> tuple[tuple[int, ...], ...] | None:
    """Every way to fill a node to which nothing can be added, as counts per size; None beyond the limit."""
    found: list[tuple[int, ...]] = []

    def fill(counts: tuple[int, ...], rest: Pool) -> bool:
        if len(counts) == len(sizes):
            maximal = all(per_node(size, rest) == 0 or sum(counts) >= PODS_PER_NODE for size in sizes)
            if maximal:
                found.append(counts)
            return len(found) <= limit
        size = sizes[len(counts)]
        fitting = min(per_node(size, rest), PODS_PER_NODE - sum(counts))
        last = len(counts) + 1 == len(sizes)
        choices = [fitting] if last else range(fitting, -1, -1)
        return all(fill((*counts, n), _left(rest, size, n)) for n in choices)

    return tuple(found) if fill((), pool) else None


def rounded_up(sizes: Sequence[Size]) -> Mapping[Size, Size]:
    """Each size to the largest CPUs and memory among those with as many GPUs: fewer sizes, never too optimistic."""
    return {
        size: Size(
            size.gpus,
            max(other.cpus for other in sizes if other.gpus == size.gpus),
            max(other.memory_gib for other in sizes if other.gpus == size.gpus),
        )
        for size in sizes
    }


def nodes_needed(counts: Mapping[Size, int], pool: Pool) -> int | float:
    """Nodes that first-fit decreasing uses, in groups of equal nodes; inf when a size fits on no node."""
    groups: list[tuple[Pool, int, int]] = []  # (what is left of such a node, pods on it, how many such nodes)
    for size, count in sorted(counts.items(), reverse=True):
        placed: list[tuple[Pool, int, int]] = []
        waiting = [*groups, (pool, 0, count)]  # a node per replica is always enough
        used_before = len(groups)
        for index, (rest, pods, nodes) in enumerate(waiting):
            each = min(per_node(size, rest), PODS_PER_NODE - pods)
            full = min(nodes, count // each) if each else 0
            if full:
                placed.append((_left(rest, size, each), pods + each, full))
                count -= full * each
            left = nodes - full
            if left and each and 0 < count < each:
                placed.append((_left(rest, size, count), pods + count, 1))
                count, left = 0, left - 1
            if left and index < used_before:
                placed.append((rest, pods, left))
        if count:
            return inf
        groups = placed
    return sum(nodes for _, _, nodes in groups)
