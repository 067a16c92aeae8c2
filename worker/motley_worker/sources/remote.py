"""What a hub and a bucket have in common: a listing of files of one version, and a way to get one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from motley_worker.errors import DownloadFailed, SourceNotFound


@dataclass(frozen=True)
class RemoteFile:
    path: str  # relative, below the model's folder
    size: int
    tag: str = ""  # what the server calls this content (an ETag)


@dataclass(frozen=True)
class Listing:
    version: str  # a partial download of another version is useless
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


class Interrupted(DownloadFailed):
    """The connection broke or the server was in trouble: try again."""


class Remote(Protocol):
    def listing(self) -> Listing: ...

    def download(self, file: RemoteFile, version: str, folder: Path) -> None:
        """Ends with folder/file.path in place and whole, or raises a WorkerError."""
        ...


def refuse_escapes(source: str, paths: Sequence[str]) -> None:
    """A name from a server must not lead out of the folder it is written to."""
    for path in paths:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path or "\\" in path:
            raise SourceNotFound(f"{source}: file name {path!r} leads out of the model's folder; remove that file")
