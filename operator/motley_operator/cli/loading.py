"""Paths of the command line → YAML documents with positions: files, folders, `-` for standard input, Lists.
It knows files and YAML only; what an object means is `validate`'s affair."""

import os
from collections.abc import Iterable, Iterator

from motley_operator.cli.jsoninput import BadInput, data_in, named
from motley_operator.cli.yamltree import Document, Mistake, parsed

SUFFIXES = (".yaml", ".yml", ".json")


def loaded(paths: Iterable[str]) -> tuple[list[Document], list[Mistake]]:
    """Every document that the paths hold, in order, and everything that could not be read."""
    documents: list[Document] = []
    mistakes: list[Mistake] = []
    for file in _files(paths, mistakes):
        try:
            found, wrong = parsed(named(file), data_in(file))
        except BadInput as error:
            mistakes.append(Mistake(named(file), 0, "", str(error)))
            continue
        documents += [part for document in found for part in _unpacked(document)]
        mistakes += wrong
    return documents, mistakes


def _files(paths: Iterable[str], mistakes: list[Mistake]) -> Iterator[str]:
    """Folders as kubectl reads them: not into sub-folders. A file that is named twice is read once."""
    seen: set[str] = set()
    for path in paths:
        found = [path]
        if path != "-" and os.path.isdir(path):
            try:
                found = _files_in(path)
            except BadInput as error:
                mistakes.append(Mistake(named(path), 0, "", str(error)))
                continue
        for file in found:
            resolved = file if file == "-" else os.path.realpath(file)
            if resolved not in seen:
                seen.add(resolved)
                yield file


def _files_in(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise BadInput((error.strerror or str(error)).lower()) from error
    paths = [os.path.join(folder, name) for name in names if os.path.splitext(name)[1] in SUFFIXES]
    if files := [path for path in paths if os.path.isfile(path)]:
        return files
    raise BadInput("no .yaml, .yml or .json file in this folder")


def _unpacked(document: Document) -> Iterator[Document]:
    """The items of a List, as `kubectl get -o yaml` prints it; anything else is itself."""
    value = document.value
    is_list = isinstance(value, dict) and str(value.get("kind", "")).endswith("List")
    if is_list and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            yield document.part(("items", index), item)
    else:
        yield document
