"""Model: a language model to serve, with its traffic and its latency targets. Namespaced."""

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
from motley_operator.api.quantities import Cpu, Decimal, Duration, Fraction, Memory, Portion, Variation

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
TensorParallel = Literal[1, 2, 4, 8]


class Source(ApiModel):
    uri: str = Field(pattern=r"^(hf|s3|pvc|file)://[A-Za-z0-9._/@-]+$", max_length=512)
    """`hf://org/name`, `s3://bucket/prefix`, `pvc://claim/path` or `file:///path/on/the/node`."""
    revision: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._/-]+$", max_length=128)
    """Branch, tag or commit of a hub repository. Absent: the default branch."""
    secret_name: Name | None = None
    """Secret whose keys become environment variables of the download (HF_TOKEN, AWS_ACCESS_KEY_ID, …)."""


class Cache(ApiModel):
    """Where downloaded weights are kept. At most one; absent: an emptyDir per pod."""

    model_config = {
        "json_schema_extra": rules(
            (
                "!(has(self.persistentVolumeClaim) && has(self.hostPath))",
                "cache: set persistentVolumeClaim or hostPath, not both",
            )
        )
    }
    persistent_volume_claim: Name | None = None
    host_path: str | None = Field(default=None, pattern=r"^/[A-Za-z0-9._/-]*$", max_length=256)
    """A folder on every node; Fleet.spec.allowedHostPaths must allow it."""


class Shape(ApiModel):
    """A transformer's dimensions, as in its config.json; two models of one shape run equally fast."""

    layers: int = Field(ge=1, le=1000)
    hidden_size: int = Field(ge=1, le=1_000_000)
    attention_heads: int = Field(ge=1, le=10_000)
    kv_heads: int = Field(ge=1, le=10_000)
    head_dim: int = Field(ge=1, le=10_000)
    intermediate_size: int = Field(ge=1, le=10_000_000)
    vocab_size: int = Field(ge=1, le=10_000_000)
    experts: int = Field(default=0, ge=0, le=10_000)
    experts_per_token: int = Field(default=0, ge=0, le=10_000)
    expert_intermediate_size: int = Field(default=0, ge=0, le=10_000_000)
    shared_expert_intermediate_size: int = Field(default=0, ge=0, le=10_000_000)
    dense_layers: int = Field(default=0, ge=0, le=1000)
    """Leading layers without experts, in a mixture of experts."""
    tied_embeddings: bool = False
    kv_lora_rank: int = Field(default=0, ge=0, le=1_000_000)
    """Multi-head latent attention: rank of the compressed KV; 0 elsewhere."""
    qk_rope_head_dim: int = Field(default=0, ge=0, le=10_000)
    q_lora_rank: int = Field(default=0, ge=0, le=1_000_000)
    max_model_len: int = Field(default=0, ge=0, le=100_000_000)
    """The model's own context limit; 0 where it states none."""


class Slo(ApiModel):
    """A request attains if its TTFT (queueing included) and its mean TPOT are both within the target."""

    ttft: Duration
    """Longest time to first token of a short prompt."""
    ttft_per_thousand_input_tokens: Duration | None = None
    """Added to ttft for every 1000 input tokens."""
    tpot: Duration
    """Longest time per output token after the first, averaged over a request."""
    attainment: str = Field(
        default="0.99",
        pattern=r"^0\.[0-9]{1,4}$",
        max_length=6,
        json_schema_extra=rules(("double(self) >= 0.5", "must be at least 0.5 and below 1, for example 0.99")),
    )
    """Share of requests that must attain."""


class Size(ApiModel):
    """One bar of the request-size histogram."""

    input_tokens: int = Field(ge=1, le=10_000_000)
    """Largest prompt of this bucket, tokens."""
    output_tokens: int = Field(ge=1, le=1_000_000)
    """Largest output of this bucket, tokens."""
    weight: Decimal = "1"
    """Share of the requests; weights need not sum to one."""


class Traffic(ApiModel):
    rate: Decimal
    """Requests per second, all sizes together."""
    sizes: tuple[Size, ...] = Field(
        min_length=1,
        max_length=64,
        json_schema_extra=rules(
            ("self.exists(s, double(s.weight) > 0.0)", "at least one size needs a weight above zero"),
            (
                "self.all(a, self.exists_one(b, a.inputTokens == b.inputTokens && a.outputTokens == b.outputTokens))",
                "two sizes have the same inputTokens and outputTokens; merge them",
            ),
        ),
    )
    prefix_reuse: Portion = "0"
    """Share of the input tokens whose KV cache is there already: system prompts, earlier turns of a conversation."""
    burstiness: Variation = "1"
    """Coefficient of variation (CV) of the times between requests: 0 is a steady beat, 1 is Poisson arrivals, more
    comes in bursts. vLLM's --burstiness is the shape of a gamma distribution, 1/CV^2, where less is burstier."""


class Placement(ApiModel):
    pools: tuple[str, ...] = Field(default=(), max_length=64)
    """Pools that may be used. Empty: all."""
    tensor_parallel: tuple[TensorParallel, ...] = Field(default=(), max_length=4)
    """Tensor-parallel degrees that may be used. Empty: 1, 2, 4 and 8."""
    modes: tuple[Literal["Aggregated", "Disaggregated"], ...] = Field(default=(), max_length=2)
    """Aggregated: one engine does prefill and decode. Disaggregated: one does prefill and hands the KV cache to
    another, within a fabric. Empty: what is cheaper."""


class Scaling(ApiModel):
    model_config = {
        "json_schema_extra": rules(
            (
                "!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
                "minReplicas must not exceed maxReplicas",
            )
        )
    }
    min_replicas: int = Field(default=1, ge=0, le=10_000)
    """Replicas that can answer a request; a prefill and a decode replica count as one."""
    max_replicas: int | None = Field(default=None, ge=1, le=10_000)
    """Engines in all, prefill and decode replicas each."""
    survivability: Fraction = "0"
    """Part of the load that must still be served when all nodes of any one Spot pool are taken away."""


class Resources(ApiModel):
    """What one replica requests beside GPUs. Absent: its GPUs' share of four fifths of the node."""

    cpu: Cpu | None = None
    memory: Memory | None = None


class SecretKey(ApiModel):
    name: Name
    key: str = Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)


class EnvVar(ApiModel):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)
    value: str | None = Field(default=None, max_length=4096)
    secret_key: SecretKey | None = None


class Engine(ApiModel):
    image: str | None = Field(default=None, min_length=1, max_length=512)
    """Engine image. Absent: the operator's default."""
    args: tuple[Annotated[str, StringConstraints(max_length=1024)], ...] = Field(default=(), max_length=64)
    """Further vLLM arguments, after Motley's own."""
    env: tuple[EnvVar, ...] = Field(default=(), max_length=64)


class ModelSpec(ApiModel):
    model_config = {
        "json_schema_extra": rules(
            (
                "self.traffic.sizes.all(s, s.inputTokens + s.outputTokens <= self.contextLength)",
                "traffic.sizes: inputTokens + outputTokens of a size exceeds contextLength; raise contextLength or "
                "remove the size",
            )
        )
    }
    source: Source
    cache: Cache = Cache()
    shape: Shape | None = None
    """Absent: an inspection Job reads the model's config.json into status.shape."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    quantization: Literal["fp8", "awq", "gptq"] | None = None
    """Absent: weights in dtype. fp8 quantises on load; awq and gptq name what the weights are."""
    kv_dtype: Literal["auto", "fp8"] = "auto"
    context_length: int = Field(default=8192, ge=16, le=10_000_000)
    """Most tokens of prompt and output together."""
    served_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$", max_length=128)
    """The name clients use. Absent: the Model's own name."""
    slo: Slo
    traffic: Traffic
    placement: Placement = Placement()
    scaling: Scaling = Scaling()
    resources: Resources = Resources()
    engine: Engine = Engine()
    image_pull_secrets: tuple[Name, ...] = Field(default=(), max_length=16)
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Under scarcity the higher one is served first."""


class ModelStatus(ApiModel):
    conditions: tuple[Condition, ...] = ()
    shape: Shape | None = None
    shape_source: str = ""
    """The source that `shape` was read from; another source is inspected anew."""
    replicas: int = 0
    ready_replicas: int = 0
    placement: str = ""
    """Where the replicas run, in words: `2×L4 + 1×A100 TP2`."""
    cost_per_hour: str = ""
    predicted: str = ""
    """Whether the plan expects the SLO to be met, and from what: `met (Estimated ±30%)`."""
    plan: str = ""


class Model(Resource):
    crd: ClassVar[Crd] = Crd(
        plural="models",
        scope="Namespaced",
        short_names=("mdl",),
        columns=(
            Column("Ready", condition_status("Ready")),
            Column("Reason", condition_reason("Ready")),
            Column("Replicas", ".status.readyReplicas", "integer"),
            Column("Desired", ".status.replicas", "integer"),
            Column("On", ".status.placement"),
            Column("Cost/h", ".status.costPerHour"),
            Column("SLO-met", condition_status("SLOMet")),
            Column("Predicted", ".status.predicted"),
            Column("Served-as", ".spec.servedName", wide=True),
            AGE,
        ),
    )
    model_config = {"json_schema_extra": rules(NAME_FITS_LABELS)}
    kind: Literal["Model"] = "Model"
    spec: ModelSpec
    status: ModelStatus = ModelStatus()

    @property
    def served_name(self) -> str:
        return self.spec.served_name or self.metadata.name
