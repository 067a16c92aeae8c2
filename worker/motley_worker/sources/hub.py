"""hf://: a repository of a Hugging Face hub (HF_ENDPOINT, HF_TOKEN). The only door to huggingface_hub."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from motley_worker.errors import DownloadFailed, SourceNotFound, WorkerError
from motley_worker.sources.remote import Interrupted, Listing, RemoteFile

disable_progress_bars()  # pods have logs, not terminals

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".tflite")


_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


@dataclass(frozen=True)
class Hub:
    repository: str  # org/name
    revision: str | None

    def listing(self) -> Listing:
        with self._errors():
            info = self._api().model_info(self.repository, revision=self.revision, files_metadata=True, timeout=60)
        files = {item.rfilename: item.size or 0 for item in info.siblings or ()}
        names = needed(tuple(files))
        return Listing(info.sha or "", tuple(RemoteFile(name, files[name]) for name in sorted(names)))

    def download(self, file: RemoteFile, version: str, folder: Path) -> None:
        with self._errors():
            hf_hub_download(self.repository, file.path, revision=version, local_dir=folder, endpoint=_endpoint())

    def _api(self) -> HfApi:
        return HfApi(endpoint=_endpoint())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise
            raise self._mapped(error) from error

    def _mapped(self, error: Exception) -> WorkerError:
        where = f"hf://{self.repository}"
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
        if isinstance(error, GatedRepoError):
            return DownloadFailed(f"{where}: gated; accept its terms and give a HF_TOKEN that may read it")
        if isinstance(error, RevisionNotFoundError):
            return SourceNotFound(f"{where}: no revision {self.revision!r}")
        if status in (401, 403):  # a hub also answers 401 for what does not exist, so as not to tell
            return DownloadFailed(f"{where}: refused ({status}); check the name, and HF_TOKEN for a private one")
        if isinstance(error, RepositoryNotFoundError | EntryNotFoundError):
            return SourceNotFound(f"{where}: not found")
        if isinstance(error, HFValidationError):
            return SourceNotFound(f"{where}: not a repository name: {error}")
        # what is left is network trouble of the HTTP library underneath, whose classes change between versions
        return Interrupted(f"{where}: {type(error).__name__}: {error}")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def needed(names: Sequence[str]) -> tuple[str, ...]:
    """Without the copies of the weights in other formats, where there are safetensors."""
    top = [name for name in names if "/" not in name and name.endswith(".safetensors")]
    if not top:
        return tuple(names)
    kept = {name for name in top if not name.startswith("consolidated")} or set(top)
    return tuple(name for name in names if name in kept or not name.endswith(_WEIGHTS))
