"""GPU spec sheets and transformer shapes: how much memory, bandwidth and arithmetic there is, how much a model needs.
Facts only; how long an engine step takes is `steptime`'s affair. No torch, no transformers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

DType = Literal["float32", "bfloat16", "float16", "fp8", "int8", "int4"]

# int4 formats (AWQ, GPTQ) carry scales and zero points: about 4.5 bits per weight
BYTES: dict[str, float] = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1, "int8": 1, "int4": 0.5625}

GIB = 1024.0**3


@dataclass(frozen=True)
class Gpu:
    """A spec sheet. TFLOPS are dense (the vendors' figures with sparsity are twice that); FP32 is that of the vendors'
    data sheets without TF32, which PyTorch leaves off."""

    name: str
    memory_gib: float
    usable_memory_gib: float  # what the driver reports
    bandwidth_gb_s: float
    tflops_16bit: float  # BF16, or FP16 where the hardware has no BF16
    tflops_fp32: float
    tflops_fp8: float | None
    link_gb_s: float  # of a GPU into the switch of its node, or in a full mesh to each other one; one direction
    mesh: bool = False
    bf16: bool = True
    step_overhead_seconds: float = 0.0  # per engine step beyond a usual GPU engine's, for slow devices
    source: str = ""

    def links_gb_s(self, gpus: int) -> float:
        """What one of so many GPUs sends to the others at once."""
        return self.link_gb_s * (gpus - 1 if self.mesh else 1)

    def runs(self, weight_dtype: DType, kv_dtype: DType) -> bool:
        """vLLM's FP8 needs a GPU that also has BF16."""
        return self.bf16 or not {weight_dtype, kv_dtype} & {"bfloat16", "fp8"}


_AIC = "aiconfigurator system data (NVIDIA, Apache-2.0)"
_IBM = "IBM LLM-Pilot gpu_features.csv (CDLA-Permissive-2.0)"
_ML = "stas00/ml-engineering accelerator table"
_LESS = "usable: assumed, about 1 % below nominal"

_SHEETS = (
    Gpu("T4", 16, 14.6, 300, 65, 8.1, None, 16, bf16=False, source=f"{_IBM}; usable: assumed, ECC on"),
    Gpu("V100", 16, 15.8, 900, 125, 15.7, None, 150, bf16=False, source=f"NVIDIA V100 SXM2 data sheet; {_LESS}"),
    Gpu("L4", 24, 22.35, 300, 121, 30.3, 242, 32, source=f"{_AIC}; usable: 22888 MiB reported on AWS g6"),
    Gpu("A10G", 24, 22.35, 600, 70, 35, None, 32, source="Baseten A10 v A10G; usable: 22888 MiB reported on AWS g5"),
    Gpu("L40S", 48, 44.7, 864, 362, 91.6, 733, 32, source=f"{_AIC}; usable: 45776 MiB reported on AWS g6e"),
    Gpu("A40", 48, 44.5, 696, 149.7, 37.4, None, 56, source="NVIDIA A40 data sheet; usable: vidur counts 45 GB"),
    Gpu("A100-40GB", 40, 39.4, 1555, 312, 19.5, None, 300, source=f"{_IBM}; {_LESS}"),
    Gpu("A100-80GB", 80, 79.2, 2039, 312, 19.5, None, 300, source=f"{_AIC}; {_LESS}"),
    Gpu("H100", 80, 79.2, 3350, 989, 67, 1978, 450, source=f"{_AIC}; {_LESS}"),
    Gpu("H200", 141, 139.8, 4800, 989, 67, 1978, 450, source=f"{_AIC}; {_LESS}"),
    Gpu("B200", 180, 178.0, 7700, 2250, 75, 4500, 900, source=f"{_AIC}; {_LESS}"),
    Gpu("MI300X", 192, 191.5, 5300, 1300, 163.4, 2610, 64, mesh=True, source=f"{_ML}; usable: assumed"),
    Gpu(
        "RTX4090",
        24,
        23.5,
        1008,
        165.2,
        82.6,
        330.3,
        32,
        source="NVIDIA Ada data sheet (FP32 accumulate); usable: LLMServingSim's record",
    ),
    # For trying things out: a few server cores. An engine step on a CPU has a fixed cost of tens of milliseconds.
    Gpu("CPU", 16, 16, 20, 0.2, 0.1, None, 5, step_overhead_seconds=0.03, source="modest server cores, assumed"),
)
_ALIASES = {"A100": "A100-80GB"}

CATALOGUE: Mapping[str, Gpu] = {sheet.name: sheet for sheet in _SHEETS}


def gpu_named(name: str) -> Gpu:
    """The spec sheet of a GPU type or alias, whatever the case; ValueError names the known ones."""
    known = {key.upper(): key for key in CATALOGUE} | {alias.upper(): key for alias, key in _ALIASES.items()}
    found = known.get(name.upper())
    if found is None:
        raise ValueError(f"gpu: unknown type {name!r}; known are {', '.join(CATALOGUE)} (or give a spec sheet)")
    return CATALOGUE[found]


def gpu_type(name: str) -> str:
    """One name for one type: the catalogue's where it knows the name or alias (A100 is A100-80GB), else as given."""
    try:
        return gpu_named(name).name
    except ValueError:
        return name


@dataclass(frozen=True)
class ModelShape:
    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    experts: int = 0  # routed experts per layer; 0 is a dense model
    experts_per_token: int = 0
    expert_intermediate_size: int = 0
    shared_expert_intermediate_size: int = 0
    dense_layers: int = 0  # layers without experts, in a mixture of experts
    tied_embeddings: bool = False
    kv_lora_rank: int = 0  # multi-head latent attention (DeepSeek): width of the cached latent; 0 is usual attention
    qk_rope_head_dim: int = 0
    q_lora_rank: int = 0
    max_model_len: int = 0  # the config's own limit; 0 is not stated

    @property
    def _attention_weights(self) -> int:
        heads = self.attention_heads * self.head_dim
        if not self.kv_lora_rank:
            return self.hidden_size * (2 * heads + 2 * self.kv_heads * self.head_dim)
        query = heads + self.attention_heads * self.qk_rope_head_dim
        queries = self.q_lora_rank * (self.hidden_size + query) if self.q_lora_rank else self.hidden_size * query
        latent = self.hidden_size * (self.kv_lora_rank + self.qk_rope_head_dim)
        return queries + latent + self.kv_lora_rank * 2 * heads + heads * self.hidden_size

    def _layer_weights(self, experts: int) -> int:
        """All layers, with so many routed experts counted per mixture layer."""
        dense = 3 * self.hidden_size * self.intermediate_size
        if not self.experts:
            return self.layers * (self._attention_weights + dense)
        routed = 3 * self.hidden_size * self.expert_intermediate_size * experts
        shared = 3 * self.hidden_size * self.shared_expert_intermediate_size
        gate = self.hidden_size * self.experts
        mixture = (self.layers - self.dense_layers) * (routed + shared + gate)
        return self.layers * self._attention_weights + self.dense_layers * dense + mixture

    @property
    def embedding_parameters(self) -> int:
        """The output embedding, and the input embedding where it is another."""
        return self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)

    @property
    def parameters(self) -> int:
        return self._layer_weights(self.experts) + self.embedding_parameters

    @property
    def flops_per_token(self) -> float:
        """All layers, without attention over the context, which `attention_flops_per_context_token` adds, and without
        the output embedding, which only a sequence's last token needs."""
        return 2.0 * self._layer_weights(self.experts_per_token)

    @property
    def attention_flops_per_context_token(self) -> float:
        """For each token and each earlier token that it attends to: scores and weighted sum, all layers."""
        return 2.0 * self.layers * self.attention_heads * (2 * self.head_dim + self.qk_rope_head_dim)

    def weight_bytes(self, dtype: DType) -> float:
        """Embeddings stay 16-bit under quantisation, as the usual checkpoints do."""
        embeddings = self.embedding_parameters
        return (self.parameters - embeddings) * BYTES[dtype] + embeddings * max(BYTES[dtype], 2.0)

    def streamed_bytes(self, dtype: DType) -> float:
        """What one step reads: all weights but the input embedding (a lookup). All experts count: prompts and large
        batches hit nearly all of them; a small batch hits fewer, and its step takes less than this says."""
        output = self.vocab_size * self.hidden_size * max(BYTES[dtype], 2.0)
        return self._layer_weights(self.experts) * BYTES[dtype] + output

    def kv_bytes_per_token(self, kv_dtype: DType) -> float:
        """On all GPUs together, without the copies that tensor parallelism beyond the KV heads makes."""
        if self.kv_lora_rank:
            return self.layers * (self.kv_lora_rank + self.qk_rope_head_dim) * BYTES[kv_dtype]
        return 2.0 * self.layers * self.kv_heads * self.head_dim * BYTES[kv_dtype]

    def kv_bytes_per_token_and_gpu(self, kv_dtype: DType, tensor_parallel: int) -> float:
        """One GPU's part: KV heads are split, and copied where there are more GPUs than heads (a latent always is)."""
        parts = 1 if self.kv_lora_rank else min(tensor_parallel, self.kv_heads)
        return self.kv_bytes_per_token(kv_dtype) / parts

    def fits_tensor_parallel(self, tensor_parallel: int) -> bool:
        """vLLM splits by attention heads, and by KV heads or copies each of them equally often."""
        if tensor_parallel < 1 or self.attention_heads % tensor_parallel:
            return False
        return bool(self.kv_lora_rank) or self.kv_heads % tensor_parallel == 0 or tensor_parallel % self.kv_heads == 0


MOST_LAYERS = 1000
"""They are gone through one by one, and a config may be a stranger's."""


def _numbers(config: Mapping[str, Any], *names: str) -> Iterator[int]:
    for name in names:
        value = config.get(name)
        if isinstance(value, float) and not value.is_integer():
            continue
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            yield int(value)


def _required(config: Mapping[str, Any], *names: str) -> int:
    for number in _numbers(config, *names):
        return number
    raise ValueError(f"config.json: {names[0]} is missing or not a positive whole number")


def _optional(config: Mapping[str, Any], default: int, *names: str) -> int:
    return next(_numbers(config, *names), default)


def _dense_layers(config: Mapping[str, Any], layers: int) -> int:
    """How many layers of a mixture have no experts: DeepSeek counts from the front and then every so many, Qwen counts
    every so many and lists exceptions."""
    first, every = _optional(config, 0, "first_k_dense_replace"), _optional(config, 1, "moe_layer_freq")
    step, listed = _optional(config, 1, "decoder_sparse_step"), config.get("mlp_only_layers") or []
    if not isinstance(listed, list):
        raise ValueError("config.json: mlp_only_layers is not a list")
    dense = {layer for layer in listed if isinstance(layer, int)}
    sparse = (
        layer
        for layer in range(layers)
        if layer >= first and layer % every == 0 and (layer + 1) % step == 0 and layer not in dense
    )
    return layers - sum(1 for _ in sparse)


def _experts(config: Mapping[str, Any], layers: int) -> dict[str, int]:
    """Mixture-of-experts fields under their several names (Mixtral, Qwen-MoE, DeepSeek)."""
    experts = _optional(config, 0, "num_local_experts", "num_experts", "n_routed_experts")
    if experts <= 1:
        return {}
    size = _required(config, "moe_intermediate_size", "intermediate_size")
    shared = _optional(config, 0, "shared_expert_intermediate_size")
    return {
        "experts": experts,
        "experts_per_token": _required(config, "num_experts_per_tok", "num_experts_per_token"),
        "expert_intermediate_size": size,
        "shared_expert_intermediate_size": shared or size * _optional(config, 0, "n_shared_experts"),
        "dense_layers": _dense_layers(config, layers),
    }


def _longest(config: Mapping[str, Any], family: str) -> int:
    """Positions, stretched where rotations are (as vLLM reckons; other scaling is in the positions already)."""
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    stretched = isinstance(rope, Mapping) and rope.get("rope_type", rope.get("type")) in ("linear", "dynamic")
    factor = rope.get("factor") if isinstance(rope, Mapping) and stretched and "gemma3" not in family else None
    longer = factor if isinstance(factor, int | float) and 1 <= factor <= MOST_LAYERS else 1
    return int(_optional(config, 0, "max_position_embeddings", "n_positions") * longer)


# What a family's config.json leaves out because the library's own defaults hold (Gemma 3 4B states few dimensions).
_UNSAID: Mapping[str, Mapping[str, int]] = {
    "gemma3_text": {
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
    }
}


def shape_of_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape in a Hugging Face config.json; ValueError names what is missing.

    Known families: Llama, Mistral, Qwen2/3, Gemma, Mixtral, Qwen-MoE, DeepSeek (MLA); a multimodal
    model's nested text_config is used."""
    nested = config.get("text_config")
    if isinstance(nested, Mapping):
        config = {**{k: v for k, v in config.items() if k != "text_config"}, **nested}
    family = config.get("model_type")
    family = family if isinstance(family, str) else ""
    config = {**_UNSAID.get(family, {}), **config}
    layers = _required(config, "num_hidden_layers", "n_layer", "num_layers")
    if layers > MOST_LAYERS:
        raise ValueError(f"config.json: num_hidden_layers is above {MOST_LAYERS}")
    hidden = _required(config, "hidden_size", "n_embd", "d_model")
    heads = _required(config, "num_attention_heads", "n_head")
    latent = _optional(config, 0, "kv_lora_rank")
    head_dim = _optional(config, hidden // heads, *(("v_head_dim",) if latent else ()), "head_dim")
    return ModelShape(
        layers=layers,
        hidden_size=hidden,
        attention_heads=heads,
        kv_heads=_optional(config, heads, "num_key_value_heads"),
        head_dim=head_dim,
        intermediate_size=_required(config, "intermediate_size", "moe_intermediate_size", "n_inner"),
        vocab_size=_required(config, "vocab_size"),
        tied_embeddings=bool(config.get("tie_word_embeddings", "gemma" in family)),
        kv_lora_rank=latent,
        qk_rope_head_dim=_optional(config, 64, "qk_rope_head_dim") if latent else 0,
        q_lora_rank=_optional(config, 0, "q_lora_rank") if latent else 0,
        max_model_len=_longest(config, family),
        **_experts(config, layers),
    )
