from pathlib import Path

import pytest
from fake_bucket import FakeBucket
from folders import contents
from loopback import Fault

from motley_worker.errors import DownloadFailed, SourceNotFound
from motley_worker.sources import fetch

SOURCE = "s3://models/llama/tiny"
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 8192, "extra/empty.txt": b""}


@pytest.fixture
def filled(bucket: FakeBucket) -> FakeBucket:
    bucket.objects = {f"llama/tiny/{name}": body for name, body in FILES.items()}
    bucket.objects |= {"llama/tiny/": b"", "llama/tiny-other/config.json": b"other"}
    return bucket


@pytest.mark.parametrize("source", [SOURCE, f"{SOURCE}/"])
def test_a_prefix_is_downloaded_whole_and_nothing_beside_it(filled: FakeBucket, cache: Path, source: str) -> None:
    assert contents(fetch(source, None, cache)) == FILES


def test_a_second_fetch_asks_nothing(filled: FakeBucket, cache: Path) -> None:
    fetch(SOURCE, None, cache)
    asked = len(filled.requests)
    fetch(SOURCE, None, cache)
    assert len(filled.requests) == asked


def test_a_whole_bucket_can_be_a_model(filled: FakeBucket, cache: Path) -> None:
    filled.objects = dict(FILES)
    assert contents(fetch("s3://models", None, cache)) == FILES


def test_an_inspection_fetches_one_file(filled: FakeBucket, cache: Path) -> None:
    assert set(contents(fetch(SOURCE, None, cache, only=("config.json",)))) == {"config.json"}


def test_a_broken_download_goes_on_where_it_ended(filled: FakeBucket, cache: Path) -> None:
    filled.faults.append(Fault("GET /models/llama/tiny/model.safetensors", truncate=1_000_000, times=1))
    assert contents(fetch(SOURCE, None, cache)) == FILES
    ranges = [request.headers.get("range") for request in filled.asked("GET", "model.safetensors")]
    assert ranges[0] is None
    assert ranges[1:] == ["bytes=1000000-"]


def test_a_server_without_ranges_starts_the_file_anew(filled: FakeBucket, cache: Path) -> None:
    filled.ranges = False
    filled.faults.append(Fault("GET /models/llama/tiny/model.safetensors", truncate=1_000_000, times=1))
    assert contents(fetch(SOURCE, None, cache)) == FILES


def test_an_object_that_changes_meanwhile_is_not_joined_with_its_old_self(filled: FakeBucket, cache: Path) -> None:
    filled.faults.append(Fault("GET /models/llama/tiny/model.safetensors", status=412, body=b""))
    with pytest.raises(DownloadFailed, match="changed while it was downloaded"):
        fetch(SOURCE, None, cache)
    filled.faults.clear()
    filled.objects["llama/tiny/model.safetensors"] = b"new"
    assert contents(fetch(SOURCE, None, cache))["model.safetensors"] == b"new"


@pytest.mark.parametrize("source", ["s3://others/llama/tiny", "s3://models/llama/nothing"])
def test_what_does_not_exist_is_not_found(filled: FakeBucket, cache: Path, source: str) -> None:
    with pytest.raises(SourceNotFound, match=source):
        fetch(source, None, cache)


def test_refused_credentials_are_said(filled: FakeBucket, cache: Path) -> None:
    body = b"<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code></Error>"
    filled.faults.append(Fault("list-type", status=403, body=body))
    with pytest.raises(DownloadFailed, match=r"refused \(InvalidAccessKeyId\); check AWS_ACCESS_KEY_ID"):
        fetch(SOURCE, None, cache)


def test_missing_credentials_are_said(filled: FakeBucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(DownloadFailed, match="set AWS_ACCESS_KEY_ID"):
        fetch(SOURCE, None, cache)


def test_a_key_that_leads_out_of_the_folder_is_refused(filled: FakeBucket, cache: Path) -> None:
    filled.objects["llama/tiny/../../evil"] = b"x"
    with pytest.raises(SourceNotFound, match="leads out"):
        fetch(SOURCE, None, cache)
