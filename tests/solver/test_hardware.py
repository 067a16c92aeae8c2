"""Spec sheets and shapes: published parameter counts, memory, and errors that name the field."""

import pytest

from motley_solver.hardware import CATALOGUE, GIB, gpu_named, shape_of_config

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
}
QWEN3_06B = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_hidden_layers": 28,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
}
QWEN3_30B_A3B = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_hidden_layers": 48,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "num_hidden_layers": 61,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "vocab_size": 129280,
}


@pytest.mark.parametrize(
    ("config", "billions", "active"),
    [
        (LLAMA_8B, 8.03, 7.5),
        (QWEN3_06B, 0.596, 0.596),
        (MIXTRAL, 46.7, 12.75),
        (QWEN3_30B_A3B, 30.5, 3.0),
        (DEEPSEEK_V3, 671, 36.6),
    ],
    ids=["llama", "qwen3", "mixtral", "qwen3-moe", "deepseek"],
)
def test_shapes_have_the_published_number_of_parameters(
    config: dict[str, object], billions: float, active: float
) -> None:
    shape = shape_of_config(config)
    assert shape.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert shape.active_parameters / 1e9 == pytest.approx(active, rel=0.03)


def test_weights_and_kv_follow_their_types() -> None:
    shape = shape_of_config(LLAMA_8B)
    assert shape.weight_bytes("bfloat16") / GIB == pytest.approx(14.96, abs=0.01)
    assert shape.weight_bytes("int4") < shape.weight_bytes("fp8") < shape.weight_bytes("bfloat16")
    assert shape.kv_bytes_per_token("bfloat16") == 131072
    assert shape.kv_bytes_per_token("fp8") == 65536


def test_kv_heads_are_copied_beyond_their_number_and_a_latent_always() -> None:
    shape, latent = shape_of_config(LLAMA_8B), shape_of_config(DEEPSEEK_V3)
    assert shape.kv_bytes_per_token_and_gpu("bfloat16", 4) == 131072 / 4
    assert shape.kv_bytes_per_token_and_gpu("bfloat16", 16) == 131072 / 8
    assert latent.kv_bytes_per_token_and_gpu("bfloat16", 8) == latent.kv_bytes_per_token("bfloat16") == 61 * 576 * 2


def test_heads_must_divide_by_the_tensor_parallelism() -> None:
    shape = shape_of_config(LLAMA_8B)
    assert [tp for tp in (0, 1, 2, 3, 4, 6, 8) if shape.fits_tensor_parallel(tp)] == [1, 2, 4, 8]


def test_a_multimodal_models_text_part_is_used() -> None:
    nested = {"model_type": "gemma3", "text_config": {**LLAMA_8B}, "vision_config": {"hidden_size": 99}}
    assert shape_of_config(nested) == shape_of_config(LLAMA_8B)


def test_gemma_ties_its_embeddings_unless_told_otherwise() -> None:
    gemma = {**LLAMA_8B, "model_type": "gemma2"}
    del gemma["tie_word_embeddings"]
    assert shape_of_config(gemma).tied_embeddings
    assert not shape_of_config({**gemma, "tie_word_embeddings": False}).tied_embeddings


@pytest.mark.parametrize(
    "field", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"]
)
@pytest.mark.parametrize("value", [None, "many", 0, -1, 1.5, True])
def test_a_missing_or_senseless_field_is_named(field: str, value: object) -> None:
    config: dict[str, object] = {**LLAMA_8B, field: value}
    with pytest.raises(ValueError, match=field):
        shape_of_config(config)


def test_experts_without_their_number_per_token_are_refused() -> None:
    with pytest.raises(ValueError, match="num_experts_per_tok"):
        shape_of_config({k: v for k, v in MIXTRAL.items() if k != "num_experts_per_tok"})


def test_every_spec_sheet_is_sensible_and_says_its_source() -> None:
    for gpu in CATALOGUE.values():
        assert 0 < gpu.usable_memory_gib <= gpu.memory_gib, gpu
        assert min(gpu.bandwidth_gb_s, gpu.tflops_16bit, gpu.link_gb_s) > 0, gpu
        assert gpu.tflops_fp8 is None or 1.9 < gpu.tflops_fp8 / gpu.tflops_16bit < 2.1, gpu
        assert gpu.source, gpu


def test_gpus_are_found_by_name_and_alias_in_any_case() -> None:
    assert gpu_named("a100") == gpu_named("A100-80GB") == CATALOGUE["A100-80GB"]
    assert gpu_named("h100").tflops_16bit == 989  # dense; 1979 is the figure with sparsity


def test_an_unknown_gpu_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="'H9000'; known are T4, V100, L4"):
        gpu_named("H9000")
