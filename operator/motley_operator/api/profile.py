"""Profile: how fast one model shape runs on one GPU type at one tensor parallelism. Cluster scope."""

from typing import ClassVar, Literal

from pydantic import Field

from motley_operator.api.base import AGE, ApiModel, Column, Crd, Resource, rules
from motley_operator.api.model import Shape, TensorParallel
from motley_operator.api.quantities import Decimal


class Coefficients(ApiModel):
    """Seconds that one engine iteration takes, as a sum of terms (`motley_solver.steptime.StepTime`)."""

    model_config = {
        "json_schema_extra": rules(
            (
                "double(self.perPrefillToken) + double(self.perToken) >= 1e-12",
                "perPrefillToken: a prefill token takes time; give it here or as perToken",
            )
        )
    }
    base: float = Field(ge=1e-9)
    per_prefill_token: float = Field(default=0.0, ge=0)
    per_prefill_token_context: float = Field(default=0.0, ge=0)
    per_decode_sequence: float = Field(default=0.0, ge=0)
    per_context_token: float = Field(default=0.0, ge=0)
    weights: float = Field(default=0.0, ge=0)
    """Streaming the weights; it hides perToken or is hidden by it, and the longer of both counts."""
    per_token: float = Field(default=0.0, ge=0)
    """Of each token, prefill or decode, while the weights are streamed."""


class Throughput(ApiModel):
    """Requests per second of one replica for one request size, within the SLO it was measured at."""

    input_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    requests_per_second: Decimal


class ProfileSpec(ApiModel):
    model_config = {
        "json_schema_extra": rules(
            (
                "has(self.coefficients) != (size(self.throughput) > 0)",
                "give coefficients or a throughput table, and not both",
            )
        )
    }
    shape: Shape
    gpu: str = Field(min_length=1, max_length=63)
    tensor_parallel: TensorParallel = 1
    dtype: Literal["bfloat16", "float16", "float32", "fp8", "int4"] = "bfloat16"
    """Of the weights."""
    kv_dtype: Literal["auto", "fp8"] = "auto"
    source: Literal["Measured", "Imported"] = "Imported"
    date: str = Field(default="", pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$")
    error: Decimal = "0"
    """Mean absolute error of the figures, as a fraction: 0.15 is 15 %."""
    coefficients: Coefficients | None = None
    throughput: tuple[Throughput, ...] = Field(default=(), max_length=1024)


class Profile(Resource):
    crd: ClassVar[Crd] = Crd(
        plural="profiles",
        scope="Cluster",
        short_names=("mprof",),
        columns=(
            Column("GPU", ".spec.gpu"),
            Column("TP", ".spec.tensorParallel", "integer"),
            Column("Dtype", ".spec.dtype"),
            Column("Source", ".spec.source"),
            Column("Error", ".spec.error"),
            Column("Date", ".spec.date"),
            AGE,
        ),
    )
    kind: Literal["Profile"] = "Profile"
    spec: ProfileSpec
