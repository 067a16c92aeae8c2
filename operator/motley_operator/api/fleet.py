"""Fleet: what holds for all models and pools together. Cluster scope, one named `default`, optional."""

from typing import ClassVar, Literal

from pydantic import Field

from motley_operator.api.base import (
    AGE,
    ApiModel,
    Column,
    Condition,
    Crd,
    Resource,
    condition_status,
    rules,
)
from motley_operator.api.quantities import Decimal, Duration


class FleetSpec(ApiModel):
    budget_per_hour: Decimal | None = None
    """Most that all nodes together may cost per hour, in the currency of the pools' prices."""
    approval: Literal["Auto", "Manual"] = "Auto"
    """Manual: a new Plan is applied only after somebody sets its spec.approved to true."""
    headroom: Decimal = Field(default="0.1")
    """Capacity kept free above the declared rate: 0.1 plans for 110 % of it."""
    replan_horizon: Duration = "1h"
    """How long a plan is expected to hold. The cost of starting replicas is spread over it: the longer it is, the
    smaller a saving justifies moving them."""
    start_time: Duration = "5m"
    """How long until a started replica serves. Its part of a node is paid for nothing meanwhile; and so long a replica
    is missing after its Spot node was taken away."""
    allowed_images: tuple[str, ...] | None = Field(default=None, max_length=64)
    """Engine images that Models may name, as prefixes (`registry.example.com/vllm`). Absent: any."""
    allowed_arguments: tuple[str, ...] | None = Field(default=None, max_length=64)
    """Engine arguments that Models may set, by flag (`--enable-prefix-caching`), and environment variables that change
    the engine (VLLM_…, PYTHON…, LD_…), by name. Absent: any."""
    allowed_host_paths: tuple[str, ...] = Field(default=(), max_length=64)
    """Folders of the nodes that `file://` sources and weight caches may lie in. Empty: none."""


class FleetStatus(ApiModel):
    conditions: tuple[Condition, ...] = ()
    cost_per_hour: str = ""
    plan: str = ""


class Fleet(Resource):
    crd: ClassVar[Crd] = Crd(
        plural="fleets",
        scope="Cluster",
        short_names=("mfl",),
        columns=(
            Column("Ready", condition_status("Ready")),
            Column("Cost/h", ".status.costPerHour"),
            Column("Budget/h", ".spec.budgetPerHour"),
            Column("Approval", ".spec.approval"),
            Column("Plan", ".status.plan"),
            AGE,
        ),
    )
    model_config = {
        "json_schema_extra": rules(
            ("self.metadata.name == 'default'", "metadata.name: there is one Fleet; name it default"),
        )
    }
    kind: Literal["Fleet"] = "Fleet"
    spec: FleetSpec = FleetSpec()
    status: FleetStatus = FleetStatus()
