"""RoutingTables and EndpointSlices as frozen values, and the routes they make together.

Knows their JSON and nothing of how it arrives. What does not fit the models here is malformed and not used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, IPvAnyAddress, model_validator
from pydantic.alias_generators import to_camel

Key = tuple[str, str]
"""Namespace and name."""

SERVICE_LABEL = "kubernetes.io/service-name"

Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=253)]


def _no_items_as_null(value: Any) -> Any:
    return () if value is None else value


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Metadata(Value):
    namespace: Name
    name: Name
    creation_timestamp: AwareDatetime = datetime.max.replace(tzinfo=UTC)
    labels: Annotated[Mapping[str, str], BeforeValidator(lambda labels: labels or {})] = Field(default_factory=dict)


class Slo(Value):
    ttft_seconds: Finite
    ttft_seconds_per_thousand_input_tokens: Finite = 0.0
    tpot_seconds: Finite


class Backend(Value):
    service: Name
    port: Annotated[int, Field(ge=1, le=65535)] = 8000


class Size(Value):
    """Requests of at most these tokens go to the backends by these shares."""

    input_tokens: Annotated[int, Field(ge=0)]
    output_tokens: Annotated[int, Field(ge=0)]
    shares: tuple[Finite, ...]

    @property
    def edge(self) -> tuple[int, int]:
        return self.input_tokens, self.output_tokens


class TableSpec(Value):
    served_name: Name
    model: Name
    slo: Slo
    backends: tuple[Backend, ...] = ()
    sizes: tuple[Size, ...] = ()

    @model_validator(mode="after")
    def _each_backend_has_a_share(self) -> Self:
        for size in self.sizes:
            if len(size.shares) != len(self.backends):
                raise ValueError(f"sizes: {len(size.shares)} shares for {len(self.backends)} backends")
        return self


class RoutingTable(Value):
    metadata: Metadata
    spec: TableSpec

    @property
    def age_order(self) -> tuple[datetime, str, str]:
        return self.metadata.creation_timestamp, self.metadata.namespace, self.metadata.name


class Conditions(Value):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None

    @property
    def live(self) -> bool:
        """Kubernetes: an unset `ready` is to be read as true."""
        return self.ready is not False or bool(self.serving and not self.terminating)


class SliceEndpoint(Value):
    addresses: Annotated[tuple[IPvAnyAddress, ...], Field(min_length=1)]
    conditions: Conditions = Conditions()


class EndpointSlice(Value):
    metadata: Metadata
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: Annotated[tuple[SliceEndpoint, ...], BeforeValidator(_no_items_as_null)] = ()

    @property
    def service(self) -> Key:
        return self.metadata.namespace, self.metadata.labels.get(SERVICE_LABEL, "")


class Endpoint(NamedTuple):
    """One engine. `host` is an IP address."""

    host: str
    port: int

    @property
    def authority(self) -> bytes:
        return (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}").encode()


@dataclass(frozen=True, slots=True)
class Route:
    """Where one served name's requests may go: per backend its live endpoints."""

    served_name: str
    model: str
    """`namespace/name` of the Model: the label of its metrics."""
    created: int
    slo: Slo
    sizes: tuple[Size, ...]
    """Smallest first."""
    backends: tuple[tuple[Endpoint, ...], ...]


def routes_of(tables: Iterable[RoutingTable], slices: Iterable[EndpointSlice]) -> dict[str, Route]:
    """The route of each served name. Of two tables with one name the older counts (the operator reports it)."""
    hosts = _live_hosts(slices)
    routes: dict[str, Route] = {}
    for table in sorted(tables, key=lambda table: table.age_order):
        routes.setdefault(table.spec.served_name, _route_of(table, hosts))
    return routes


def _route_of(table: RoutingTable, hosts: Mapping[Key, tuple[str, ...]]) -> Route:
    namespace, created = table.metadata.namespace, table.metadata.creation_timestamp
    return Route(
        served_name=table.spec.served_name,
        model=f"{namespace}/{table.spec.model}",
        created=0 if created.year == datetime.max.year else int(created.timestamp()),
        slo=table.spec.slo,
        sizes=tuple(sorted(table.spec.sizes, key=lambda size: size.edge)),
        backends=tuple(
            tuple(Endpoint(host, backend.port) for host in hosts.get((namespace, backend.service), ()))
            for backend in table.spec.backends
        ),
    )


def _live_hosts(slices: Iterable[EndpointSlice]) -> dict[Key, tuple[str, ...]]:
    """Per service its live addresses: of a dual-stack service the IPv4 ones, lest each pod count twice."""
    found: dict[Key, dict[str, None]] = {}
    for piece in sorted(slices, key=lambda piece: (piece.address_type, piece.metadata.name)):
        hosts = found.setdefault(piece.service, {})
        if piece.address_type == "FQDN" or (piece.address_type == "IPv6" and any(":" not in host for host in hosts)):
            continue
        hosts.update((str(endpoint.addresses[0]), None) for endpoint in piece.endpoints if endpoint.conditions.live)
    return {service: tuple(hosts) for service, hosts in found.items()}
