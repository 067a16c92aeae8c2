"""Replicas and nodes: as described, within stock and limits, and each replica on a node."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from motley_solver.check.asked import Asked, fabric_of, twice
from motley_solver.check.packing import Need, packs
from motley_solver.plan import Plan
from motley_solver.problem import Configuration, Pool

_PODS_PER_NODE = 100.0


def allocations(asked: Asked, plan: Plan) -> Iterator[str]:
    for a in plan.allocations:
        c = asked.configurations[a.model, a.configuration]
        said = (a.gpu, a.tensor_parallel, a.role, a.gpus, a.settings, a.estimated)
        if said != (c.gpu, c.tensor_parallel, c.role, c.gpus, c.settings, c.estimated):
            yield f"{a.model} {a.configuration} on {a.pool} is described otherwise than in the problem"
    for model, key, pool in twice((a.model, a.configuration, a.pool) for a in plan.allocations):
        yield f"{model} {key} on {pool} is allocated twice"


def stock(asked: Asked, plan: Plan) -> Iterator[str]:
    for node in plan.nodes:
        most = asked.pools[node.pool].max_nodes
        if not 0 <= node.nodes <= most:
            yield f"pool {node.pool} has {node.nodes} nodes, allowed are 0 to {most}"


def replica_limits(asked: Asked, plan: Plan) -> Iterator[str]:
    replicas: Counter[str] = Counter()
    for a in plan.allocations:
        replicas[a.model] += a.replicas
    answering = _answering(asked, plan)
    excused = {left.model for left in plan.unserved}
    for m in asked.problem.models:
        if m.max_replicas is not None and replicas[m.name] > m.max_replicas:
            yield f"{m.name} has {replicas[m.name]} replicas, at most {m.max_replicas} are allowed"
        if answering[m.name] < m.min_replicas and m.name not in excused:  # it is said what keeps it below
            yield f"{m.name} has {answering[m.name]} replicas that answer, at least {m.min_replicas} are asked for"
    for left in plan.unserved:
        if left.rate == 0 and answering[left.model] >= asked.models[left.model].min_replicas:
            yield f"{left.model} {left.bucket} is unserved, but nothing of it is missing"


def _answering(asked: Asked, plan: Plan) -> Counter[str]:
    """Per model: aggregated replicas, and per fabric and KV class as many as both prefill and decode replicas."""
    found: Counter[str] = Counter()
    halves: defaultdict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for a in plan.allocations:
        c = asked.configurations[a.model, a.configuration]
        if c.role == "aggregated":
            found[a.model] += a.replicas
        else:
            halves[a.model, fabric_of(asked, c), c.kv_class][c.role] += a.replicas
    for (model, _, _), both in halves.items():
        found[model] += min(both["prefill"], both["decode"])
    return found


def need_of(c: Configuration) -> Need:
    return float(c.gpus), c.cpus, c.memory_gib, 1.0


def room_of(pool: Pool) -> Need:
    return float(pool.gpus_per_node), pool.cpus_per_node, pool.memory_gib_per_node, _PODS_PER_NODE


def node_fit(asked: Asked, plan: Plan) -> Iterator[str]:
    needs: dict[str, Counter[Need]] = defaultdict(Counter)
    for a in plan.allocations:
        needs[a.pool][need_of(asked.configurations[a.model, a.configuration])] += a.replicas
    for node in plan.nodes:
        if node.nodes and not needs[node.pool]:
            yield f"pool {node.pool} has {node.nodes} nodes and nothing stands on them"
        if needs[node.pool] and not packs(needs[node.pool], room_of(asked.pools[node.pool]), node.nodes):
            yield f"pool {node.pool}: its replicas do not fit on {node.nodes} nodes"
