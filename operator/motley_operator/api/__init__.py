"""The custom resources of group `motley.dev` as frozen pydantic models: the only definition of the API."""

from motley_operator.api.base import GROUP, VERSION, ApiModel, Condition, Metadata, Resource
from motley_operator.api.fleet import Fleet, FleetSpec
from motley_operator.api.gpupool import GPUPool, GPUPoolSpec, GpuSheet
from motley_operator.api.model import Model, ModelSpec, Shape, Slo, Traffic
from motley_operator.api.plan import Plan, PlanSpec
from motley_operator.api.profile import Profile, ProfileSpec
from motley_operator.api.routingtable import RoutingTable, RoutingTableSpec

KINDS: tuple[type[Resource], ...] = (Fleet, GPUPool, Model, Profile, Plan, RoutingTable)

__all__ = [
    "GROUP",
    "KINDS",
    "VERSION",
    "ApiModel",
    "Condition",
    "Fleet",
    "FleetSpec",
    "GPUPool",
    "GPUPoolSpec",
    "GpuSheet",
    "Metadata",
    "Model",
    "ModelSpec",
    "Plan",
    "PlanSpec",
    "Profile",
    "ProfileSpec",
    "Resource",
    "RoutingTable",
    "RoutingTableSpec",
    "Shape",
    "Slo",
    "Traffic",
]
