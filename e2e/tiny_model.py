"""Makes a tiny Llama with random weights, a tokenizer trained on the spot and a chat template, in Hugging Face format:
what demo, tests and bench serve, so that they need no hub. `python -m e2e.tiny_model FOLDER`. Needs no torch."""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

LAYERS, HIDDEN, HEADS, KV_HEADS, INTERMEDIATE, VOCABULARY = 2, 128, 4, 2, 256, 512
CONTEXT = 4096
BEGIN, END = "<|begin|>", "<|end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TEXT = (
    "A fleet is a number of ships that sail together, and no two of them need to be alike. Some are fast and dear, "
    "some are slow and cheap; the art is to give each the load that suits it. Short letters go by the small boats, "
    "heavy goods by the large ones. When a harbour closes, the captain looks at the map again, finds another way and "
    "says what will be late and why. Nothing is left on the quay without a word, nothing is sent twice, and the cost "
    "of the voyage is written down before the anchor is raised. The user asks a question and the assistant answers "
    "with one word after another, each of them chosen from what was said before. Hello, how are you today?",
    "user: system: assistant: Motley serves large language models on whatever graphics processors you can get.",
)


def make(folder: Path, seed: int = 0) -> Path:
    """The model's folder, made unless the same one is already there; a reader never sees half of it."""
    stamp = f"motley tiny model 1, seed {seed}\n"
    if (folder / "STAMP").exists() and (folder / "STAMP").read_text() == stamp:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _write(half, seed)
        (half / "STAMP").write_text(stamp)
        half.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        half.rename(folder)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    return folder


def _write(folder: Path, seed: int) -> None:
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END,
            "model_max_length": CONTEXT,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    begin, end = tokenizer.token_to_id(BEGIN), tokenizer.token_to_id(END)
    _write_json(folder / "config.json", _config(begin, end))
    _write_json(folder / "generation_config.json", {"bos_token_id": begin, "eos_token_id": end})
    _write_weights(folder / "model.safetensors", seed)


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def _tokenizer() -> Tokenizer:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BEGIN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"TEXT gives {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}: write more of it")
    return tokenizer


def _config(begin: int | None, end: int | None) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "intermediate_size": INTERMEDIATE,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": begin,
        "eos_token_id": end,
        "torch_dtype": "bfloat16",
    }


def _shapes() -> dict[str, tuple[int, ...]]:
    kv = KV_HEADS * HIDDEN // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }
    for layer in range(LAYERS):
        here = f"model.layers.{layer}"
        shapes |= {
            f"{here}.input_layernorm.weight": (HIDDEN,),
            f"{here}.post_attention_layernorm.weight": (HIDDEN,),
            f"{here}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            f"{here}.self_attn.k_proj.weight": (kv, HIDDEN),
            f"{here}.self_attn.v_proj.weight": (kv, HIDDEN),
            f"{here}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{here}.mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{here}.mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{here}.mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
        }
    return shapes


def _write_weights(path: Path, seed: int) -> None:
    """The safetensors format: the header's length, the header as JSON, the numbers."""
    random = np.random.default_rng(seed)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, shape in _shapes().items():
        values = _bfloat16(random, shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def _bfloat16(random: np.random.Generator, shape: tuple[int, ...]) -> bytes:
    """Norms are ones, matrices keep the size of what they multiply. A bfloat16 is the upper half of a float32."""
    values = np.ones(shape) if len(shape) == 1 else random.standard_normal(shape) * shape[-1] ** -0.5
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.tiny_model", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(make(arguments.folder, arguments.seed))


if __name__ == "__main__":
    main()
