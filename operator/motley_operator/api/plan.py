"""Plan: what was decided, at what cost, against what, and why. Cluster scope; people write only `approved`."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from motley_operator.api.base import AGE, ApiModel, Column, Condition, Crd, Resource, condition_status, rules


class EngineSettings(ApiModel):
    """What the planner chose for the engine of one configuration."""

    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len: int


Role = Literal["Aggregated", "Prefill", "Decode"]


class PlannedAllocation(ApiModel):
    model: str
    """`namespace/name`"""
    pool: str
    gpu: str
    tensor_parallel: int
    role: Role = "Aggregated"
    replicas: int
    engine: EngineSettings
    estimated: bool = False
    """True where no Profile was at hand and a roofline had to do."""
    error: float = 0.0
    """Expected relative error of the step times behind it."""


class PlannedNodes(ApiModel):
    pool: str
    nodes: int
    cost_per_hour: float
    reserved: int = 0
    """Paid for, used or not."""


class Share(ApiModel):
    pool: str
    tensor_parallel: int
    share: float
    role: Role = "Aggregated"
    """What is prefilled is decoded as well: shares of Decode add up to those of Prefill."""


class PlannedBucket(ApiModel):
    """Where the requests of one size go."""

    input_tokens: int
    output_tokens: int
    rate: float
    shares: tuple[Share, ...] = ()


class PlannedAssignment(ApiModel):
    model: str
    buckets: tuple[PlannedBucket, ...]


class PlannedModel(ApiModel):
    """What a model gets, and how the plan expects it to fare."""

    model: str
    replicas: int
    cost_per_hour: float
    """Its part of the nodes that it shares with others."""
    predicted_attainment: float
    """Share of its requests inside the SLO."""
    estimated: bool = False
    error: float = 0.0
    """Largest expected relative error of the step times behind it."""


class Comparison(ApiModel):
    """What the same traffic would cost on one GPU type alone."""

    gpu: str
    cost_per_hour: float | None = None
    reason: str = ""


class Unserved(ApiModel):
    model: str
    input_tokens: int
    output_tokens: int
    rate: float
    reason: str


_DECIDED = (
    "digest",
    "inputs",
    "costPerHour",
    "objective",
    "lowerBound",
    "proven",
    "reason",
    "allocations",
    "nodes",
    "models",
    "assignment",
    "comparisons",
    "unserved",
    "solveSeconds",
    "switchingPerHour",
    "riskPerHour",
)


class PlanSpec(ApiModel):
    model_config = {
        "json_schema_extra": rules(
            (
                " && ".join(f"self.{name} == oldSelf.{name}" for name in _DECIDED),
                "a Plan is immutable except for approved; change the Models, GPUPools or the Fleet instead",
            )
        )
    }
    digest: str
    """Fingerprint of what was decided; equal decisions make the same Plan."""
    inputs: Mapping[str, str] = Field(default={}, max_length=5000)
    """Fingerprints of what it was decided from, by object; other inputs make a new Plan."""
    approved: bool = False
    """Set by people where Fleet.spec.approval is Manual."""
    cost_per_hour: float
    objective: float
    """What was minimised: costPerHour, switchingPerHour and riskPerHour together."""
    lower_bound: float
    proven: bool = True
    """False: the time limit came before the proof; the cost may exceed the optimum by at most cost − bound."""
    reason: str = ""
    """Why it replaced the last one."""
    allocations: tuple[PlannedAllocation, ...] = Field(default=(), max_length=10_000)
    nodes: tuple[PlannedNodes, ...] = Field(default=(), max_length=1000)
    models: tuple[PlannedModel, ...] = Field(default=(), max_length=1000)
    assignment: tuple[PlannedAssignment, ...] = Field(default=(), max_length=1000)
    comparisons: tuple[Comparison, ...] = Field(default=(), max_length=256)
    unserved: tuple[Unserved, ...] = Field(default=(), max_length=10_000)
    solve_seconds: float = 0.0
    switching_per_hour: float = 0.0
    """Cost of starting replicas, spread over Fleet.spec.replanHorizon. Not part of the bill."""
    risk_per_hour: float = 0.0
    """Expected cost of Spot nodes that are taken away. Not part of the bill."""


class PlanStatus(ApiModel):
    conditions: tuple[Condition, ...] = ()
    single_type: str = ""
    """`L4 3.20, A100 7.34, H100 cannot serve`"""


class Plan(Resource):
    crd: ClassVar[Crd] = Crd(
        plural="plans",
        scope="Cluster",
        short_names=("mplan",),
        columns=(
            Column("Active", condition_status("Active")),
            Column("Complete", condition_status("Complete")),
            Column("Cost/h", ".spec.costPerHour", "number"),
            Column("Bound/h", ".spec.lowerBound", "number"),
            Column("Objective/h", ".spec.objective", "number", wide=True),
            Column("Single-type/h", ".status.singleType"),
            Column("Approved", ".spec.approved", "boolean"),
            Column("Why", ".spec.reason"),
            AGE,
        ),
    )
    kind: Literal["Plan"] = "Plan"
    spec: PlanSpec
    status: PlanStatus = PlanStatus()
