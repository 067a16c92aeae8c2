"""What was decided, as the document that `-o json` prints and the table shows. Pure: no files, no terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from motley_operator.api import PlanSpec
from motley_operator.formulation import Formulation
from motley_operator.planning import plan_of
from motley_operator.triggers import inputs_of
from motley_solver.plan import Infeasible, ModelSummary, Outcome, Plan, Unsolved

Json = dict[str, Any]

PLANNED, INCOMPLETE, INFEASIBLE, UNSOLVED = "Planned", "Incomplete", "Infeasible", "Unsolved"


def report(outcome: Outcome, formulation: Formulation, refused: Iterable[Json]) -> Json:
    """`refused`: objects that take no part in the plan, each with its reason, message and place in the files."""
    left_out = list(refused)
    match outcome:
        case Infeasible(reasons):
            return _without_plan(INFEASIBLE, list(reasons), formulation, left_out)
        case Unsolved(reason):
            return _without_plan(UNSOLVED, [reason], formulation, left_out)
        case Plan():
            return _planned(outcome, formulation, left_out)


def _without_plan(status: str, reasons: list[str], formulation: Formulation, refused: list[Json]) -> Json:
    waiting = [
        _unserved(model.name, load.bucket.input_tokens, load.bucket.output_tokens, load.rate, "; ".join(reasons))
        for model in formulation.problem.models
        for load in model.buckets
    ]
    return {
        "status": status,
        "reasons": reasons,
        "costPerHour": None,
        "switchingPerHour": None,
        "riskPerHour": None,
        "objective": None,
        "lowerBound": None,
        "proven": False,
        "pools": [],
        "models": [],
        "comparisons": [],
        "unserved": waiting + _refused_models(refused),
        "refused": refused,
        "inputs": inputs_of(formulation),
        "solveSeconds": None,
    }


def _planned(plan: Plan, formulation: Formulation, refused: list[Json]) -> Json:
    spec = plan_of(formulation.problem, plan, reason="", inputs={}, sequence=1).spec
    unserved = [
        _unserved(one.model, one.input_tokens, one.output_tokens, one.rate, one.reason) for one in spec.unserved
    ]
    unserved += _refused_models(refused)
    return {
        "status": INCOMPLETE if unserved or refused else PLANNED,
        "reasons": [],
        "costPerHour": spec.cost_per_hour,
        "switchingPerHour": round(plan.switching_per_hour, 6),
        "riskPerHour": round(plan.risk_per_hour, 6),
        "objective": spec.objective,
        "lowerBound": spec.lower_bound,
        "proven": spec.proven,
        "pools": _pools(spec, formulation),
        "models": [_model(spec, summary, formulation) for summary in plan.models],
        "comparisons": [_comparison(one.to_json(), spec.cost_per_hour) for one in spec.comparisons],
        "unserved": unserved,
        "refused": refused,
        "inputs": inputs_of(formulation),
        "solveSeconds": spec.solve_seconds,
    }


def _unserved(model: str, input_tokens: int | None, output_tokens: int | None, rate: float, reason: str) -> Json:
    return {
        "model": model,
        "inputTokens": input_tokens,
        "outputTokens": output_tokens,
        "rate": round(rate, 6),
        "reason": reason,
    }


def _refused_models(refused: Iterable[Json]) -> list[Json]:
    """All sizes of a Model that takes no part."""
    models = [one for one in refused if one["kind"] == "Model"]
    return [_unserved(one["name"], None, None, one["rate"], one["message"]) for one in models]


def _pools(spec: PlanSpec, formulation: Formulation) -> list[Json]:
    used = {one.pool: one for one in spec.nodes}
    reserved = {one.name: one.reserved_nodes for one in formulation.problem.pools}
    return [
        {
            "pool": name,
            "gpu": pool.spec.gpu,
            "nodes": used[name].nodes if name in used else 0,
            "maxNodes": pool.spec.max_nodes,
            "reservedNodes": reserved.get(name, 0),
            "pricePerNodeHour": float(pool.spec.price_per_node_hour),
            "costPerHour": used[name].cost_per_hour if name in used else 0.0,
        }
        for name, pool in sorted(formulation.pools.items())
    ]


def _model(spec: PlanSpec, summary: ModelSummary, formulation: Formulation) -> Json:
    allocations = [one.to_json() for one in spec.allocations if one.model == summary.model]
    buckets = next((one.buckets for one in spec.assignment if one.model == summary.model), ())
    target = next(one.attainment for one in formulation.problem.models if one.name == summary.model)
    return {
        "model": summary.model,
        "servedName": formulation.models[summary.model].served_name,
        "rate": round(summary.rate, 6),
        "served": round(summary.served, 6),
        "replicas": summary.replicas,
        "costPerHour": round(summary.cost_per_hour, 6),
        "predicted": {
            "attainment": round(summary.predicted_attainment, 6),
            "target": target,
            "met": summary.predicted_attainment >= target - 1e-9,
            "estimated": summary.estimated,
            "error": max((one["error"] for one in allocations), default=0.0),
        },
        "allocations": [{name: one[name] for name in one if name != "model"} for one in allocations],
        "assignment": [bucket.to_json() for bucket in buckets],
    }


def _comparison(one: Mapping[str, Any], cost: float) -> Json:
    alone = one.get("costPerHour")
    saving = round(1 - cost / alone, 6) + 0.0 if alone else None  # a negative zero would be shown
    return {"gpu": one["gpu"], "costPerHour": alone, "saving": saving, "reason": one.get("reason", "")}
