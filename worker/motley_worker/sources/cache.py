"""Remote weights in a folder that several pods may share: one downloads, the others wait, and what stands under its
final name is whole. A branch is read once for each cache; to follow it, name a commit."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from motley_worker.errors import DownloadFailed, SourceNotFound
from motley_worker.sources.remote import Interrupted, Listing, Remote, RemoteFile, refuse_escapes

log = logging.getLogger("motley.sources")

MANIFEST = ".motley.json"  # {"version": …, "files": {path: size}}
PAUSES = (1.0, 2.0, 4.0)  # seconds between tries
_WORKERS = 8
_REPORT_SECONDS = 5.0
_GB = 1e9

T = TypeVar("T")


def cached(source: str, remote: Remote, name: str, cache_dir: Path, only: Collection[str]) -> Path:
    """The folder with the files of `remote` (those named in `only`, or all)."""
    final = cache_dir / hashlib.sha256(name.encode()).hexdigest()[:32]
    if _is_whole(final):
        return final
    with _disk_errors(source, cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _locked(final.with_suffix(".lock"), source):
            if not _is_whole(final):
                _download(source, remote, final, only)
    return final


def _is_whole(folder: Path) -> bool:
    """Sizes are compared because a node that lost power may keep names without contents."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return all((folder / path).stat().st_size == size for path, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _download(source: str, remote: Remote, final: Path, only: Collection[str]) -> None:
    listing = _retrying(remote.listing, source)
    files = tuple(file for file in listing.files if not only or file.path in only)
    wanted = Listing(listing.version, files)
    _refuse_unusable(source, wanted, only)
    partial = final.with_suffix(".partial")
    if final.exists():  # damaged: keep what is good of it
        shutil.rmtree(partial, ignore_errors=True)
        final.rename(partial)
    _prepare(partial, wanted)
    _refuse_if_too_big(source, wanted, partial)
    log.info("downloading %s: %d files, %.2f GB", source, len(files), wanted.size / _GB)
    start = time.monotonic()
    with _progress(source, partial, wanted.size):
        _get_all(source, remote, wanted, partial)
    _prune(partial, wanted)
    partial.rename(final)
    log.info("downloaded %s in %.0f s", source, time.monotonic() - start)


def _refuse_unusable(source: str, listing: Listing, only: Collection[str]) -> None:
    paths = [file.path for file in listing.files]
    refuse_escapes(source, paths)
    missing = set(only or ("config.json",)) - set(paths)
    if missing:
        raise SourceNotFound(f"{source}: no {', '.join(sorted(missing))} there; it must be a Hugging Face model folder")


def _refuse_if_too_big(source: str, listing: Listing, partial: Path) -> None:
    free = shutil.disk_usage(partial).free + _size(partial)
    if listing.size > free:
        raise DownloadFailed(
            f"{source}: {listing.size / _GB:.1f} GB do not fit in the cache ({free / _GB:.1f} GB free); "
            "give a larger volume"
        )


def _prepare(partial: Path, listing: Listing) -> None:
    """An earlier pod's download goes on if it was of the same version."""
    manifest = json.dumps({"version": listing.version, "files": {file.path: file.size for file in listing.files}})
    note = partial / MANIFEST
    if not (note.exists() and note.read_text() == manifest):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        note.write_text(manifest)
    for left in partial.rglob("*.incomplete"):  # the hub library's own, under random names
        left.unlink()


def _get_all(source: str, remote: Remote, listing: Listing, partial: Path) -> None:
    def get(file: RemoteFile) -> None:
        target = partial / file.path
        if not (target.exists() and target.stat().st_size == file.size):
            _retrying(lambda: remote.download(file, listing.version, partial), f"{source} ({file.path})")
        if target.stat().st_size != file.size:
            raise DownloadFailed(f"{source}: {file.path} has {target.stat().st_size} bytes instead of {file.size}")

    with ThreadPoolExecutor(_WORKERS) as pool:
        jobs = [pool.submit(get, file) for file in listing.files]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _retrying(action: Callable[[], T], what: str) -> T:
    for pause in PAUSES:
        try:
            return action()
        except Interrupted as error:
            log.warning("%s: %s; trying again", what, error)
            time.sleep(pause)
    return action()


@contextmanager
def _progress(source: str, folder: Path, total: int) -> Iterator[None]:
    done = threading.Event()

    def report() -> None:
        before, then = _size(folder), time.monotonic()
        while not done.wait(_REPORT_SECONDS):
            now, at = _size(folder), time.monotonic()
            speed = (now - before) / (at - then) / 1e6
            log.info("downloading %s: %.2f of %.2f GB, %.1f MB/s", source, now / _GB, total / _GB, speed)
            before, then = now, at

    thread = threading.Thread(target=report, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _size(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # renamed between the listing and the look
                total += os.lstat(os.path.join(where, name)).st_size
    return total


def _prune(folder: Path, listing: Listing) -> None:
    """What is neither a listed file nor ours: the hub library's notes, leftovers."""
    keep = {folder / MANIFEST, *(folder / file.path for file in listing.files)}
    for where, folders, names in os.walk(folder, topdown=False):
        for name in names:
            if (path := Path(where, name)) not in keep:
                path.unlink()
        for name in folders:
            with suppress(OSError):  # not empty
                Path(where, name).rmdir()


@contextmanager
def _locked(path: Path, source: str) -> Iterator[None]:
    """The kernel gives the lock back when a pod ends, however it ends."""
    with path.open("a") as lock:
        waited = 0.0
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited % 10 == 0:
                    log.info("waiting for another pod that downloads %s", source)
                time.sleep(0.5)
                waited += 0.5
        yield


@contextmanager
def _disk_errors(source: str, cache_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "; give a larger volume" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise DownloadFailed(
            f"{source}: writing to the cache {cache_dir}: {error.strerror or error}{remedy}"
        ) from error
