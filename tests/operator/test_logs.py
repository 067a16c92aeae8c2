"""Logs: one JSON object a line, whatever is said."""

import json
import logging
import sys

import pytest

from motley_operator.logs import JsonFormatter, set_up


def line(message: str, *args: object, error: bool = False, **extra: object) -> dict[str, object]:
    raised = None
    if error:
        try:
            raise ValueError("it broke")
        except ValueError:
            raised = sys.exc_info()
    record = logging.LogRecord("motley_operator.x", logging.WARNING, "f", 1, message, args, raised)
    record.__dict__.update(extra)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    return found


def test_a_line_tells_when_how_grave_and_what() -> None:
    found = line("%d pods", 3)
    assert (found["level"], found["logger"], found["message"]) == ("warning", "motley_operator.x", "3 pods")
    assert str(found["time"]).endswith("+00:00")


def test_a_line_names_its_model_and_plan() -> None:
    found = line("x", plan="plan-000001", model="team/chat", secret="not for logs")
    assert (found["plan"], found["model"]) == ("plan-000001", "team/chat") and "secret" not in found


def test_strange_words_stay_on_one_line() -> None:
    assert line('a\nb\r"c"\u2028 ü {}')["message"] == 'a\nb\r"c"\u2028 ü {}'


def test_an_error_comes_with_its_traceback() -> None:
    found = line("a pass failed", error=True)
    assert "ValueError: it broke" in str(found["error"])


def test_setting_up_writes_json_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        set_up("info")
        logging.getLogger("motley_operator").info("hello", extra={"pool": "l4"})
        logging.getLogger("motley_operator").debug("unheard")
        logging.getLogger("httpx").info("unheard")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    (said,) = capsys.readouterr().err.splitlines()
    assert json.loads(said)["message"] == "hello" and json.loads(said)["pool"] == "l4"
