"""One YAML text → plain values that know the line of every field. It reads what kubectl reads (YAML 1.1 as Go's
parser has it, JSON included) and refuses what would surprise: duplicate keys, alias bombs, values that JSON lacks."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from motley_operator.cli.terminal import one_line

Path = tuple[str | int, ...]

MOST_VALUES = 200_000  # of one document, aliases expanded

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"^[-+]?(0[0-7]+|0o[0-7]+|0x[0-9a-fA-F]+|0b[01]+|0|[1-9][0-9_]*)$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$")
_BOOL = re.compile(r"^(y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON|n|N|no|No|NO|false|False|FALSE|off|Off|OFF)$")
_NULL = re.compile(r"^(~|null|Null|NULL|)$")
_NOT_FINITE = re.compile(r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")


class _TooMuchError(Exception):
    """The document grows without end."""


class _Loader(yaml.BaseLoader):
    """Only its composer is used: nodes, tagged as Go's YAML parser would."""


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("finite number", _NOT_FINITE, "-+."),
    ("bool", _BOOL, "yYnNtTfFoO"),
    ("null", _NULL, ["~", "n", "N", ""]),
    ("merge", re.compile("^<<$"), "<"),
):
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, list(_first))


@dataclass(frozen=True)
class Mistake:
    """Something in the input that somebody has to change. `line` 0: the file as a whole."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return one_line(": ".join(part for part in (where, self.field, self.message) if part))


@dataclass(frozen=True)
class Document:
    """One object of a file, with the line of every field that was written."""

    file: str
    value: Any
    lines: Mapping[Path, int]
    root: Path = ()
    """Where the object stands in the file's document: not at its top when it is an item of a List."""

    def line(self, path: Path) -> int:
        """Of the field or, where it is not written, of the nearest thing around it."""
        while path and self.root + path not in self.lines:
            path = path[:-1]
        return self.lines[self.root + path]

    def mistake(self, path: Path, message: str) -> Mistake:
        return Mistake(self.file, self.line(path), dotted(path), message)

    def part(self, path: Path, value: Any) -> "Document":
        """The object that stands at `path` of this one, as a document of its own."""
        return Document(self.file, value, self.lines, self.root + path)


def dotted(path: Path) -> str:
    """`spec.traffic.sizes[0].weight`"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def parsed(file: str, data: bytes) -> tuple[list[Document], list[Mistake]]:
    """All documents of one file; those before a syntax error are kept."""
    documents: list[Document] = []
    mistakes: list[Mistake] = []
    try:
        text = data.decode("utf-8-sig")
        if text.lstrip()[:1] in ("{", "["):
            text = text.replace("\t", " ")  # JSON may be indented with tabs
        for node in _nodes(text):
            tree = _Tree(file)
            value = tree.value(node, ())
            mistakes += tree.mistakes
            if value is not None and not tree.mistakes:
                documents.append(Document(file, value, tree.lines))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        mistakes.append(Mistake(file, line, "", "not UTF-8 text; save the file as UTF-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        mistakes.append(Mistake(file, mark.line + 1 if mark else 1, "", _syntax(error)))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        mistakes.append(Mistake(file, line, "", f"malformed YAML: character U+{ord(text[error.position]):04X}"))
    except _TooMuchError:
        message = f"more than {MOST_VALUES} values in one document once its aliases are expanded"
        mistakes.append(Mistake(file, 0, "", message))
    except RecursionError:
        mistakes.append(Mistake(file, 1, "", "nested too deeply"))
    if not documents and not mistakes:
        mistakes.append(Mistake(file, 1, "", "the file holds no object; write at least one"))
    return documents, mistakes


def _nodes(text: str) -> Iterator[yaml.Node]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            if (node := loader.get_node()) is not None:
                yield node
    finally:
        loader.dispose()


def _syntax(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "syntax error"
    if "'\\t'" in problem:
        return "malformed YAML: a tab in the indentation; use spaces"
    return f"malformed YAML: {' '.join(part for part in (error.context, problem) if part)}"


@dataclass
class _Tree:
    """Builds the value of one document and notes lines and mistakes on the way."""

    file: str
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    _open: set[int] = field(default_factory=set)
    _count: int = 0

    def value(self, node: yaml.Node, path: Path, line: int = 0) -> Any:
        self.lines[path] = line or node.start_mark.line + 1
        self._count += 1
        if self._count > MOST_VALUES:
            raise _TooMuchError
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._wrong(path, "an alias that contains itself; write the value out")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        written: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _TAG + "null":
                self.mistakes.append(Mistake(self.file, line, dotted(path), "a key must be plain text"))
            elif key_node.tag == _TAG + "merge":
                for merged, value in self._merged(value_node, path).items():
                    result.setdefault(merged, value)
            elif (name := _key(key_node)) in written:
                message = f"duplicate key; it is already given on line {written[name]}, remove one of them"
                self.mistakes.append(Mistake(self.file, line, dotted((*path, name)), message))
            else:
                written[name] = line
                result[name] = self.value(value_node, (*path, name), line)
        return result

    def _merged(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        """What `<<: *anchor` or a list of them brings in; earlier ones win."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        result: dict[str, Any] = {}
        for source in sources:
            value = self.value(source, (*path, "<<"))
            if not isinstance(value, dict):
                self._wrong((*path, "<<"), "can merge mappings only")
                continue
            for name, part in value.items():
                result.setdefault(name, part)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        try:
            return _SCALARS[kind](text)
        except KeyError:
            problem = f"tag {node.tag} is not supported; write a plain value"
        except ValueError:
            problem = f"{text} is not a value of type {kind}; write it in quotes if it is text"
        self._wrong(path, problem)
        return None

    def _wrong(self, path: Path, message: str) -> None:
        self.mistakes.append(Mistake(self.file, self.lines[path], dotted(path), message))


def _key(node: yaml.ScalarNode) -> str:
    """JSON has only text for keys; an unquoted `y` is "true", as everywhere in Kubernetes."""
    is_truth = node.tag == _TAG + "bool" and _BOOL.match(node.value)
    return json.dumps(_boolean(node.value)) if is_truth else node.value


def _integer(text: str) -> int | float:
    digits = text.replace("_", "").lstrip("+-")
    sign = -1 if text.startswith("-") else 1
    if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def _float(text: str) -> int | float:
    """Whole ones become integers, as they do on their way through JSON."""
    value = float(text.replace("_", ""))
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def _boolean(text: str) -> bool:
    if not _BOOL.match(text):
        raise ValueError
    return text.lower() in ("y", "yes", "true", "on")


def _not_finite(text: str) -> None:
    raise ValueError


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "timestamp": str,
    "int": _integer,
    "float": _float,
    "bool": _boolean,
    "null": lambda text: None,
    "finite number": _not_finite,
}
