"""WorkerConfig: the contract between the operator's manifests and a worker pod, and where things are in that pod.
Knows no torch, vLLM or transformers."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from motley_worker.errors import BadConfig

CONFIG_VARIABLE = "MOTLEY_WORKER_CONFIG"


class WorkerConfig(BaseModel):
    """One engine replica. Strict: an unknown field or a value of another type is refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=to_camel, protected_namespaces=()
    )

    model: Annotated[str, StringConstraints(min_length=1)]
    """The Model's namespace/name, for logs."""
    served_name: Annotated[str, StringConstraints(min_length=1)]
    source: Annotated[str, StringConstraints(pattern=r"^(hf|s3|pvc|file)://[A-Za-z0-9._/@-]+$")]
    revision: str | None = None
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    quantization: Literal["fp8", "awq", "gptq"] | None = None
    kv_dtype: Literal["auto", "fp8"] = "auto"
    max_model_len: int = Field(ge=1)
    tensor_parallel: int = Field(default=1, ge=1)
    max_num_batched_tokens: int = Field(ge=1)
    max_num_seqs: int = Field(ge=1)
    device: Literal["gpu", "cpu"] = "gpu"
    extra_args: tuple[str, ...] = ()
    drain_seconds: int = Field(default=120, ge=0)

    @model_validator(mode="after")
    def _batch_holds_every_sequence(self) -> Self:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"maxNumBatchedTokens ({self.max_num_batched_tokens}) is below maxNumSeqs ({self.max_num_seqs}); "
                "vLLM needs one token of the batch for every sequence"
            )
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        text = environ.get(CONFIG_VARIABLE)
        if text is None:
            raise BadConfig(f"{CONFIG_VARIABLE} is not set; give it the WorkerConfig as JSON")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadConfig(f"{CONFIG_VARIABLE}: {_sentences(error)}") from error


def _sentences(error: ValidationError) -> str:
    """`field: what is wrong` for each error."""
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, item["loc"])), item["msg"])))
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    )


@dataclass(frozen=True)
class Pod:
    """Where things are. The manifests rely on the defaults; by environment they can be elsewhere."""

    cache: Path = Path("/cache")
    claims: Path = Path("/weights")
    termination_log: Path = Path("/dev/termination-log")
    engine_port: int = 8000
    health_port: int = 8080
    settle_seconds: float = 5.0  # how long routers may still send after readiness has gone

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        default = cls()
        try:
            return cls(
                cache=Path(environ.get("MOTLEY_CACHE_DIR", default.cache)),
                claims=Path(environ.get("MOTLEY_CLAIMS_DIR", default.claims)),
                termination_log=Path(environ.get("MOTLEY_TERMINATION_LOG", default.termination_log)),
                engine_port=int(environ.get("MOTLEY_ENGINE_PORT", default.engine_port)),
                health_port=int(environ.get("MOTLEY_HEALTH_PORT", default.health_port)),
                settle_seconds=float(environ.get("MOTLEY_SETTLE_SECONDS", default.settle_seconds)),
            )
        except ValueError as error:
            raise BadConfig(
                f"MOTLEY_ENGINE_PORT, MOTLEY_HEALTH_PORT and MOTLEY_SETTLE_SECONDS take numbers: {error}"
            ) from error

    def write_termination_log(self, text: str) -> None:
        """Kubernetes shows it as the container's last message; outside a pod there may be no such file."""
        try:
            self.termination_log.write_text(text)
        except OSError as error:
            print(f"{self.termination_log}: {error}", flush=True)
