"""The pools' part of the program: nodes are bought whole, hold what really fits on them, and cost money.
What stands on them, single replicas or a model's whole set of them, is the caller's affair."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import floor, log10

from motley_solver.ilp.program import LE, Program, Row, Terms, Variable
from motley_solver.packing import Size, is_nested, patterns, per_node, rounded_up
from motley_solver.problem import Pool, Problem

_PATTERNS = 300

Standing = Mapping[Size, Terms]  # replicas of each size that stand in one pool


@dataclass(frozen=True)
class Nodes:
    """The variables and rows of one pool. A replica of some size takes `uses[size]` of each of these rows."""

    pool: Pool
    bought: Variable
    extra: Variable  # beyond the reserved ones: the same variable where none is
    exact: bool = True  # False where many odd sizes had to be rounded up to pack
    uses: dict[Size, list[tuple[Row, float]]] = field(default_factory=lambda: defaultdict(list))

    def price_of(self, size: Size) -> float:
        """What one more replica of this size is worth, by the duals of a relaxed program; where its duals are not
        unique (a node is worth less to it than it costs), the highest such price by GPUs (CPUs without)."""
        unused = max(0.0, self.bought.dj or 0.0)
        part = size.gpus / self.pool.gpus_per_node if self.pool.gpus_per_node else size.cpus / self.pool.cpus_per_node
        return max(0.0, sum(-(row.pi or 0.0) * used for row, used in self.uses[size]) + unused * part)


def add_nodes(program: Program, pool: Pool, standing: Standing, whole: bool = True, capped: bool = True) -> Nodes:
    """Adds one pool: replicas ≤ what its nodes hold, nodes ≤ max_nodes (where `capped`), extra ≥ nodes − reserved."""
    bought = program.variable(pool.max_nodes if capped else None, whole)
    extra = bought
    if pool.reserved_nodes > 0:
        extra = program.variable(None, whole=False)
        program.require([(bought, 1.0), (extra, -1.0)], LE, pool.reserved_nodes)
    if not standing:
        return Nodes(pool, bought, extra)
    if is_nested(list(standing), pool):
        nodes = Nodes(pool, bought, extra)
        for slot in sorted({size.gpus for size in standing}):
            parts = {size: float(size.gpus // slot) for size in standing if size.gpus >= slot}
            _hold(program, nodes, standing, parts, [(bought, -float(pool.gpus_per_node // slot))])
        return nodes
    kinds, fillings, exact = _fillings(list(standing), pool)
    nodes = Nodes(pool, bought, extra, exact)
    counts = [program.variable(pool.max_nodes if capped else None, whole) for _ in fillings]
    program.require([*((count, 1.0) for count in counts), (bought, -1.0)], LE, 0)
    for index, kind in enumerate(sorted(set(kinds.values()))):
        parts = {size: 1.0 for size in standing if kinds[size] == kind}
        held = [(count, -float(filling[index])) for count, filling in zip(counts, fillings, strict=True)]
        _hold(program, nodes, standing, parts, held)
    return nodes


def _hold(program: Program, nodes: Nodes, standing: Standing, parts: Mapping[Size, float], held: Terms) -> None:
    taken = [(v, n * part) for size, part in parts.items() for v, n in standing[size]]
    row = program.require([*taken, *held], LE, 0)
    for size, part in parts.items():
        nodes.uses[size].append((row, part))


def _fillings(sizes: list[Size], pool: Pool) -> tuple[Mapping[Size, Size], tuple[tuple[int, ...], ...], bool]:
    """Ways to fill a node: all of them; with too many sizes, those of sizes rounded up; at worst, of one size each."""
    same = {size: size for size in sizes}
    found = patterns(sorted(sizes), pool, _PATTERNS)
    if found is not None:
        return same, found, True
    rounded = rounded_up(sizes)
    kinds = sorted(set(rounded.values()))
    found = patterns(kinds, pool, _PATTERNS) if all(per_node(kind, pool) for kind in kinds) else None
    if found is not None:
        return rounded, found, False
    ordered = sorted(sizes)
    single = tuple(tuple(per_node(s, pool) if s == size else 0 for s in ordered) for size in ordered)
    return same, single, False


def price_unit(problem: Problem) -> float:
    """Prices are scaled so that the largest is between 1 and 10: by a power of ten, as HiGHS finds the step in which
    the objective changes only where decimal prices stay decimal."""
    largest = max((pool.price_per_node_hour for pool in problem.pools), default=0.0) or 1.0
    return float(10.0 ** floor(log10(largest)))


def bill_of(all_nodes: Iterable[Nodes]) -> Terms:
    """What is paid beyond the reserved nodes."""
    return [(nodes.extra, nodes.pool.price_per_node_hour) for nodes in all_nodes]


def risk_of(all_nodes: Iterable[Nodes], start_hours: float) -> Terms:
    """Interruptions: while a lost node is started again, its price is paid for nothing."""
    return [
        (nodes.bought, nodes.pool.price_per_node_hour * nodes.pool.interruptions_per_hour * start_hours)
        for nodes in all_nodes
        if nodes.pool.spot and start_hours > 0
    ]
