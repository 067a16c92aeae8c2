"""What every kind shares: the frozen base model, metadata, conditions, and how a kind describes itself as a CRD."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "motley.dev"
VERSION = "v1alpha1"


class ApiModel(BaseModel):
    """Unknown fields are ignored (an older operator meets a newer CRD); the command line refuses them."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    def to_json(self) -> dict[str, Any]:
        """The object as the API server takes it: camelCase, without unset values."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Metadata(ApiModel):
    name: str
    namespace: str | None = None
    uid: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)


class Condition(ApiModel):
    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""


@dataclass(frozen=True)
class Column:
    """A printer column: what `kubectl get` shows."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True)
class Crd:
    """What a CRD says beside its schema."""

    plural: str
    scope: Literal["Cluster", "Namespaced"]
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]


class Resource(ApiModel):
    """One custom resource. Subclasses set `crd` and narrow `spec` and `status`."""

    crd: ClassVar[Crd]

    api_version: str = f"{GROUP}/{VERSION}"
    kind: str
    metadata: Metadata

    @property
    def key(self) -> str:
        """`namespace/name`, or the name where the kind has cluster scope."""
        return f"{self.metadata.namespace}/{self.metadata.name}" if self.metadata.namespace else self.metadata.name


AGE = Column("Age", ".metadata.creationTimestamp", "date")


def condition_status(kind: str) -> str:
    return f".status.conditions[?(@.type=='{kind}')].status"


def condition_reason(kind: str) -> str:
    return f".status.conditions[?(@.type=='{kind}')].reason"


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules for a schema: (rule, message that says what to change)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


NAME_FITS_LABELS = (
    "size(self.metadata.name) <= 63",
    "metadata.name: at most 63 characters, since labels carry it",
)
