"""FleetView → who takes part in planning and why the others do not; and the Problem, when it is asked for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from motley_operator import reasons
from motley_operator.admission import admitted_models, admitted_pools, key_of
from motley_operator.api import Fleet, GPUPool, Model
from motley_operator.api.quantities import cores, gib, seconds
from motley_operator.declarations import Declaration, configuration_key, declarations, demands_of
from motley_operator.fleet import FleetView
from motley_operator.reasons import Finding
from motley_solver.problem import Pool, Problem, Running

SHORTEST_HORIZON = 60.0
"""Seconds. Divides the cost of switching, so that it must not be zero."""
FOREVER = 1e9
"""Hours. A cost that is spread over them is none."""


@dataclass(frozen=True)
class Formulation:
    """Who takes part, and by key (`Model default/chat`) why an object has no part in it."""

    declarations: tuple[Declaration, ...]
    frame: Problem
    """The problem without its models and without what runs."""
    running: tuple[Running, ...]
    pools: Mapping[str, GPUPool] = field(hash=False)
    models: Mapping[str, Model] = field(hash=False)
    findings: Mapping[str, Finding] = field(hash=False)

    @cached_property
    def problem(self) -> Problem:
        """With what every configuration can serve, which takes seconds: most passes never ask for it.

        Where nothing runs nothing is switched: all must be started, whatever is chosen."""
        return replace(
            self.frame,
            models=demands_of(self.declarations),
            running=self.running,
            horizon_hours=self.frame.horizon_hours if self.running else FOREVER,
        )


def formulated(view: FleetView, disaggregated: bool = False) -> Formulation:
    """`disaggregated`: prefill and decode may be planned onto engines of their own, where a fabric joins them."""
    pools, findings = admitted_pools(view)
    admitted, of_models = admitted_models(view)
    of_models |= {
        key_of(model): finding for model in admitted if (finding := _no_mode_left(model, pools, disaggregated))
    }
    able = [model for model in admitted if key_of(model) not in of_models]
    declared, impossible = declarations(able, pools, view.profiles, disaggregated)
    models = {model.key: model for model in able if key_of(model) not in impossible}
    return Formulation(
        declared,
        frame=_frame(view.fleet, pools),
        running=_running(view, models),
        pools={pool.metadata.name: pool for pool in pools},
        models=models,
        findings=findings | of_models | impossible,
    )


def _no_mode_left(model: Model, pools: Iterable[GPUPool], disaggregated: bool) -> Finding | None:
    wanted = model.spec.placement
    if "Aggregated" in wanted.modes or not wanted.modes:
        return None
    if not disaggregated:
        message = (
            "spec.placement.modes: Disaggregated can be planned (`motley plan`) and not be deployed yet; add Aggregated"
        )
        return Finding(reasons.MODE_NOT_DEPLOYED, message)
    own = [pool for pool in pools if not wanted.pools or pool.metadata.name in wanted.pools]
    if any(pool.spec.fabric for pool in own):
        return None
    message = (
        "spec.placement.modes: Disaggregated needs pools with a spec.fabric; give one of its pools a fabric, or add "
    )
    return Finding(reasons.NO_FABRIC, f"{message}Aggregated")


def _frame(fleet: Fleet, pools: Iterable[GPUPool]) -> Problem:
    spec = fleet.spec
    return Problem(
        models=(),
        pools=tuple(_pool(pool) for pool in pools),
        budget_per_hour=float(spec.budget_per_hour) if spec.budget_per_hour else None,
        headroom=float(spec.headroom),
        start_hours=seconds(spec.start_time) / 3600,
        horizon_hours=max(SHORTEST_HORIZON, seconds(spec.replan_horizon)) / 3600,
    )


def _pool(pool: GPUPool) -> Pool:
    spec = pool.spec
    reserved = spec.max_nodes if spec.reserved_nodes is None else spec.reserved_nodes
    return Pool(
        name=pool.metadata.name,
        gpu=spec.gpu,
        gpus_per_node=spec.node.gpus if spec.device == "gpu" else 0,
        cpus_per_node=cores(spec.node.cpu),
        memory_gib_per_node=gib(spec.node.memory),
        price_per_node_hour=float(spec.price_per_node_hour),
        max_nodes=spec.max_nodes,
        reserved_nodes=reserved if spec.capacity_type == "Reserved" else 0,
        interruptions_per_hour=float(spec.interruptions_per_hour or 0) if spec.capacity_type == "Spot" else 0.0,
        fabric=spec.fabric.name if spec.fabric else "",
    )


def _running(view: FleetView, models: Iterable[str]) -> tuple[Running, ...]:
    """What runs now, by configuration: starting something else costs."""
    found: dict[tuple[str, str, str], int] = {}
    known = set(models)
    for deployment in view.deployments:
        configuration = configuration_key(deployment.pool, deployment.tensor_parallel)
        key = (f"{deployment.namespace}/{deployment.model}", deployment.pool, configuration)
        if key[0] in known:
            found[key] = found.get(key, 0) + deployment.replicas
    return tuple(Running(*key, replicas) for key, replicas in sorted(found.items()) if replicas)
