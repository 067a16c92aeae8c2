"""Paths of the command line → YAML documents with positions: files, folders, `-` for standard input, Lists.
It knows files and YAML only; what an object means is `validate`'s affair."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from motley_operator.cli.yamltree import Document, Mistake, parsed

SUFFIXES = (".yaml", ".yml", ".json")
MOST_BYTES = 32 * 2**20


def loaded(paths: Iterable[str]) -> tuple[list[Document], list[Mistake]]:
    """Every document that the paths hold, in order, and everything that could not be read."""
    documents: list[Document] = []
    mistakes: list[Mistake] = []
    for file in _files(paths, mistakes):
        try:
            data = _content(file)
        except OSError as error:
            mistakes.append(Mistake(file, 0, "", (error.strerror or str(error)).lower()))
            continue
        if len(data) > MOST_BYTES:
            mistakes.append(Mistake(file, 0, "", f"larger than {MOST_BYTES // 2**20} MiB; split it"))
            continue
        found, wrong = parsed("<stdin>" if file == "-" else file, data)
        documents += [part for document in found for part in _unpacked(document)]
        mistakes += wrong
    return documents, mistakes


def _files(paths: Iterable[str], mistakes: list[Mistake]) -> Iterator[str]:
    """Folders as kubectl reads them: not into sub-folders. A file that is named twice is read once."""
    seen: set[Path] = set()
    for name in paths:
        path = Path(name)
        candidates = [name]
        if name != "-" and path.is_dir():
            candidates = [str(p) for p in sorted(path.iterdir()) if p.suffix in SUFFIXES and p.is_file()]
            if not candidates:
                mistakes.append(Mistake(name, 0, "", "no .yaml, .yml or .json file in this folder"))
        for candidate in candidates:
            resolved = Path(candidate).resolve()
            if resolved not in seen:
                seen.add(resolved)
                yield candidate


def _content(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    with open(file, "rb") as stream:
        return stream.read(MOST_BYTES + 1)


def _unpacked(document: Document) -> Iterator[Document]:
    """The items of a List, as `kubectl get -o yaml` prints it; anything else is itself."""
    value = document.value
    is_list = isinstance(value, dict) and str(value.get("kind", "")).endswith("List")
    if is_list and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            yield document.part(("items", index), item)
    else:
        yield document
