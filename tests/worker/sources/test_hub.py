import json
from pathlib import Path

import pytest
from fake_hub import FakeHub
from folders import contents
from loopback import Fault

from motley_worker.errors import DownloadFailed, SourceNotFound
from motley_worker.sources import fetch
from motley_worker.sources.hub import needed

SOURCE = "hf://org/tiny"
FILES = {"config.json": b'{"a": 1}', "model.safetensors": bytes(range(256)) * 4096, "tokenizer.json": b"{}"}


@pytest.fixture
def filled(hub: FakeHub) -> FakeHub:
    hub.repositories["org/tiny"] = dict(FILES)
    return hub


def test_a_repository_is_downloaded_whole_and_only_once(filled: FakeHub, cache: Path) -> None:
    folder = fetch(SOURCE, None, cache)
    assert json.loads((folder / ".motley.json").read_text())["version"] == filled.commit("org/tiny")
    assert contents(folder) == FILES
    asked = len(filled.requests)
    assert fetch(SOURCE, None, cache) == folder
    assert len(filled.requests) == asked


def test_revisions_have_folders_of_their_own(filled: FakeHub, cache: Path) -> None:
    assert fetch(SOURCE, "main", cache) != fetch(SOURCE, filled.commit("org/tiny"), cache)


def test_an_inspection_fetches_one_file(filled: FakeHub, cache: Path) -> None:
    folder = fetch(SOURCE, None, cache, only=("config.json",))
    assert contents(folder).keys() == {"config.json"}
    assert not filled.asked("GET", "model.safetensors")


def test_the_token_is_used(filled: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.token = "hf_secret"
    with pytest.raises(DownloadFailed, match=r"refused \(401\); check the name, and HF_TOKEN"):
        fetch(SOURCE, None, cache)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert contents(fetch(SOURCE, None, cache)) == FILES


@pytest.mark.parametrize(
    ("source", "revision", "message"),
    [
        ("hf://org/other", None, "hf://org/other: not found"),
        (SOURCE, "v9", "no revision 'v9'"),
        ("hf://a/b/c", None, "not a repository name"),
    ],
)
def test_what_does_not_exist_is_not_found(
    filled: FakeHub, cache: Path, source: str, revision: str | None, message: str
) -> None:
    with pytest.raises(SourceNotFound, match=message):
        fetch(source, revision, cache)


def test_a_gated_repository_says_what_to_do(filled: FakeHub, cache: Path) -> None:
    filled.faults.append(Fault("/api/models", status=403, headers={"X-Error-Code": "GatedRepo"}))
    with pytest.raises(DownloadFailed, match="accept its terms"):
        fetch(SOURCE, None, cache)


def test_a_repository_without_config_is_no_model(filled: FakeHub, cache: Path) -> None:
    del filled.repositories["org/tiny"]["config.json"]
    with pytest.raises(SourceNotFound, match=r"no config.json there"):
        fetch(SOURCE, None, cache)


def test_a_broken_connection_is_tried_again(filled: FakeHub, cache: Path) -> None:
    filled.faults.append(Fault("GET /org/tiny/resolve", truncate=1000, times=1))
    filled.faults.append(Fault("/api/models", status=502, times=1))
    assert contents(fetch(SOURCE, None, cache)) == FILES


def test_a_hub_that_stays_in_trouble_is_a_failed_download(filled: FakeHub, cache: Path) -> None:
    filled.faults.append(Fault("/api/models", status=500))
    with pytest.raises(DownloadFailed, match="500"):
        fetch(SOURCE, None, cache)
    assert len(filled.asked("GET")) == 3


def test_a_hub_that_is_away_is_a_failed_download(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadFailed, match="hf://org/tiny: Connect"):
        fetch(SOURCE, None, cache)


def test_a_name_that_leads_out_of_the_folder_is_refused(filled: FakeHub, cache: Path) -> None:
    filled.repositories["org/tiny"]["../../evil"] = b"x"
    with pytest.raises(SourceNotFound, match=r"'\.\./\.\./evil' leads out"):
        fetch(SOURCE, None, cache)


def test_weights_that_do_not_fit_are_not_begun(filled: FakeHub, cache: Path) -> None:
    filled.sizes["model.safetensors"] = 10**18
    with pytest.raises(DownloadFailed, match="do not fit in the cache"):
        fetch(SOURCE, None, cache)
    assert not filled.asked("GET", "/resolve/")


def test_a_damaged_file_in_the_cache_is_fetched_again(filled: FakeHub, cache: Path) -> None:
    folder = fetch(SOURCE, None, cache)
    (folder / "model.safetensors").write_bytes(b"short")
    assert contents(fetch(SOURCE, None, cache)) == FILES
    assert len(filled.asked("GET", "tokenizer.json")) == 1


def test_a_cache_that_cannot_be_written_is_named(filled: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadFailed, match=f"writing to the cache {tmp_path}/file/cache"):
        fetch(SOURCE, None, tmp_path / "file/cache")


def test_only_one_format_of_the_weights_is_needed() -> None:
    names = (
        *("config.json", "model-1.safetensors", "consolidated.safetensors", "pytorch_model.bin"),
        *("original/params.json", "original/consolidated.00.pth", "metal/model.safetensors"),
    )
    assert needed(names) == ("config.json", "model-1.safetensors", "original/params.json")
    assert needed(("config.json", "pytorch_model.bin")) == ("config.json", "pytorch_model.bin")
    assert needed(("consolidated.safetensors", "params.json")) == ("consolidated.safetensors", "params.json")
