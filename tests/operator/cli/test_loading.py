"""Which files are read, and what stands in them."""

import io
import os
from pathlib import Path

import pytest

from motley_operator.cli.loading import loaded


def test_a_folder_gives_its_yaml_and_json_files_in_order_and_not_those_of_its_folders(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.yml", "a.yaml", "c.json", "d.txt", "inner/e.yaml"):
        (tmp_path / name).write_text("{}" if name == "c.json" else f"name: {name}\n")
    documents, mistakes = loaded([str(tmp_path)])
    assert not mistakes
    assert [Path(document.file).name for document in documents] == ["a.yaml", "b.yml", "c.json"]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1\n")
    documents, _ = loaded([str(file), str(tmp_path), f"{tmp_path}/../{tmp_path.name}/a.yaml"])
    assert len(documents) == 1


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a: 1\n---\nb: [\n")))
    documents, mistakes = loaded(["-"])
    assert documents[0].value == {"a": 1}
    assert str(mistakes[0]).startswith("<stdin>:4: malformed YAML")


def test_the_items_of_a_list_are_objects_with_their_own_lines(tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    file.write_text("apiVersion: v1\nkind: List\nitems:\n- kind: A\n  x: 1\n- kind: B\n  x: 2\n")
    documents, _ = loaded([str(file)])
    assert [document.value["kind"] for document in documents] == ["A", "B"]
    assert str(documents[1].mistake(("x",), "wrong")) == f"{file}:7: x: wrong"


def test_every_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    documents, mistakes = loaded([str(tmp_path / "none.yaml"), str(tmp_path / "empty")])
    assert not documents
    assert [str(mistake) for mistake in mistakes] == [
        f"{tmp_path}/none.yaml: no such file or directory",
        f"{tmp_path}/empty: no .yaml, .yml or .json file in this folder",
    ]


def test_what_is_no_file_is_named_and_nothing_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (32 * 2**20 + 1))
    (tmp_path / "a\nb.yaml").write_bytes(b"\xff")
    (tmp_path / "secret").mkdir()
    monkeypatch.setattr("sys.stdin", None)
    listed = os.listdir

    def unreadable(path: str) -> list[str]:
        if path.endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr("os.listdir", unreadable)
    names = ("loop.yaml", "large.yaml", "a\nb.yaml", "secret", "n" * 300, "loop.yaml/x", "large.yaml/x")
    documents, mistakes = loaded([*(str(tmp_path / name) for name in names), "-"])
    assert not documents
    assert [str(mistake).removeprefix(f"{tmp_path}/") for mistake in mistakes] == [
        "loop.yaml: too many levels of symbolic links",
        "large.yaml: larger than 32 MiB",
        f'"{tmp_path}/a\\nb.yaml":1: not UTF-8 text; save the file as UTF-8',
        "secret: permission denied",
        f"{'n' * 300}: file name too long",
        "loop.yaml/x: too many levels of symbolic links",
        "large.yaml/x: not a directory",
        "<stdin>: standard input is closed",
    ]


def test_a_folder_in_which_a_link_leads_nowhere_gives_the_others(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "a.yaml").write_text("a: 1\n")
    documents, mistakes = loaded([str(tmp_path)])
    assert (len(documents), mistakes) == (1, [])
