"""Token estimates start with a rule of thumb and follow what engines report."""

import json
from typing import Any

from motley_worker.router.estimate import BYTES_PER_TOKEN, OUTPUT_TOKENS, Estimates
from motley_worker.router.request import Ask, ask_of


def ask(text_bytes: int = 0, **fields: Any) -> Ask:
    return ask_of(json.dumps({"model": "tiny", "prompt": "x" * text_bytes} | fields).encode())


def test_text_is_counted_in_bytes_wherever_it_stands() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "é"}, {"type": "text", "text": "abc"}]}]
    assert ask_of(json.dumps({"model": "m", "messages": parts}).encode()).text_bytes == len("usertexttext") + 5


def test_a_picture_is_no_text_and_teaches_nothing() -> None:
    content = [{"image_url": {"url": "data:image/png;base64," + "A" * 10_000}}]
    pictured = ask_of(json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode())
    assert (pictured.text_bytes, pictured.only_text) == (4, False)
    estimates = Estimates()
    estimates.learn(pictured, 5000, 10)
    assert estimates.input_tokens(ask(400)) == 400 / BYTES_PER_TOKEN


def test_token_ids_count_as_they_are() -> None:
    assert Estimates().input_tokens(ask(prompt=[1, 2, 3])) == 3
    assert Estimates().input_tokens(ask(prompt=[[1, 2], [3]])) == 3


def test_bytes_per_token_follow_what_engines_report() -> None:
    estimates = Estimates()
    assert estimates.input_tokens(ask(1000)) == 250
    for _ in range(20):
        estimates.learn(ask(1000), 500, 1)
    assert abs(estimates.input_tokens(ask(1000)) - 500) <= 5
    for _ in range(600):
        estimates.learn(ask(1000), 200, 1)
    assert abs(estimates.input_tokens(ask(1000)) - 200) <= 5


def test_expected_output_is_the_mean_of_its_input_length_and_at_most_what_is_allowed() -> None:
    estimates = Estimates()
    assert estimates.output_tokens(100, None) == OUTPUT_TOKENS
    for output in (10, 20, 30):
        estimates.learn(ask(400), 100, output)
    assert estimates.output_tokens(100, None) == 20
    assert estimates.output_tokens(100, 7) == 7
    assert estimates.output_tokens(5000, None) == OUTPUT_TOKENS


def test_the_newer_name_of_the_output_limit_wins_and_nonsense_is_no_limit() -> None:
    assert ask(max_tokens=5, max_completion_tokens=3).max_output_tokens == 3
    assert ask(max_tokens=5).max_output_tokens == 5
    for nonsense in (0, -1, True, "9", None, 1.5):
        assert ask(max_tokens=nonsense).max_output_tokens is None
