"""Reading a response on the side gives the same whatever chunks it comes in."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motley_worker.router.usage import LINE_BYTES, StreamReader, Usage, WholeReader, usage_of

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TOKEN = b'data: {"choices":[{"delta":{"content":"say \\"usage\\": {}"}}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":30}}\n\n'
DONE = b"data: [DONE]\n\n"


def read(stream: bytes, cuts: list[int] | None = None, opening: int = 1) -> StreamReader:
    reader = StreamReader(opening)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts or [])})
    for start, end in pairwise(edges):
        reader.feed(stream[start:end])
    reader.finish()
    return reader


@given(st.lists(st.integers(0, 2000), max_size=20))
def test_tokens_are_counted_by_events_however_the_stream_is_cut(cuts: list[int]) -> None:
    assert read(ROLE + 5 * TOKEN + DONE, cuts).output_tokens == 5
    assert read(5 * TOKEN + DONE, cuts, opening=0).output_tokens == 5


@given(st.lists(st.integers(0, 2000), max_size=20))
def test_usage_is_found_however_the_stream_is_cut(cuts: list[int]) -> None:
    reader = read(ROLE + 5 * TOKEN + USAGE + DONE, cuts)
    assert reader.usage == Usage(7, 30)
    assert reader.output_tokens == 30


def test_windows_line_ends_and_comments_are_read_too() -> None:
    assert read((b": ping\n\n" + ROLE + 2 * TOKEN + DONE).replace(b"\n", b"\r\n")).output_tokens == 2


def test_a_line_without_end_is_not_kept() -> None:
    reader = StreamReader(0)
    for _ in range(100):
        reader.feed(b"x" * LINE_BYTES)
    reader.feed(b"\n" + TOKEN + USAGE)
    assert reader.usage == Usage(7, 30)


def test_an_error_in_the_stream_is_seen() -> None:
    assert read(ROLE + TOKEN + b'data: {"error": {"message": "away"}}\n\n' + DONE).failed
    assert not read(ROLE + TOKEN + DONE).failed


def test_usage_of_a_whole_response_is_read() -> None:
    reader = WholeReader()
    for byte in json.dumps({"usage": {"prompt_tokens": 3, "completion_tokens": 9}}).encode():
        reader.feed(bytes([byte]))
    reader.finish()
    assert reader.usage == Usage(3, 9)


@given(st.binary(max_size=100) | st.builds(lambda value: json.dumps({"usage": value}).encode(), st.integers()))
def test_what_is_no_usage_is_none(document: bytes) -> None:
    assert usage_of(document) is None


@pytest.mark.parametrize(
    ("details", "cached"),
    [({"cached_tokens": 3}, 3), ({"cached_tokens": 99}, 7), ({"cached_tokens": -1}, 0), ({"cached_tokens": None}, 0),
     ({"cached_tokens": True}, 0), ({}, 0), (None, 0), ([], 0), (5, 0)],
)  # fmt: skip
def test_cached_tokens_are_read_where_they_are_told(details: object, cached: int) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 30, "prompt_tokens_details": details}
    assert usage_of(json.dumps({"usage": usage}).encode()) == Usage(7, 30, cached)


def test_a_response_that_tells_no_tokens_has_none() -> None:
    reader = WholeReader()
    reader.feed(b"{}")
    reader.finish()
    assert reader.output_tokens is None
    assert read(ROLE + DONE).output_tokens is None


def test_counts_that_are_none_are_no_usage() -> None:
    for wrong in (-1, True, "3", 1.5, 1 << 40, None):
        assert usage_of(json.dumps({"usage": {"prompt_tokens": wrong, "completion_tokens": 1}}).encode()) is None
