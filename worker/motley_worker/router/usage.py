"""Reads a response on the side while it passes through: output tokens, `usage`, an error in the stream.

Never holds back or changes a byte, and keeps only a bounded part of what it reads.
"""

from typing import Any, NamedTuple, Protocol, TypeGuard

from pydantic_core import from_json

KEPT_BYTES = 4 * 1024 * 1024
LINE_BYTES = 256 * 1024
ERROR_EVENT = b'data: {"error"'


class Usage(NamedTuple):
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """Of the input: found in a prefix cache."""


class Reader(Protocol):
    usage: Usage | None
    failed: bool
    """The response began well and ended in an error."""

    def feed(self, chunk: bytes) -> None: ...

    def finish(self) -> None: ...

    @property
    def output_tokens(self) -> int | None:
        """So far; None where the response does not tell."""


def usage_of(document: bytes) -> Usage | None:
    try:
        parsed = from_json(document)
    except ValueError:
        return None
    usage = parsed.get("usage") if isinstance(parsed, dict) else None
    if not isinstance(usage, dict):
        return None
    inputs, outputs = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if not (_is_count(inputs) and _is_count(outputs)):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(inputs, outputs, min(cached, inputs) if _is_count(cached) else 0)


def _is_count(value: Any) -> TypeGuard[int]:
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
    def output_tokens(self) -> int | None:
        return self.usage.output_tokens if self.usage else None


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
    def output_tokens(self) -> int | None:
        if self.usage:
            return self.usage.output_tokens
        return self._events if self._events > 0 else None
