"""The inspection Job: reads a model's config.json where its weights are and hands the dimensions to the operator as the
container's termination message. Judges nothing: what the numbers mean is the operator's affair."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motley_worker.config import Pod, WorkerConfig
from motley_worker.errors import SourceNotFound
from motley_worker.process import main
from motley_worker.sources import fetch

log = logging.getLogger("motley.inspect")

CONFIG = "config.json"

# Numbers and flags under these names, in whatever family; the whole file may be larger than a termination message.
FIELDS = frozenset(
    "model_type architectures num_hidden_layers n_layer num_layers hidden_size n_embd d_model num_attention_heads "
    "n_head num_key_value_heads head_dim v_head_dim intermediate_size moe_intermediate_size n_inner vocab_size "
    "tie_word_embeddings kv_lora_rank qk_rope_head_dim q_lora_rank max_position_embeddings n_positions "
    "num_local_experts num_experts n_routed_experts num_experts_per_tok num_experts_per_token "
    "shared_expert_intermediate_size n_shared_experts first_k_dense_replace moe_layer_freq decoder_sparse_step "
    "mlp_only_layers".split()
)


def reduced(config: Mapping[str, Any]) -> dict[str, Any]:
    """What describes the shape; a multimodal model's is in text_config."""
    plain = {name: value for name, value in config.items() if name in FIELDS}
    text = config.get("text_config")
    return {**plain, "text_config": reduced(text)} if isinstance(text, Mapping) else plain


def inspection(config: WorkerConfig, pod: Pod) -> str:
    folder = fetch(config.source, config.revision, pod.cache, only=(CONFIG,), claims_dir=pod.claims)
    return report(folder / CONFIG, config.source)


def report(path: Path, source: str) -> str:
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SourceNotFound(f"{source}: {CONFIG} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise SourceNotFound(f"{source}: {CONFIG} is not an object")
    text = json.dumps({"config": reduced(config)}, separators=(",", ":"))
    if len(text) > 4096:
        raise SourceNotFound(f"{source}: {CONFIG} is odd: its dimensions take {len(text)} bytes")
    return text


def run(pod: Pod) -> None:
    text = inspection(WorkerConfig.from_env(), pod)
    log.info("%s", text)
    pod.write_termination_log(text)


if __name__ == "__main__":
    main(run)
