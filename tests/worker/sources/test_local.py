from pathlib import Path

import pytest

from motley_worker.errors import BadConfig, SourceNotFound
from motley_worker.sources import fetch


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "weights/llama/tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_claim_is_read_below_its_mount(model: Path, tmp_path: Path, cache: Path) -> None:
    assert fetch("pvc://claim/llama/tiny", None, cache, claims_dir=tmp_path / "weights") == model
    assert fetch("pvc://claim", None, cache, claims_dir=model) == model
    assert not cache.exists()


def test_a_folder_of_the_node_is_read_where_it_is(model: Path, cache: Path) -> None:
    assert fetch(f"file://{model}", None, cache) == model


@pytest.mark.parametrize("source", ["pvc://claim/../etc", "pvc://claim/a/../../etc", "file:///a/../etc", "pvc://../a"])
def test_dots_that_lead_upwards_are_refused(source: str, cache: Path) -> None:
    with pytest.raises(BadConfig, match=r"'\.\.' is not allowed"):
        fetch(source, None, cache)


@pytest.mark.parametrize("source", ["file:///nowhere/at/all", "pvc://claim/nowhere"])
def test_a_missing_folder_is_not_found(source: str, cache: Path) -> None:
    with pytest.raises(SourceNotFound, match="No such file"):
        fetch(source, None, cache)


def test_a_folder_without_config_is_no_model(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(SourceNotFound, match=f"no config.json in {tmp_path}"):
        fetch(f"file://{tmp_path}", None, cache)
