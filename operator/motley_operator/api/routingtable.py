"""RoutingTable: where the router sends one Model's requests. Written by the operator, read by the router."""

from typing import ClassVar, Literal

from pydantic import Field

from motley_operator.api.base import AGE, ApiModel, Column, Crd, Resource


class RouteSlo(ApiModel):
    ttft_seconds: float
    ttft_seconds_per_thousand_input_tokens: float = 0.0
    tpot_seconds: float


class Backend(ApiModel):
    service: str
    """Headless Service of one group of equal replicas, in the table's namespace."""
    port: int = 8000


class RouteSize(ApiModel):
    """Requests of at most these tokens go to the backends by these shares (same order; they sum to one)."""

    input_tokens: int
    output_tokens: int
    shares: tuple[float, ...]


class RoutingTableSpec(ApiModel):
    served_name: str
    model: str
    """Name of the Model, in the table's namespace."""
    slo: RouteSlo
    backends: tuple[Backend, ...] = Field(default=(), max_length=1000)
    sizes: tuple[RouteSize, ...] = Field(default=(), max_length=256)


class RoutingTable(Resource):
    crd: ClassVar[Crd] = Crd(
        plural="routingtables",
        scope="Namespaced",
        short_names=("mroute",),
        columns=(Column("Served-as", ".spec.servedName"), Column("Model", ".spec.model"), AGE),
    )
    kind: Literal["RoutingTable"] = "RoutingTable"
    spec: RoutingTableSpec
