import threading

import pytest

from e2e.cluster import console


def test_a_step_that_fails_is_marked_and_its_error_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), console.step("build x"):
        raise ValueError("broken")
    assert "✗ build x" in capsys.readouterr().err


def test_a_long_step_says_that_it_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reminded = threading.Event()
    say = console.say

    def listen(text: str) -> None:
        say(text)
        if "so far" in text:
            reminded.set()

    monkeypatch.setattr(console, "REMINDER", 0.01)
    monkeypatch.setattr(console, "say", listen)
    with console.step("build x"):
        assert reminded.wait(10)
    assert "✓ build x" in capsys.readouterr().err


def test_the_end_of_a_log_is_short() -> None:
    assert console.tail("\n".join(map(str, range(100))), lines=2).split() == ["98", "99"]
