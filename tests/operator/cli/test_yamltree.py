"""What a YAML text means, where its fields stand, and what is wrong with it."""

import pytest

from motley_operator.cli.yamltree import Mistake, parsed


def value_of(text: str) -> object:
    documents, mistakes = parsed("a.yaml", text.encode())
    assert not mistakes
    return documents[0].value


def mistakes_of(data: str | bytes) -> list[str]:
    _, mistakes = parsed("a.yaml", data if isinstance(data, bytes) else data.encode())
    return [str(mistake) for mistake in mistakes]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("off", False),
        ("y", True),
        ("~", None),
        ("0x10", 16),
        ("010", 8),
        ("08", 8),
        ("1_000", 1000),
        ("-3", -3),
        ("1e3", 1000),
        ("2.0", 2),
        (".5", 0.5),
        ("1:30", "1:30"),
        ("2025-01-31", "2025-01-31"),
        ("0.70", 0.7),
        ("'0.70'", "0.70"),
        ("!!str 5", "5"),
        ("500m", "500m"),
    ],
)
def test_scalars_are_read_as_kubectl_reads_them(text: str, value: object) -> None:
    read = value_of(f"a: {text}\n")
    assert read == {"a": value}
    assert isinstance(read, dict) and type(read["a"]) is type(value)


def test_json_may_be_indented_with_tabs() -> None:
    assert value_of('{\n\t"a": [1, {"b": null}]\n}\n') == {"a": [1, {"b": None}]}


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert parsed("a.yaml", b"\xef\xbb\xbfa: 1\n")[0][0].value == {"a": 1}


def test_merged_fields_give_way_to_written_ones() -> None:
    text = "base: &base {a: 1, b: 2}\nhere:\n  b: 3\n  <<: *base\n"
    assert value_of(text) == {"base": {"a": 1, "b": 2}, "here": {"b": 3, "a": 1}}


def test_keys_are_text_as_in_json() -> None:
    assert value_of("{1: a, y: b, 'n': c, 0.5: d}") == {"1": "a", "true": "b", "n": "c", "0.5": "d"}


def test_every_field_knows_its_line() -> None:
    (first, second), mistakes = parsed("a.yaml", b"a: 1\n---\n\nb:\n  - c: 2\n    d: 3\n  - e\n")
    assert not mistakes
    assert first.line(("a",)) == 1
    assert second.line(("b",)) == 4
    assert second.line(("b", 0, "d")) == 6
    assert second.line(("b", 1)) == 7
    assert second.line(("b", 0, "missing", "deeper")) == 5  # the nearest thing that is there


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("data", "mistake"),
    [
        ("", "a.yaml:1: the file holds no object; write at least one"),
        ("---\n# nothing\n---\n", "a.yaml:1: the file holds no object; write at least one"),
        ("a: b\n\tc: d\n", "a.yaml:2: malformed YAML: a tab in the indentation; use spaces"),
        ("a: b: c\n", "a.yaml:1: malformed YAML: mapping values are not allowed here"),
        (
            "a: [1, 2\nb: 3\n",
            "a.yaml:2: malformed YAML: while parsing a flow sequence expected ',' or ']', but got ':'",
        ),
        ("a: *nothing\n", "a.yaml:1: malformed YAML: found undefined alias 'nothing'"),
        ("a:\n  b: 1\n  b: 2\n", "a.yaml:3: a.b: duplicate key; it is already given on line 2, remove one of them"),
        ("a: &a [*a]\n", "a.yaml:1: a[0]: an alias that contains itself; write the value out"),
        (BOMB, "a.yaml: more than 200000 values in one document once its aliases are expanded"),
        (MERGE_BOMB, "a.yaml: more than 200000 values in one document once its aliases are expanded"),
        ("[" * 3_000, "a.yaml:1: nested too deeply"),
        (b"a: 1\nb: \xff\n", "a.yaml:2: not UTF-8 text; save the file as UTF-8"),
        ("a: 1\nb: \x01\n", "a.yaml:2: malformed YAML: character U+0001"),
        ("a: .nan\n", "a.yaml:1: a: .nan is not a value of type finite number; write it in quotes if it is text"),
        ("a: !mine x\n", "a.yaml:1: a: tag !mine is not supported; write a plain value"),
        ("a:\n  ? [b]\n  : c\n", "a.yaml:2: a: a key must be plain text"),
        ("a: {<<: 3}\n", "a.yaml:1: a.<<: can merge mappings only"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(data: str | bytes, mistake: str) -> None:
    assert mistakes_of(data) == [mistake]


def test_all_duplicate_keys_are_named_at_once() -> None:
    assert len(mistakes_of("a: 1\na: 2\n---\nb: 1\nb: 2\nb: 3\n")) == 3


def test_documents_before_a_syntax_error_are_kept() -> None:
    documents, mistakes = parsed("a.yaml", b"a: 1\n---\nb: [\n")
    assert [document.value for document in documents] == [{"a": 1}]
    assert [mistake.line for mistake in mistakes] == [4]


def test_a_mistake_is_one_line_whatever_it_quotes() -> None:
    assert str(Mistake("a.yaml", 3, "spec.a\nb", "must not be \x1b[2J")) == "a.yaml:3: spec.a\\nb: must not be \\x1b[2J"
    assert str(Mistake("é.yaml", 0, "", "x" * 2000)) == f"é.yaml: {'x' * 992}…"
