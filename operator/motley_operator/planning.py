"""Problem → which Plan holds: the newest that may be applied, or a new one where the inputs ask for it."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from motley_operator import reasons
from motley_operator.api import Metadata, Plan, PlanSpec
from motley_operator.api.plan import (
    Comparison,
    EngineSettings,
    PlannedAllocation,
    PlannedAssignment,
    PlannedBucket,
    PlannedModel,
    PlannedNodes,
    Role,
    Share,
    Unserved,
)
from motley_operator.fleet import FleetView
from motley_operator.formulation import Formulation
from motley_operator.reasons import Finding
from motley_operator.triggers import inputs_of, replan
from motley_solver import check
from motley_solver.plan import Allocation, Infeasible, Outcome, Unsolved
from motley_solver.plan import Plan as Solved
from motley_solver.plan import Unserved as SolvedUnserved
from motley_solver.problem import Problem
from motley_solver.problem import Role as SolvedRole

KEPT_PLANS = 20
UNSERVED_ROWS = 500
"""More are folded by Model: an object has a largest size (etcd's 1.5 MiB)."""
_NAME = re.compile(r"^plan-([0-9]{6,})-[0-9a-f]+$")

Solve = Callable[[Problem], Outcome]


@dataclass(frozen=True)
class Decision:
    """`active` is to be deployed (None: leave everything as it is); `new` is to be stored; `obsolete` may go."""

    active: Plan | None
    new: Plan | None = None
    obsolete: tuple[str, ...] = ()
    trouble: Finding | None = None
    """Why there is no better plan than the active one."""
    trigger: Finding | None = None


def decision(view: FleetView, formulation: Formulation, solve: Solve) -> Decision:
    """Plans anew where the inputs changed; fails static: without a new plan the last one stays."""
    if view.unreadable:  # of another version: what it asks for is not known, so nothing is moved
        words = "; ".join(f"{one.kind} {one.key}: {one.message}" for one in view.unreadable)
        return Decision(
            applicable(view), trouble=Finding(reasons.UNREADABLE, f"{words}; bring operator and CRDs to one version")
        )
    newest = max(view.plans, key=sequence, default=None)
    inputs = inputs_of(formulation)
    trigger = replan(newest.spec.inputs if newest else None, inputs)
    if trigger is None or (newest is None and not formulation.models):
        return _settled(view, None)
    outcome = solve(formulation.problem)
    if isinstance(outcome, Infeasible):
        trouble = Finding(reasons.INFEASIBLE, "; ".join(outcome.reasons))
        return Decision(applicable(view), trouble=trouble, trigger=trigger)
    if isinstance(outcome, Unsolved):
        return Decision(applicable(view), trouble=Finding(reasons.UNSOLVED, outcome.reason), trigger=trigger)
    broken = check.violations(formulation.problem, outcome)
    if broken:
        return Decision(applicable(view), trouble=Finding(reasons.CHECK_FAILED, "; ".join(broken)), trigger=trigger)
    new = plan_of(formulation.problem, outcome, trigger.message, inputs, sequence(newest) + 1 if newest else 1)
    return _settled(view, new, trigger)


def _settled(view: FleetView, new: Plan | None, trigger: Finding | None = None) -> Decision:
    plans = (*view.plans, new) if new else view.plans
    active = applicable(view, plans)
    newest = max(plans, key=sequence, default=None)
    waiting = None
    if newest is not None and newest is not active:
        waiting = tampering(newest) or Finding(
            reasons.WAITING_FOR_APPROVAL,
            f"Plan {newest.metadata.name} waits: kubectl patch plan {newest.metadata.name} --type=merge "
            """-p '{"spec":{"approved":true}}'""",
        )
    old = sorted(plans, key=sequence)[:-KEPT_PLANS]
    obsolete = tuple(plan.metadata.name for plan in old if plan is not active)
    return Decision(active, new, obsolete, waiting, trigger)


def applicable(view: FleetView, plans: tuple[Plan, ...] | None = None) -> Plan | None:
    """The newest plan that still says what was decided; where approval is manual, of those that a person approved."""
    manual = view.fleet.spec.approval == "Manual"
    candidates = [plan for plan in (view.plans if plans is None else plans) if plan.spec.approved or not manual]
    return next((plan for plan in sorted(candidates, key=sequence, reverse=True) if not tampering(plan)), None)


def tampering(plan: Plan) -> Finding | None:
    """What a Plan says was checked when it was made; one that says something else now must not be applied."""
    if plan.spec.digest == digest_of(plan.spec):
        return None
    name = plan.metadata.name
    return Finding(
        reasons.TAMPERED,
        f"Plan {name} was changed after it was made: its digest does not fit what it says, so it is not applied; "
        f"remove it: kubectl delete plan {name}",
    )


_DECIDED = {"allocations", "nodes", "models", "assignment", "unserved"}


def digest_of(spec: PlanSpec) -> str:
    """Fingerprint of what was decided. Defaults are left out, so that fields which are added later do not change it."""
    decided = spec.model_dump(mode="json", by_alias=True, include=_DECIDED, exclude_defaults=True)
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:10]


def sequence(plan: Plan) -> int:
    match = _NAME.match(plan.metadata.name)
    return int(match[1]) if match else 0


def plan_of(problem: Problem, solved: Solved, reason: str, inputs: dict[str, str], sequence: int) -> Plan:
    """The decision as a Plan object. Its name counts up, so that the newest one is known without a clock."""
    errors = {(model.name, c.key): c.error for model in problem.models for c in model.configurations}
    spec = PlanSpec(
        digest="",
        inputs=inputs,
        cost_per_hour=_rounded(solved.cost_per_hour),
        objective=_rounded(solved.objective),
        lower_bound=_rounded(solved.lower_bound),
        switching_per_hour=_rounded(solved.switching_per_hour),
        risk_per_hour=_rounded(solved.risk_per_hour),
        proven=solved.proven,
        reason=reason,
        allocations=tuple(_allocation(one, errors[one.model, one.configuration]) for one in solved.allocations),
        nodes=tuple(
            PlannedNodes(
                pool=one.pool, nodes=one.nodes, cost_per_hour=_rounded(one.cost_per_hour), reserved=one.reserved
            )
            for one in solved.nodes
        ),
        models=_models(solved, errors),
        assignment=_assignments(problem, solved),
        comparisons=tuple(
            Comparison(gpu=one.gpu, cost_per_hour=one.cost_per_hour, reason=one.reason) for one in solved.comparisons
        ),
        unserved=_unserved(solved),
        solve_seconds=round(solved.solve_seconds, 3),
    )
    digest = digest_of(spec)
    return Plan(
        metadata=Metadata(name=f"plan-{sequence:06d}-{digest}"), spec=spec.model_copy(update={"digest": digest})
    )


_ROLES: Mapping[SolvedRole, Role] = {"aggregated": "Aggregated", "prefill": "Prefill", "decode": "Decode"}


def _allocation(one: Allocation, error: float) -> PlannedAllocation:
    return PlannedAllocation(
        model=one.model,
        pool=one.pool,
        gpu=one.gpu,
        tensor_parallel=one.tensor_parallel,
        role=_ROLES[one.role],
        replicas=one.replicas,
        engine=EngineSettings(
            max_num_batched_tokens=one.settings.max_num_batched_tokens,
            max_num_seqs=one.settings.max_num_seqs,
            max_model_len=one.settings.max_model_len,
        ),
        estimated=one.estimated,
        error=error,
    )


def _rounded(value: float) -> float:
    """Without a negative zero, which would come back from the API server as another number than it was digested as."""
    return round(value, 6) + 0.0


def _unserved(solved: Solved) -> tuple[Unserved, ...]:
    """One row a size, the largest rates first; where that would make the object too large, the rest by Model."""
    rows = sorted(solved.unserved, key=lambda one: (-one.rate, one.model, one.bucket))
    rest: dict[str, list[SolvedUnserved]] = {}
    for one in rows[UNSERVED_ROWS:]:
        rest.setdefault(one.model, []).append(one)
    named = tuple(
        Unserved(
            model=one.model,
            input_tokens=one.bucket.input_tokens,
            output_tokens=one.bucket.output_tokens,
            rate=one.rate,
            reason=one.reason,
        )
        for one in rows[:UNSERVED_ROWS]
    )
    folded = (
        Unserved(
            model=model,
            input_tokens=max(one.bucket.input_tokens for one in ones),
            output_tokens=max(one.bucket.output_tokens for one in ones),
            rate=sum(one.rate for one in ones),
            reason=f"{len(ones)} sizes up to this one; the first of them: {ones[0].reason}",
        )
        for model, ones in sorted(rest.items())
    )
    return (*named, *folded)


def _models(solved: Solved, errors: Mapping[tuple[str, str], float]) -> tuple[PlannedModel, ...]:
    def error_of(model: str) -> float:
        return max((errors[model, one.configuration] for one in solved.allocations if one.model == model), default=0.0)

    return tuple(
        PlannedModel(
            model=one.model,
            replicas=one.replicas,
            cost_per_hour=_rounded(one.cost_per_hour),
            predicted_attainment=_rounded(one.predicted_attainment),
            estimated=one.estimated,
            error=error_of(one.model),
        )
        for one in solved.models
    )


def _assignments(problem: Problem, solved: Solved) -> tuple[PlannedAssignment, ...]:
    shares: dict[tuple[str, object], dict[str, float]] = {}
    for one in solved.assignment:
        of_bucket = shares.setdefault((one.model, one.bucket), {})
        of_bucket[one.configuration] = of_bucket.get(one.configuration, 0.0) + one.share
    configurations = {(model.name, c.key): c for model in problem.models for c in model.configurations}
    return tuple(
        PlannedAssignment(
            model=model.name,
            buckets=tuple(
                PlannedBucket(
                    input_tokens=load.bucket.input_tokens,
                    output_tokens=load.bucket.output_tokens,
                    rate=load.rate,
                    shares=tuple(
                        Share(
                            pool=configurations[model.name, key].pools[0],
                            tensor_parallel=configurations[model.name, key].tensor_parallel,
                            share=_rounded(share),
                            role=_ROLES[configurations[model.name, key].role],
                        )
                        for key, share in sorted(shares.get((model.name, load.bucket), {}).items())
                    ),
                )
                for load in model.buckets
            ),
        )
        for model in problem.models
    )


def single_type(plan: Plan) -> str:
    """`L4 3.20, A100 7.34, H100 cannot serve`: one line for a printer column."""
    return ", ".join(
        f"{one.gpu} {one.cost_per_hour:.2f}" if one.cost_per_hour is not None else f"{one.gpu} cannot serve"
        for one in plan.spec.comparisons
    )
