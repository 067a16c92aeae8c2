"""Where weights come from: `fetch` gives a local folder for hf://, s3://, pvc:// and file:// sources."""

from collections.abc import Collection
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from motley_worker.errors import BadConfig, SourceNotFound
from motley_worker.sources.cache import cached

__all__ = ["fetch"]


def fetch(
    source: str,
    revision: str | None,
    cache_dir: Path,
    only: Collection[str] = (),
    claims_dir: Path = Path("/weights"),
) -> Path:
    """The model's folder. `only` limits a download to these files. Raises a WorkerError."""
    url = urlsplit(source)
    path = PurePosixPath(url.path)
    if ".." in (*path.parts, url.netloc):
        raise BadConfig(f"source: {source}: '..' is not allowed in a path")
    inside = path.relative_to("/") if path.is_absolute() else path
    if url.scheme == "pvc":
        return _local(source, claims_dir / inside, only)
    if url.scheme == "file":
        return _local(source, Path(path), only)
    name = f"{source}@{revision or ''}{'?' + ','.join(sorted(only)) if only else ''}"
    if url.scheme == "hf":
        from motley_worker.sources.hub import Hub  # only one of the two libraries is needed

        return cached(source, Hub(str(PurePosixPath(url.netloc) / inside), revision), name, cache_dir, only)
    if url.scheme == "s3":
        from motley_worker.sources.bucket import Bucket

        return cached(source, Bucket(url.netloc, str(inside).strip("./")), name, cache_dir, only)
    raise BadConfig(f"source: {source!r} must begin with hf://, s3://, pvc:// or file://")


def _local(source: str, folder: Path, only: Collection[str]) -> Path:
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise SourceNotFound(f"{source}: {folder}: {error.strerror}") from error
    missing = set(only or ("config.json",)) - there
    if missing:
        raise SourceNotFound(
            f"{source}: no {', '.join(sorted(missing))} in {folder}; it must be a Hugging Face model folder"
        )
    return folder
