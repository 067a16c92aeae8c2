"""How this operator process was set up: environment variables `MOTLEY_…`, written by the chart."""

import json
import os
import socket
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _from_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class Settings(BaseModel):
    """One field per variable: `engine_image` is `MOTLEY_ENGINE_IMAGE`; lists and maps are JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = "motley-system"
    """Where the operator and the router run, and where the Lease lies."""
    identity: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    """Holder of the Lease: the pod's name in a cluster, the process elsewhere."""
    engine_image: str = "motley-worker"
    engine_image_pull_policy: str = "IfNotPresent"
    engine_python: str = "python3"
    """Interpreter in the engine image that has vLLM and motley_worker."""
    engine_host_paths: Annotated[tuple[str, ...], BeforeValidator(_from_json)] = ()
    """Folders of the node mounted read-only at the same path (an environment too large to bake into an image)."""
    engine_env: Annotated[Mapping[str, str], BeforeValidator(_from_json)] = Field(default_factory=dict)
    drain_seconds: int = Field(default=120, ge=1)
    """Longest that a leaving engine may finish its requests."""
    router_labels: Annotated[Mapping[str, str], BeforeValidator(_from_json)] = Field(
        default_factory=lambda: {"app.kubernetes.io/name": "motley-router"}
    )
    """Labels of the router's pods, the only ones that engines admit."""
    router_service: str = "motley-router-metrics"
    """Headless Service of the router pods, whose metrics tell SLO attainment."""
    scrape_namespaces: Annotated[tuple[str, ...], BeforeValidator(_from_json)] = ()
    """Namespaces whose pods may scrape engine metrics."""
    solve_seconds: float = Field(default=20.0, gt=0)
    """Time limit of one solve."""
    resync_seconds: float = Field(default=30.0, gt=0)
    """Longest time between two passes."""
    lease_seconds: float = Field(default=12.0, gt=1)
    """A leader silent for this long is replaced; renewed every sixth of it."""
    metrics_port: int = 8080
    log_level: str = "INFO"


def from_env(env: Mapping[str, str] = os.environ) -> Settings:
    """Settings of `MOTLEY_…`; raises pydantic.ValidationError naming the field."""
    known = {name: env[f"MOTLEY_{name.upper()}"] for name in Settings.model_fields if f"MOTLEY_{name.upper()}" in env}
    return Settings.model_validate(known)
