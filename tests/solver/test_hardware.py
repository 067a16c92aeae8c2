"""Spec sheets and shapes: published parameter counts, memory, and errors that name the field."""

import pytest

from motley_solver.hardware import CATALOGUE, GIB, gpu_named, gpu_type, shape_of_config


def config(
    family: str, hidden: int, intermediate: int, heads: int, kv_heads: int, layers: int, vocabulary: int, **more: object
) -> dict[str, object]:
    """A config.json, as far as dimensions go."""
    return {
        "model_type": family,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": layers,
        "vocab_size": vocabulary,
        **more,
    }


def mixture(experts: int, per_token: int, size: int, shared: int = 0) -> dict[str, object]:
    """The experts of a Qwen mixture."""
    sizes = {"moe_intermediate_size": size, "shared_expert_intermediate_size": shared}
    return {"num_experts": experts, "num_experts_per_tok": per_token, "decoder_sparse_step": 1, **sizes}


def latent(
    experts: int, shared: int, per_token: int, size: int, dense: int, query_rank: int | None
) -> dict[str, object]:
    """The experts and the latent attention of a DeepSeek."""
    return {
        "n_routed_experts": experts,
        "n_shared_experts": shared,
        "num_experts_per_tok": per_token,
        "moe_intermediate_size": size,
        "first_k_dense_replace": dense,
        "moe_layer_freq": 1,
        "kv_lora_rank": 512,
        "q_lora_rank": query_rank,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
    }


LLAMA_8B = config("llama", 4096, 14336, 32, 8, 32, 128256, tie_word_embeddings=False, max_position_embeddings=131072)
MIXTRAL = config("mixtral", 4096, 14336, 32, 8, 32, 32000, num_local_experts=8, num_experts_per_tok=2)
QWEN3_30B = config("qwen3_moe", 2048, 6144, 32, 4, 48, 151936, head_dim=128, **mixture(128, 8, 768))
DEEPSEEK_V3 = config("deepseek_v3", 7168, 18432, 128, 128, 61, 129280, **latent(256, 1, 8, 2048, 3, 1536))
GEMMA3_4B = {
    "model_type": "gemma3",
    "text_config": {  # states no heads and no vocabulary
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
    },
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
}

# config, billions of parameters as published (of the text part), KV bytes per token in 16 bits
PUBLISHED: dict[str, tuple[dict[str, object], float, int]] = {
    "Llama-3.1-8B": (LLAMA_8B, 8.03, 131072),
    "Llama-3.1-70B": (config("llama", 8192, 28672, 64, 8, 80, 128256), 70.6, 327680),
    "Llama-3.1-405B": (config("llama", 16384, 53248, 128, 8, 126, 128256), 405.9, 516096),
    "Llama-3.2-1B": (
        config("llama", 2048, 8192, 32, 8, 16, 128256, head_dim=64, tie_word_embeddings=True),
        1.24,
        32768,
    ),
    "Mistral-7B": (config("mistral", 4096, 14336, 32, 8, 32, 32000), 7.24, 131072),
    "Mistral-Nemo-12B": (config("mistral", 5120, 14336, 32, 8, 40, 131072, head_dim=128), 12.2, 163840),
    "Mistral-Small-24B": (config("mistral", 5120, 32768, 32, 8, 40, 131072, head_dim=128), 23.6, 163840),
    "Qwen2.5-0.5B": (config("qwen2", 896, 4864, 14, 2, 24, 151936, tie_word_embeddings=True), 0.49, 12288),
    "Qwen2.5-7B": (config("qwen2", 3584, 18944, 28, 4, 28, 152064), 7.62, 57344),
    "Qwen2.5-72B": (config("qwen2", 8192, 29568, 64, 8, 80, 152064), 72.7, 327680),
    "Qwen3-0.6B": (
        config("qwen3", 1024, 3072, 16, 8, 28, 151936, head_dim=128, tie_word_embeddings=True),
        0.596,
        114688,
    ),
    "Qwen3-8B": (config("qwen3", 4096, 12288, 32, 8, 36, 151936, head_dim=128), 8.19, 147456),
    "Qwen3-32B": (config("qwen3", 5120, 25600, 64, 8, 64, 151936, head_dim=128), 32.8, 262144),
    "Gemma-2-9B": (config("gemma2", 3584, 14336, 16, 8, 42, 256000, head_dim=256), 9.24, 344064),
    "Gemma-2-27B": (config("gemma2", 4608, 36864, 32, 16, 46, 256000, head_dim=128), 27.2, 376832),
    "Gemma-3-4B": (GEMMA3_4B, 3.88, 139264),
    "Gemma-3-27B": (
        {"model_type": "gemma3", "text_config": config("gemma3_text", 5376, 21504, 32, 16, 62, 262208, head_dim=128)},
        27.0,
        507904,
    ),
    "Mixtral-8x7B": (MIXTRAL, 46.7, 131072),
    "Mixtral-8x22B": (
        config("mixtral", 6144, 16384, 48, 8, 56, 32768, num_local_experts=8, num_experts_per_tok=2),
        140.6,
        229376,
    ),
    "Qwen1.5-MoE-A2.7B": (
        config("qwen2_moe", 2048, 5632, 16, 16, 24, 151936, **mixture(60, 4, 1408, 5632)),
        14.3,
        196608,
    ),
    "Qwen2-57B-A14B": (config("qwen2_moe", 3584, 18944, 28, 4, 28, 151936, **mixture(64, 8, 2560, 20480)), 57.4, 57344),
    "Qwen3-30B-A3B": (QWEN3_30B, 30.5, 98304),
    "Qwen3-235B-A22B": (
        config("qwen3_moe", 4096, 12288, 64, 4, 94, 151936, head_dim=128, **mixture(128, 8, 1536)),
        235,
        192512,
    ),
    "DeepSeek-V2-Lite": (
        config("deepseek_v2", 2048, 10944, 16, 16, 27, 102400, **latent(64, 2, 6, 1408, 1, None)),
        15.7,
        31104,
    ),
    "DeepSeek-V2": (
        config("deepseek_v2", 5120, 12288, 128, 128, 60, 102400, **latent(160, 2, 6, 1536, 1, 1536)),
        236,
        69120,
    ),
    "DeepSeek-V3": (DEEPSEEK_V3, 671, 70272),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_have_the_published_number_of_parameters_and_kv_bytes(name: str) -> None:
    given, billions, kv_bytes = PUBLISHED[name]
    shape = shape_of_config(given)
    assert shape.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert shape.kv_bytes_per_token("bfloat16") == kv_bytes


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Llama-3.1-8B", 8.03),
        ("Mixtral-8x7B", 12.9),
        ("Mixtral-8x22B", 39.1),
        ("Qwen1.5-MoE-A2.7B", 2.7),
        ("Qwen3-30B-A3B", 3.3),
        ("Qwen3-235B-A22B", 22),
        ("DeepSeek-V2", 21),
        ("DeepSeek-V3", 37),
    ],
)
def test_a_token_is_multiplied_with_the_published_active_parameters(name: str, billions: float) -> None:
    shape = shape_of_config(PUBLISHED[name][0])
    assert (shape.flops_per_token / 2 + shape.embedding_parameters) / 1e9 == pytest.approx(
        billions, rel=0.02
    )  # they are rounded so


def test_layers_without_experts_are_counted_from_the_front_by_steps_and_by_list() -> None:
    def dense(**more: object) -> int:
        return shape_of_config({**QWEN3_30B, **more}).dense_layers

    assert dense() == 0
    assert dense(decoder_sparse_step=2) == 24
    assert dense(mlp_only_layers=[0, 5, 47]) == 3
    assert dense(decoder_sparse_step=2, mlp_only_layers=[0, 1]) == 25  # 0 had none anyway
    assert dense(first_k_dense_replace=3) == 3
    assert dense(first_k_dense_replace=1, moe_layer_freq=2) == 25


def test_a_step_streams_all_of_a_dense_model_but_the_input_embedding() -> None:
    shape = shape_of_config(LLAMA_8B)
    assert shape.streamed_bytes("bfloat16") == shape.weight_bytes("bfloat16") - 128256 * 4096 * 2


def test_a_mixture_streams_all_its_experts() -> None:
    shape = shape_of_config(QWEN3_30B)
    assert shape.streamed_bytes("bfloat16") == shape.weight_bytes("bfloat16") - 151936 * 2048 * 2


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


@pytest.mark.parametrize(
    ("heads", "kv_heads", "splits"),
    [(40, 10, [1, 2]), (32, 8, [1, 2, 4, 8]), (48, 1, [1, 2, 4, 8]), (14, 2, [1, 2]), (24, 6, [1, 2])],
)
def test_kv_heads_divide_by_the_tensor_parallelism_or_it_by_them(heads: int, kv_heads: int, splits: list[int]) -> None:
    shape = shape_of_config(config("phi3", 5120, 17920, heads, kv_heads, 40, 32064, head_dim=128))
    assert [tp for tp in (1, 2, 4, 8) if shape.fits_tensor_parallel(tp)] == splits


def test_a_latent_has_no_kv_heads_to_split() -> None:
    shape = shape_of_config({**DEEPSEEK_V3, "num_key_value_heads": 3})
    assert shape.fits_tensor_parallel(8)


def test_a_multimodal_models_text_part_is_used() -> None:
    nested = {"model_type": "llava", "text_config": {**LLAMA_8B}, "vision_config": {"hidden_size": 99}}
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


@pytest.mark.parametrize("layers", [1001, 10**9])
def test_layers_beyond_all_models_are_refused_before_they_are_counted(layers: int) -> None:
    with pytest.raises(ValueError, match="num_hidden_layers is above 1000"):
        shape_of_config({**QWEN3_30B, "num_hidden_layers": layers})


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="hidden_size is missing or not a positive whole number"):
        shape_of_config({**LLAMA_8B, "hidden_size": value})


def test_layers_without_experts_that_are_no_list_are_refused() -> None:
    for senseless in (5, "0", {"0": 1}):
        with pytest.raises(ValueError, match="mlp_only_layers is not a list"):
            shape_of_config({**QWEN3_30B, "mlp_only_layers": senseless})
    assert shape_of_config({**QWEN3_30B, "mlp_only_layers": [0, "1", [2]]}).dense_layers == 1


# GiB, GB/s, dense TFLOPS in 16 bits, in FP32 and in FP8, GB/s of the link in one direction: the vendors' data sheets
SHEETS: dict[str, tuple[float, float, float, float, float | None, float]] = {
    "T4": (16, 300, 65, 8.1, None, 16),
    "V100": (16, 900, 125, 15.7, None, 150),
    "L4": (24, 300, 121, 30.3, 242, 32),
    "A10G": (24, 600, 70, 35, None, 32),
    "L40S": (48, 864, 362, 91.6, 733, 32),
    "A40": (48, 696, 149.7, 37.4, None, 56),
    "A100-40GB": (40, 1555, 312, 19.5, None, 300),
    "A100-80GB": (80, 2039, 312, 19.5, None, 300),
    "H100": (80, 3350, 989, 67, 1978, 450),
    "H200": (141, 4800, 989, 67, 1978, 450),
    "B200": (180, 7700, 2250, 75, 4500, 900),
    "MI300X": (192, 5300, 1300, 163.4, 2610, 64),
    "RTX4090": (24, 1008, 165.2, 82.6, 330.3, 32),
}


@pytest.mark.parametrize("name", SHEETS)
def test_the_catalogue_has_the_published_figures(name: str) -> None:
    gpu = CATALOGUE[name]
    tflops = gpu.tflops_16bit, gpu.tflops_fp32, gpu.tflops_fp8
    assert (gpu.memory_gib, gpu.bandwidth_gb_s, *tflops, gpu.link_gb_s) == SHEETS[name]
    assert gpu.bf16 == (name not in ("T4", "V100"))


def test_every_spec_sheet_is_sensible_and_says_its_source() -> None:
    for gpu in CATALOGUE.values():
        assert 0 < gpu.usable_memory_gib <= gpu.memory_gib, gpu
        assert min(gpu.bandwidth_gb_s, gpu.tflops_16bit, gpu.link_gb_s) > 0, gpu
        assert gpu.tflops_fp8 is None or 1.9 < gpu.tflops_fp8 / gpu.tflops_16bit < 2.1, gpu
        assert gpu.source, gpu


def test_gpus_are_found_by_name_and_alias_in_any_case() -> None:
    assert gpu_named("a100") == gpu_named("A100-80GB") == CATALOGUE["A100-80GB"]
    assert gpu_named("h100").tflops_16bit == 989  # dense; 1979 is the figure with sparsity


def test_one_type_has_one_name() -> None:
    assert gpu_type("A100") == gpu_type("a100-80gb") == "A100-80GB"
    assert gpu_type("Own") == "Own"


def test_in_a_full_mesh_more_gpus_have_more_links_into_a_switch_one_each() -> None:
    assert [gpu_named("MI300X").links_gb_s(tp) for tp in (2, 4, 8)] == [64, 192, 448]
    assert [gpu_named("H100").links_gb_s(tp) for tp in (2, 4, 8)] == [450, 450, 450]


def test_bf16_and_fp8_run_where_there_is_bf16() -> None:
    assert gpu_named("L4").runs("bfloat16", "fp8") and gpu_named("T4").runs("float16", "float16")
    for dtypes in (("bfloat16", "float16"), ("int4", "bfloat16"), ("fp8", "float16"), ("float16", "fp8")):
        assert not gpu_named("T4").runs(*dtypes)  # type: ignore[arg-type]


def test_an_unknown_gpu_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="'H9000'; known are T4, V100, L4"):
        gpu_named("H9000")


@pytest.mark.parametrize(
    ("rope", "longest"),
    [
        ({}, 4096),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2}}, 8192),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 4096),
        ({"rope_scaling": {"rope_type": "linear", "factor": "four"}}, 4096),
        ({"rope_scaling": {"rope_type": "linear", "factor": float("inf")}}, 4096),
        ({"rope_scaling": "linear"}, 4096),
    ],
)
def test_linear_and_dynamic_rotations_stretch_the_context(rope: dict[str, object], longest: int) -> None:
    assert shape_of_config(LLAMA_8B | {"max_position_embeddings": 4096} | rope).max_model_len == longest
