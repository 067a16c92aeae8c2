"""Reads a response on the side while it passes through: output tokens, `usage`, an error in the stream.

Never holds back or changes a byte, and keeps only a bounded part of what it reads.
"""

from typing import Any, NamedTuple, Protocol

from pydantic_core import from_json

KEPT_BYTES = 4 * 1024 * 1024
LINE_BYTES = 256 * 1024
ERROR_EVENT = b'data: {"error"'


class Usage(NamedTuple):
    input_tokens: int
    output_tokens: int


class Reader(Protocol):
    usage: Usage | None
    failed: bool
    """The engine reported an error inside a response that had begun well."""

    def feed(self, chunk: bytes) -> None: ...

    def finish(self) -> None: ...

    @property
    def output_tokens(self) -> int: ...


def usage_of(document: bytes) -> Usage | None:
    try:
        parsed = from_json(document)
    except ValueError:
        return None
    usage = parsed.get("usage") if isinstance(parsed, dict) else None
    if not isinstance(usage, dict):
        return None
    found = Usage(usage.get("prompt_tokens"), usage.get("completion_tokens", 0))  # type: ignore[arg-type]
    return found if all(_is_count(count) for count in found) else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


class WholeReader:
    """A response that comes as one JSON document."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.failed = False
        self._kept = bytearray()

    def feed(self, chunk: bytes) -> None:
        if len(self._kept) <= KEPT_BYTES:
            self._kept += chunk

    def finish(self) -> None:
        if len(self._kept) <= KEPT_BYTES:
            self.usage = usage_of(bytes(self._kept))

    @property
    def output_tokens(self) -> int:
        return self.usage.output_tokens if self.usage else 1


class StreamReader:
    """Server-sent events: one `data:` line per token, `usage` in one of the last if the client asked for it."""

    def __init__(self, opening_events: int) -> None:
        """`opening_events`: events that carry no token (a chat's first one names the role only)."""
        self.usage: Usage | None = None
        self.failed = False
        self._events = -opening_events
        self._rest = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if not self._skipping:
                self._line(line)
            self._skipping = False
        if len(rest) > LINE_BYTES:
            self._skipping, rest = True, b""
        self._rest = rest

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:") or line.startswith(b"data: [DONE]"):
            return
        if line.startswith(ERROR_EVENT):
            self.failed = True
        self._events += 1
        if b'"usage"' in line:
            self.usage = usage_of(line[5:]) or self.usage

    def finish(self) -> None:
        self.feed(b"\n")

    @property
    def output_tokens(self) -> int:
        return self.usage.output_tokens if self.usage else max(self._events, 1)
