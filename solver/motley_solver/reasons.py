"""Why something is not served, in words that say what to change. It reads problems and finished decisions;
it decides nothing."""

from collections.abc import Iterable, Mapping

from motley_solver.packing import per_node, size_of
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem, Shortfall, ShortfallKind
from motley_solver.workload import Bucket


def room_in(configuration: Configuration, pools: Mapping[str, Pool]) -> list[Pool]:
    """The pools with stock whose nodes are large enough for a replica."""
    known = [pools[name] for name in configuration.pools if name in pools]
    return [pool for pool in known if pool.max_nodes > 0 and per_node(size_of(configuration), pool) > 0]


def servable(able: Iterable[Configuration], pools: Mapping[str, Pool]) -> bool:
    """Do these make a route: an aggregated one, or a prefill and a decode one that understand each other's caches?"""
    prefill: set[tuple[str, str]] = set()
    decode: set[tuple[str, str]] = set()
    for c in able:
        if c.role == "aggregated":
            return True
        side = prefill if c.role == "prefill" else decode
        side |= {(pools[name].fabric, c.kv_class) for name in c.pools if name in pools and pools[name].fabric}
    return bool(prefill & decode)


def _with_partners(able: Iterable[Configuration], pools: Mapping[str, Pool]) -> list[Configuration]:
    """Without the halves that find no other half."""
    able = list(able)
    return [c for c in able if servable([c, *(o for o in able if {o.role, c.role} == {"prefill", "decode"})], pools)]


_KINDS: tuple[ShortfallKind, ...] = ("tpot", "ttft", "kv", "context", "dtype", "memory", "heads")
"""In the order in which a cure is worth trying."""


def nearest_shortfall(model: ModelDemand, bucket: Bucket) -> tuple[Configuration, Shortfall] | None:
    """What came nearest to serving a bucket that nothing serves, latency before memory, and what it lacks. Half a route
    comes near only where something can be the other half."""
    able = {c.role for c in model.configurations if c.capacity(bucket).rate > 0}
    near = [c for c in model.configurations if c.role == "aggregated" or able & ({"prefill", "decode"} - {c.role})]
    short = _shortfalls(near, bucket) or _shortfalls(model.configurations, bucket)
    for kind in _KINDS:
        if of_kind := [entry for entry in short if entry[2].kind == kind]:
            _, configuration, shortfall = min(of_kind, key=lambda entry: (entry[0], entry[1].key))
            return configuration, shortfall
    return None


def _shortfalls(
    configurations: Iterable[Configuration], bucket: Bucket
) -> list[tuple[float, Configuration, Shortfall]]:
    """How many times too much is needed, by what, and of what."""
    return [
        (c.shortfall.needed / max(c.shortfall.available, 1e-12), configuration, c.shortfall)
        for configuration, c in ((configuration, configuration.capacity(bucket)) for configuration in configurations)
        if c.shortfall is not None and c.rate == 0
    ]


def _named(configuration: Configuration) -> str:
    """`H100 TP2`, `prefill on L4`."""
    degree = f" TP{configuration.tensor_parallel}" if configuration.tensor_parallel > 1 else ""
    role = "" if configuration.role == "aggregated" else f"{configuration.role} on "
    return f"{role}{configuration.gpu}{degree}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _incapable(model: ModelDemand, bucket: Bucket) -> str:
    """No configuration attains the SLO."""
    nearest = nearest_shortfall(model, bucket)
    if nearest is None:
        return "no profile covers this size and none can be estimated: add a Profile"
    nearest_way, lack = nearest
    way = _named(nearest_way)
    match lack.kind:
        case "tpot" | "ttft":
            target = f"{lack.kind.upper()} {lack.available * 1000:.0f} ms"
            found = f"{lack.needed * 1000:.0f} ms with {way}"
            missed = f"no GPU meets {target}: at best {found}"
            if lack.needed <= lack.available:
                missed = f"no GPU meets {target} often enough: {found} as soon as two requests meet"
            return f"{missed}; loosen slo.{lack.kind}, or add a pool with faster GPUs or more tensor parallelism"
        case "kv":
            return (
                f"{lack.needed:.0f} tokens do not fit in KV memory: at most {lack.available:.0f} with {way}; "
                "add a pool with larger GPUs, more tensor parallelism, or an FP8 KV cache"
            )
        case "context":
            return f"{lack.needed:.0f} tokens exceed the context limit {lack.available:.0f}: raise it or drop this size"
        case "dtype":
            return (
                f"{way} GPUs have neither BF16 nor FP8: set dtype to float16 (and no FP8 weights or KV cache), "
                "or add a pool with newer GPUs"
            )
        case "heads":
            return f"the heads do not split over {lack.needed:.0f} GPUs: allow another tensorParallel in its placement"
        case _:
            return (
                f"the weights fit nowhere: {lack.needed:.1f} GiB are needed on each GPU, "
                f"at most {lack.available:.1f} GiB are usable with {way}; "
                "add a pool with larger GPUs or with more of them in a node, or quantise"
            )


def _without_room(able: Iterable[Configuration], pools: Mapping[str, Pool]) -> str:
    known = {name: pools[name] for c in able for name in c.pools if name in pools}
    if not known:
        return "none of the model's pools exists: add a GPUPool, or allow one in its placement"
    empty = sorted(name for name, pool in known.items() if pool.max_nodes == 0)
    if len(empty) == len(known):
        return f"pool {', '.join(empty)} may have no node: raise its maxNodes of 0 or add a pool"
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
        return "no pool with nodes may run it: raise a maxNodes of 0, add a GPUPool, or allow one in its placement"
    able = [c for c in model.configurations if c.capacity(bucket).rate > 0]
    slow = [c for c in model.configurations if c.capacity(bucket).best_effort > 0] if model.attainment < 1 else []
    if servable((c for c in [*able, *slow] if room_in(c, pools)), pools):
        return None
    if servable(able, pools):
        return _without_room(able, pools)
    halves = {c.role for c in able}
    return _UNPAIRED if halves == {"prefill", "decode"} else _incapable(model, bucket)


_UNPAIRED = (
    "what could prefill this size and what could decode it have no fabric and no form of the KV cache in common: "
    "put their pools into one fabric, or add a pool that does both"
)


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
    routed = _with_partners((c for c in able if room_in(c, pools)), pools)
    if not routed:
        why = _without_room(able, pools) if able else _incapable(model, bucket)
        return f"{why}; at most {_percent(1 - model.attainment)} of the load may miss the SLO"
    if model.max_replicas is not None and replicas >= model.max_replicas:
        return f"it has its maxReplicas of {model.max_replicas}: raise maxReplicas"
    usable = {pool.name: pool for c in routed for pool in room_in(c, pools)}
    free = [pool for pool in usable.values() if nodes.get(pool.name, 0) < pool.max_nodes]
    if not free:
        full = ", ".join(f"{name} ({usable[name].max_nodes})" for name in sorted(usable))
        noun, whose = ("pool", "its maxNodes") if len(usable) == 1 else ("pools", "the maxNodes of one")
        return f"all nodes of {noun} {full} are in use: raise {whose} or add a pool"
    if problem.budget_per_hour is not None:
        cheapest = min(free, key=lambda pool: (pool.price_per_node_hour, pool.name))
        return (
            f"the budget of {problem.budget_per_hour:.2f} per hour leaves "
            f"{max(0.0, problem.budget_per_hour - cost):.2f}, and one more node costs at least "
            f"{cheapest.price_per_node_hour:.2f} (pool {cheapest.name}): raise the budget"
        )
    if model.survivability > 0:
        return (
            f"{_percent(model.survivability)} of the load must survive the loss of any one Spot pool, and what the "
            "other pools have left allows no more: raise the maxNodes of one, add a pool, or lower the survivability"
        )
    return "what is left of the pools holds no further replica: raise the maxNodes of one or add a pool"
