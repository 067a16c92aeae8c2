"""What the objects' statuses say, computed whole from the view and the decision. Conditions keep their transition time
while their status stays the same; what a person should change stands in the message."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from motley_operator import reasons
from motley_operator.admission import inspected, key_of, needs_inspection, source_of
from motley_operator.api import Condition, Fleet, GPUPool, Model, Plan, Resource, Shape
from motley_operator.api.base import ApiModel
from motley_operator.api.fleet import FleetStatus
from motley_operator.api.gpupool import GPUPoolStatus
from motley_operator.api.model import ModelStatus
from motley_operator.api.plan import PlannedModel, PlanStatus
from motley_operator.fleet import FleetView, PodView
from motley_operator.formulation import Formulation
from motley_operator.manifests import Group
from motley_operator.planning import Decision, sequence, single_type, tampering
from motley_operator.reasons import Finding

MESSAGE = 1024
"""Longest message of a condition."""


@dataclass(frozen=True)
class Outcome:
    """What a pass decided and how applying it went, by key of the object (`Model default/chat`)."""

    view: FleetView
    formulation: Formulation
    decision: Decision
    groups: Sequence[Group] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


Status = tuple[Resource, ApiModel]
"""An object and the status it should have."""


def statuses(outcome: Outcome) -> tuple[Status, ...]:
    view = outcome.view
    fleets = [view.fleet] if view.fleet.metadata.uid else []
    return (
        *((fleet, _fleet(fleet, outcome)) for fleet in fleets),
        *((pool, _pool(pool, outcome)) for pool in view.pools),
        *((model, _model(model, outcome)) for model in view.models),
        *((plan, _plan(plan, outcome)) for plan in view.plans),
    )


def _condition(
    kind: str, status: bool | None, finding: Finding, resource: Resource, before: Iterable[Condition], now: datetime
) -> Condition:
    value: Literal["True", "False", "Unknown"] = "Unknown" if status is None else "True" if status else "False"
    last = next((one for one in before if one.type == kind), None)
    stamp = last.last_transition_time if last and last.status == value else now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Condition(
        type=kind,
        status=value,
        reason=finding.reason,
        message=finding.message[:MESSAGE],
        observed_generation=resource.metadata.generation,
        last_transition_time=stamp,
    )


def _fleet(fleet: Fleet, outcome: Outcome) -> FleetStatus:
    decision = outcome.decision
    active = decision.active
    ready = decision.trouble or Finding(
        reasons.READY, f"Plan {active.metadata.name} is in force" if active else "nothing to serve yet"
    )
    return FleetStatus(
        conditions=(
            _condition("Ready", decision.trouble is None, ready, fleet, fleet.status.conditions, outcome.view.now),
        ),
        cost_per_hour=f"{active.spec.cost_per_hour:.2f}" if active else "",
        plan=active.metadata.name if active else "",
    )


def _pool(pool: GPUPool, outcome: Outcome) -> GPUPoolStatus:
    view, active = outcome.view, outcome.decision.active
    name = pool.metadata.name
    planned = next((one for one in active.spec.nodes if one.pool == name), None) if active else None
    nodes = planned.nodes if planned else 0
    ready_nodes = sum(node.ready for node in view.nodes_of(pool))
    replicas = sum(one.replicas for one in view.deployments if one.pool == name)
    refused = outcome.formulation.findings.get(key_of(pool))
    accepted = refused or Finding(reasons.ACCEPTED, "takes part in planning")
    if refused:
        ready = refused
        if refused.reason == reasons.DRAINING:
            ready = Finding(reasons.DRAINING, f"{replicas} replicas still run here; they move by the next plan")
    elif not nodes:
        paid = f"; {planned.reserved} reserved nodes are paid for all the same" if planned and planned.reserved else ""
        ready = Finding(reasons.IDLE, f"the plan needs no node of this pool{paid}")
    elif ready_nodes < nodes:
        ready = Finding(
            reasons.NO_NODES,
            f"{ready_nodes} of {nodes} planned nodes are there; bring nodes that carry spec.nodeSelector up, or lower "
            "spec.maxNodes to what can be had",
        )
    else:
        ready = Finding(reasons.READY, f"{nodes} of {ready_nodes} nodes are in use")
    before, now = pool.status.conditions, view.now
    good = ready.reason in (reasons.READY, reasons.IDLE)
    return GPUPoolStatus(
        conditions=(
            _condition("Accepted", refused is None, accepted, pool, before, now),
            _condition("Ready", good, ready, pool, before, now),
        ),
        nodes_ready=ready_nodes,
        nodes_planned=nodes,
        replicas=replicas,
        cost_per_hour=f"{planned.cost_per_hour if planned else 0.0:.2f}",
    )


def _model(model: Model, outcome: Outcome) -> ModelStatus:
    view, active = outcome.view, outcome.decision.active
    refused = outcome.formulation.findings.get(key_of(model))
    groups = [group for group in outcome.groups if group.model.key == model.key]
    planned = next((one for one in active.spec.models if one.model == model.key), None) if active else None
    deployed = {one.name: one for one in view.deployments if one.namespace == model.metadata.namespace}
    wanted = sum(group.allocation.replicas for group in groups)
    up = sum(min(g.allocation.replicas, deployed[g.name].ready) for g in groups if g.name in deployed)
    before, now = model.status.conditions, view.now
    accepted = refused or Finding(reasons.ACCEPTED, "takes part in planning")
    is_planned, planning = _planning(model, outcome, refused)
    is_ready, ready = _readiness(model, outcome, planning if not wanted else None, wanted, up)
    is_met, met = _slo(model, outcome)
    shape, shape_source = _shape(model, view)
    return ModelStatus(
        conditions=(
            _condition("Accepted", refused is None, accepted, model, before, now),
            _condition("Planned", is_planned, planning, model, before, now),
            _condition("Ready", is_ready, ready, model, before, now),
            _condition("SLOMet", is_met, met, model, before, now),
        ),
        shape=shape,
        shape_source=shape_source,
        replicas=wanted,
        ready_replicas=up,
        placement=placement(groups),
        cost_per_hour=f"{planned.cost_per_hour:.2f}" if planned else "",
        predicted=prediction(planned, float(model.spec.slo.attainment)) if planned else "",
        plan=active.metadata.name if active and planned else "",
    )


def _shape(model: Model, view: FleetView) -> tuple[Shape | None, str]:
    """Read by the inspection of the present source, else what was known."""
    if needs_inspection(model) and isinstance(found := inspected(model, view), Shape):
        return found, source_of(model)
    return model.status.shape, model.status.shape_source


def _planning(model: Model, outcome: Outcome, refused: Finding | None) -> tuple[bool, Finding]:
    decision, active = outcome.decision, outcome.decision.active
    if refused:
        return False, refused
    planned = next((one for one in active.spec.models if one.model == model.key), None) if active else None
    if active is None or planned is None:
        return False, decision.trouble or Finding(reasons.NOT_PLANNED, "no plan in force holds this Model yet")
    left_out = [one for one in active.spec.unserved if one.model == model.key]
    if left_out:
        rate = sum(one.rate for one in left_out)
        if not rate:  # all of the load is served; what lacks is the minimum of replicas
            return False, Finding(reasons.INFEASIBLE, f"spec.scaling.{left_out[0].reason}")
        why = "; ".join(dict.fromkeys(f"{one.input_tokens}+{one.output_tokens}: {one.reason}" for one in left_out))
        reason = reasons.PARTLY_PLANNED if planned.replicas else reasons.NOT_PLANNED
        return False, Finding(reason, f"{rate:.3g} req/s are not served: {why}")
    if decision.trouble:
        return True, Finding(
            reasons.PLANNED, f"as in Plan {active.metadata.name}; a newer one: {decision.trouble.message}"
        )
    return True, Finding(reasons.PLANNED, f"as in Plan {active.metadata.name}")


def _readiness(model: Model, outcome: Outcome, unplanned: Finding | None, wanted: int, up: int) -> tuple[bool, Finding]:
    failure = outcome.failures.get(key_of(model))
    if failure:
        return False, Finding(reasons.APPLY_FAILED, failure)
    if unplanned:
        serves_nothing = Finding(reasons.NOT_READY, "no replica is planned: spec.scaling.minReplicas is 0 and no load")
        return False, serves_nothing if unplanned.reason == reasons.PLANNED else unplanned
    if up >= wanted:
        return True, Finding(reasons.READY, f"{up} of {wanted} replicas are ready")
    names = {group.fingerprint for group in outcome.groups if group.model.key == model.key}
    pods = [pod for pod in outcome.view.pods if pod.configuration in names and not pod.ready]
    return False, _trouble(pods, f"{up} of {wanted} replicas are ready")


def _trouble(pods: Iterable[PodView], so_far: str) -> Finding:
    for pod in sorted(pods, key=lambda pod: (pod.unschedulable_since is not None, pod.name)):
        if pod.trouble and pod.unschedulable_since is None:
            return Finding(reasons.ENGINE_FAILING, f"{so_far}; pod {pod.name}: {pod.trouble}")
        if pod.trouble:
            return Finding(reasons.UNSCHEDULABLE, f"{so_far}; pod {pod.name} on pool {pod.pool}: {pod.trouble}")
    return Finding(reasons.NOT_READY, f"{so_far}; the others are starting")


def _slo(model: Model, outcome: Outcome) -> tuple[bool | None, Finding]:
    traffic, target = outcome.view.traffic.get(model.key), float(model.spec.slo.attainment)
    if traffic is None or not traffic.requests:
        return None, Finding(reasons.NO_TRAFFIC, "no requests in the last minutes; status.predicted is the plan's word")
    # rounded, for exact figures would be written anew at every pass; they are in the routers' metrics
    said = f"{traffic.attainment:.0%} of about {float(f'{traffic.requests:.1g}'):.0f} requests attained it, the target "
    said += f"is {target:.2%}"
    if traffic.attainment >= target:
        return True, Finding(reasons.SLO_MET, said)
    return False, Finding(reasons.SLO_MISSED, said)


def _plan(plan: Plan, outcome: Outcome) -> PlanStatus:
    active, before, now = outcome.decision.active, plan.status.conditions, outcome.view.now
    is_active = active is not None and active.metadata.name == plan.metadata.name
    newer = active is None or sequence(plan) > sequence(active)
    if is_active:
        force = Finding(reasons.ACTIVE, "in force")
    elif newer and (tampered := tampering(plan)):
        force = tampered
    elif newer and not plan.spec.approved:
        force = Finding(reasons.WAITING_FOR_APPROVAL, "set spec.approved to true to apply it")
    else:
        # which one is not said: every new plan would have all old ones written anew
        force = Finding(reasons.SUPERSEDED, "another one is in force" if active else "")
    left_out = plan.spec.unserved
    complete = Finding(reasons.PLANNED, "the whole load is planned")
    if left_out:
        names = ", ".join(sorted({one.model for one in left_out}))
        complete = Finding(reasons.PARTLY_PLANNED, f"left out, see spec.unserved: {names}")
    return PlanStatus(
        conditions=(
            _condition("Active", is_active, force, plan, before, now),
            _condition("Complete", not left_out, complete, plan, before, now),
        ),
        single_type=single_type(plan),
    )


def placement(groups: Iterable[Group]) -> str:
    """`2×L4 + 1×A100 TP2`"""
    counts: dict[tuple[str, int], int] = {}
    for group in groups:
        key = (group.allocation.gpu, group.allocation.tensor_parallel)
        counts[key] = counts.get(key, 0) + group.allocation.replicas
    return " + ".join(f"{n}×{gpu}" + (f" TP{tp}" if tp > 1 else "") for (gpu, tp), n in sorted(counts.items()))


def prediction(planned: PlannedModel, target: float) -> str:
    """`met (Estimated ±25%)`: what the plan expects, not what was measured."""
    met = planned.predicted_attainment >= target - 1e-9
    said = "met" if met else f"{planned.predicted_attainment:.1%}"
    basis = "Estimated" if planned.estimated else "Profile"
    return f"{said} ({basis} ±{planned.error:.0%})" if planned.replicas else ""
