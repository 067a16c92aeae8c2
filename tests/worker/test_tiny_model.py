import json
from pathlib import Path

from folders import contents
from tokenizers import Tokenizer

from e2e import tiny_model
from motley_worker.sources import fetch


def test_one_seed_gives_one_model(tmp_path: Path) -> None:
    first, second, other = (tiny_model.make(tmp_path / name, seed) for name, seed in [("a", 0), ("b", 0), ("c", 1)])
    assert contents(first) == contents(second)
    assert contents(first)["model.safetensors"] != contents(other)["model.safetensors"]


def test_a_model_that_is_there_is_left_alone_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    folder = tiny_model.make(tmp_path / "tiny")
    made = folder.stat().st_ino
    assert tiny_model.make(folder).stat().st_ino == made
    (folder / "STAMP").unlink()
    (folder / "config.json").unlink()
    assert "config.json" in contents(tiny_model.make(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_it_is_a_model_that_a_worker_can_fetch(tmp_path: Path, cache: Path) -> None:
    folder = tiny_model.make(tmp_path / "tiny")
    assert fetch(f"file://{folder}", None, cache) == folder
    config = json.loads((folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    assert tokenizer.decode(tokenizer.encode("Hello, wörld 你").ids) == "Hello, wörld 你"
