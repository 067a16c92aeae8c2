"""Why something is not served, in words that say what to change. It reads problems and finished decisions;
it decides nothing."""

from collections.abc import Iterable, Mapping

from motley_solver.packing import per_node, size_of
from motley_solver.problem import Capacity, Configuration, ModelDemand, Pool, Problem, ShortfallKind
from motley_solver.workload import Bucket


def room_in(configuration: Configuration, pools: Mapping[str, Pool]) -> list[Pool]:
    """The pools with stock whose nodes are large enough for a replica."""
    known = [pools[name] for name in configuration.pools if name in pools]
    return [pool for pool in known if pool.max_nodes > 0 and per_node(size_of(configuration), pool) > 0]


def _nearest(short: Iterable[tuple[Configuration, Capacity]], kind: ShortfallKind) -> tuple[str, float, float] | None:
    """The configuration that lacks least: (key, needed, available)."""
    found = [
        (c.shortfall.needed / max(c.shortfall.available, 1e-12), configuration.key, c.shortfall)
        for configuration, c in short
        if c.shortfall is not None and c.shortfall.kind == kind
    ]
    if not found:
        return None
    _, key, shortfall = min(found, key=lambda entry: entry[:2])
    return key, shortfall.needed, shortfall.available


def _incapable(model: ModelDemand, bucket: Bucket) -> str:
    """No configuration attains the SLO; what came nearest to it, latency before memory."""
    short = [(configuration, configuration.capacity(bucket)) for configuration in model.configurations]
    for kind, name, field in (("tpot", "TPOT", "slo.tpot"), ("ttft", "TTFT", "slo.ttft")):
        nearest = _nearest(short, "tpot" if kind == "tpot" else "ttft")
        if nearest:
            key, best, target = nearest
            return (
                f"no GPU meets {name} {target * 1000:.0f} ms: at best {best * 1000:.0f} ms with {key}; "
                f"loosen {field}, or add a pool with faster GPUs or more tensor parallelism"
            )
    if nearest := _nearest(short, "kv"):
        key, needed, available = nearest
        return (
            f"{needed:.0f} tokens do not fit in KV memory: at most {available:.0f} with {key}; "
            "add a pool with larger GPUs, more tensor parallelism, or an FP8 KV cache"
        )
    if nearest := _nearest(short, "context"):
        _, needed, available = nearest
        return f"{needed:.0f} tokens exceed the context limit {available:.0f}: raise it or drop this size"
    if nearest := _nearest(short, "memory"):
        key, needed, available = nearest
        return (
            f"the weights do not fit on any GPU: {needed:.1f} GiB needed per GPU, at most {available:.1f} GiB "
            f"with {key}; add a pool with larger GPUs, more tensor parallelism, or quantise"
        )
    return "no profile covers this size and none can be estimated: add a Profile"


def _without_room(able: Iterable[Configuration], pools: Mapping[str, Pool]) -> str:
    known = {name: pools[name] for c in able for name in c.pools if name in pools}
    if not known:
        return "none of the model's pools exists: add a GPUPool, or allow one in its placement"
    empty = sorted(name for name, pool in known.items() if pool.max_nodes == 0)
    if len(empty) == len(known):
        return f"pool {', '.join(empty)} may have no node (max 0): raise its maximum or add a pool"
    small = next(pool for pool in known.values() if pool.max_nodes > 0)
    c = next(c for c in able if small.name in c.pools)
    return (
        f"a replica takes {c.gpus} GPUs, {c.cpus:g} CPUs and {c.memory_gib:g} GiB, a node of pool {small.name} has "
        f"{small.gpus_per_node}, {small.cpus_per_node:g} and {small.memory_gib_per_node:g}: "
        "add a pool with larger nodes or ask for less"
    )


def hopeless(problem: Problem, model: ModelDemand, bucket: Bucket) -> str | None:
    """Why no plan at all could serve this bucket; None when one could."""
    pools = {pool.name: pool for pool in problem.pools}
    if not model.configurations:
        return "no pool may run this model: add a GPUPool, or allow one in its placement"
    able = [c for c in model.configurations if c.capacity(bucket).rate > 0]
    slow = [c for c in model.configurations if c.capacity(bucket).best_effort > 0] if model.attainment < 1 else []
    if any(room_in(c, pools) for c in [*able, *slow]):
        return None
    return _without_room(able, pools) if able else _incapable(model, bucket)


def scarce(
    problem: Problem,
    model: ModelDemand,
    bucket: Bucket,
    nodes: Mapping[str, int],
    cost: float,
    replicas: int,
) -> str:
    """What kept a bucket out that could be served: the model's own limit, the budget, or the pools' stock."""
    pools = {pool.name: pool for pool in problem.pools}
    able = [c for c in model.configurations if c.capacity(bucket).rate > 0]
    if not any(room_in(c, pools) for c in able):
        allowed = f"{1 - model.attainment:.3g} of the load may be outside the SLO; "
        return allowed + (_without_room(able, pools) if able else _incapable(model, bucket))
    if model.max_replicas is not None and replicas >= model.max_replicas:
        return f"the model has its {model.max_replicas} replicas: raise maxReplicas"
    usable = {pool.name: pool for c in able for pool in room_in(c, pools)}
    free = [pool for pool in usable.values() if nodes.get(pool.name, 0) < pool.max_nodes]
    if not free:
        full = ", ".join(f"{name} ({usable[name].max_nodes})" for name in sorted(usable))
        return f"all nodes of pool {full} are in use: raise its maximum or add a pool"
    if problem.budget_per_hour is not None:
        cheapest = min(free, key=lambda pool: (pool.price_per_node_hour, pool.name))
        return (
            f"the budget {problem.budget_per_hour:g} per hour leaves {max(0.0, problem.budget_per_hour - cost):.4g}: "
            f"more needs a node of pool {cheapest.name} at {cheapest.price_per_node_hour:g} or larger"
        )
    return "what is left of the pools holds no further replica: raise a pool's maximum or add a pool"
