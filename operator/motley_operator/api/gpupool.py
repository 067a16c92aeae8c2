"""GPUPool: one way to get nodes, with what they hold and what they cost. Cluster scope."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from motley_operator.api.base import (
    AGE,
    NAME_FITS_LABELS,
    ApiModel,
    Column,
    Condition,
    Crd,
    Resource,
    condition_reason,
    condition_status,
    rules,
)
from motley_operator.api.quantities import Cpu, Decimal, Memory

LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]


class GpuSheet(ApiModel):
    """A spec sheet for a GPU type that the catalogue lacks, or instead of the catalogue's. Dense figures."""

    memory: Memory
    """Usable memory of one GPU."""
    bandwidth_gbs: Decimal = Field(alias="bandwidthGBs")
    """Memory bandwidth, GB/s."""
    bf16_tflops: Decimal = Field(alias="bf16TFLOPS")
    """Dense BF16 (or FP16) TFLOPS, without sparsity."""
    fp32_tflops: Decimal | None = Field(default=None, alias="fp32TFLOPS")
    """FP32 TFLOPS without tensor cores; absent: a sixteenth of bf16TFLOPS."""
    fp8_tflops: Decimal | None = Field(default=None, alias="fp8TFLOPS")
    """Dense FP8 TFLOPS; absent where the GPU has no FP8."""
    link_gbs: Decimal | None = Field(default=None, alias="linkGBs")
    """Bandwidth between GPUs of one node in one direction, GB/s; absent: PCIe 4."""
    bf16: bool | None = None
    """Whether the GPU has BF16; absent: as the catalogue says of `gpu`, and true where it says nothing."""


class Node(ApiModel):
    """What one node of the pool offers to pods."""

    gpus: int = Field(default=1, ge=1, le=64)
    """GPUs per node; without meaning for device cpu, where CPU and memory are the limit."""
    cpu: Cpu
    """Allocatable CPU cores."""
    memory: Memory
    """Allocatable memory."""


class Toleration(ApiModel):
    key: str | None = Field(default=None, max_length=317)
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = Field(default=None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class Fabric(ApiModel):
    """A network on which engines can hand KV caches to one another."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    """Pools that name the same fabric can exchange KV caches."""
    bandwidth_gbs: Decimal = Field(
        alias="bandwidthGBs",
        json_schema_extra=rules(("double(self) > 0.0", "must be above zero, for example 12.5 for 100 Gbit/s")),
    )
    """What one replica can send or receive, GB/s. Where pools of one fabric differ, the slowest counts for all."""


class GPUPoolSpec(ApiModel):
    model_config = {
        "json_schema_extra": rules(
            (
                "size(self.nodeSelector) > 0",
                "nodeSelector: name at least one label that only this pool's nodes carry",
            ),
            (
                "self.nodeSelector.all(k, size(k) <= 317 && "
                "k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",
                "nodeSelector: a key is not a label's name, such as node.kubernetes.io/instance-type",
            ),
            (
                "self.capacityType == 'Reserved' || !has(self.reservedNodes)",
                "reservedNodes: only Reserved nodes are paid for unused; set capacityType to Reserved or remove it",
            ),
            (
                "!has(self.reservedNodes) || self.reservedNodes <= self.maxNodes",
                "reservedNodes: must not exceed maxNodes; raise maxNodes, or lower reservedNodes",
            ),
            (
                "self.capacityType != 'Spot' || has(self.interruptionsPerHour)",
                "interruptionsPerHour: say how often a Spot node is taken away per hour, for example 0.05",
            ),
            (
                "self.capacityType == 'Spot' || !has(self.interruptionsPerHour)",
                "interruptionsPerHour: only Spot nodes are taken away; set capacityType to Spot or remove it",
            ),
            (
                "self.device == 'gpu' || !has(self.fabric)",
                "fabric: engines without a GPU hand no KV caches on; remove it",
            ),
        )
    }
    gpu: str = Field(min_length=1, max_length=63)
    """GPU type by its name in the catalogue (L4, A10G, A100, H100, …), or any name together with `sheet`."""
    sheet: GpuSheet | None = None
    """Spec sheet of the GPU, where the catalogue has none or another one holds."""
    device: Literal["gpu", "cpu"] = "gpu"
    """cpu: nodes without a GPU, for trying things out."""
    node: Node
    price_per_node_hour: Decimal
    """Price of one node for one hour."""
    max_nodes: int = Field(ge=0, le=100_000)
    """Most nodes that may be used: stock, quota or what is owned."""
    capacity_type: Literal["OnDemand", "Reserved", "Spot"] = "OnDemand"
    """OnDemand: nodes are paid for while they are used. Reserved: they are paid for, used or not. Spot: they may be
    taken away at any time."""
    reserved_nodes: int | None = Field(default=None, ge=0, le=100_000)
    """With Reserved: so many nodes are paid for, used or not; those beyond are on demand at the same price. Absent: all
    of maxNodes."""
    interruptions_per_hour: Decimal | None = Field(
        default=None,
        json_schema_extra=rules(
            ("double(self) > 0.0", "must be above zero; a pool that is never interrupted is OnDemand")
        ),
    )
    """With Spot: how often one node is taken away per hour."""
    fabric: Fabric | None = None
    """Over which network this pool's engines exchange KV caches. Absent: prefill and decode stay on one engine."""
    node_selector: Mapping[str, LabelValue] = Field(max_length=16)
    """Labels of the pool's nodes. Pools must not share nodes."""
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32)
    resource_name: str = Field(default="nvidia.com/gpu", min_length=1, max_length=317)
    """Extended resource that a GPU is requested by."""


class GPUPoolStatus(ApiModel):
    conditions: tuple[Condition, ...] = ()
    nodes_ready: int = 0
    nodes_planned: int = 0
    replicas: int = 0
    cost_per_hour: str = ""


class GPUPool(Resource):
    crd: ClassVar[Crd] = Crd(
        plural="gpupools",
        scope="Cluster",
        short_names=("gpup",),
        columns=(
            Column("Ready", condition_status("Ready")),
            Column("Reason", condition_reason("Ready")),
            Column("GPU", ".spec.gpu"),
            Column("Capacity", ".spec.capacityType"),
            Column("GPUs/node", ".spec.node.gpus", "integer"),
            Column("Price/node-h", ".spec.pricePerNodeHour"),
            Column("Nodes-ready", ".status.nodesReady", "integer"),
            Column("Planned", ".status.nodesPlanned", "integer"),
            Column("Max", ".spec.maxNodes", "integer"),
            Column("Cost/h", ".status.costPerHour"),
            AGE,
        ),
    )
    model_config = {"json_schema_extra": rules(NAME_FITS_LABELS)}
    kind: Literal["GPUPool"] = "GPUPool"
    spec: GPUPoolSpec
    status: GPUPoolStatus = GPUPoolStatus()
