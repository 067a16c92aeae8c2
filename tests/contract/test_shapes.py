"""One shape on its way: config.json → the worker's inspection → a termination message → the operator → the planner."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from fleets import SOURCE, model, pool, view_of

from motley_operator.admission import inspected
from motley_operator.api import Shape
from motley_operator.fleet import InspectionView
from motley_solver.hardware import ModelShape, shape_of_config
from motley_worker.inspect import reduced

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
        "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
        "eos_token_id": [128001, 128008],
        "torch_dtype": "bfloat16",
    },
    "qwen3, heads wider than hidden size": {
        "model_type": "qwen3",
        "hidden_size": 1024,
        "head_dim": 128,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": True,
        "sliding_window": None,
    },
    "gemma, tied without saying so": {
        "model_type": "gemma2",
        "hidden_size": 2304,
        "head_dim": 256,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 256000,
    },
    "gemma, multimodal": {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 2560,
            "head_dim": 256,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "vocab_size": 262208,
        },
        "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
    },
    "mixtral": {
        "model_type": "mixtral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    },
    "qwen, mixture of experts": {
        "model_type": "qwen2_moe",
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": 151936,
    },
    "deepseek, latent attention": {
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 3,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "vocab_size": 129280,
        "max_position_embeddings": 163840,
        "tie_word_embeddings": False,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    },
    "gpt2, with names of its own": {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_inner": 3072,
        "n_positions": 1024,
        "vocab_size": 50257,
    },
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_inspection_leaves_out_nothing_that_the_shape_needs(name: str) -> None:
    config = CONFIGS[name]
    assert shape_of_config(reduced(config)) == shape_of_config(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_message_fits_a_termination_log(name: str) -> None:
    assert len(json.dumps({"config": reduced(CONFIGS[name])})) <= 4096


@pytest.mark.parametrize("name", CONFIGS)
def test_the_operator_reads_the_inspections_message(name: str) -> None:
    config = CONFIGS[name]
    message = json.dumps({"config": reduced(config)}, separators=(",", ":"))
    view = view_of(pool(), model("chat", {"shape": None}))
    job = InspectionView("team", "j", "chat", SOURCE, True, False, message, "")
    found = inspected(view.models[0], replace(view, inspections=(job,)))
    assert isinstance(found, Shape)
    assert ModelShape(**found.model_dump()) == shape_of_config(config)


def test_a_shape_has_the_same_fields_and_defaults_in_the_api_and_in_the_planner() -> None:
    planner = {field.name: field.default for field in fields(ModelShape)}
    api = {name: field.default for name, field in Shape.model_fields.items()}
    assert api.keys() == planner.keys()
    required = {name for name, field in Shape.model_fields.items() if field.is_required()}
    assert {name: api[name] for name in api.keys() - required} == {
        name: planner[name] for name in api.keys() - required
    }
