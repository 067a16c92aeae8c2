"""Clients that ask a model all the time, streamed and not, and what became of every request."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import httpx

from e2e.waiting import wait_for

OUTPUT_TOKENS = 24
PAUSE_SECONDS = 0.2
"""Between two requests of a client: the engines share two cores with all else."""


@dataclass(frozen=True)
class Outcome:
    streamed: bool
    seconds: float
    began: bool
    """Whether a token had arrived."""
    trouble: str
    """Empty for a whole response."""
    ended: str
    """When, in UTC as in the logs."""


class Load:
    """`with Load(…) as load:` asks until the end of the block; half of the clients stream."""

    def __init__(self, router: str, model: str, state: Callable[[], str], clients: int = 4) -> None:
        self._url, self._model, self._state = f"{router}/v1/completions", model, state
        self._stop = threading.Event()
        self._outcomes: list[Outcome] = []
        self._threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(self._outcomes)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self._outcomes if outcome.trouble]

    def await_more(self, number: int, seconds: float = 120) -> None:
        """Until so many further requests have ended."""
        goal = len(self._outcomes) + number
        wait_for(lambda: len(self._outcomes) >= goal, f"{number} more requests to end", seconds, self._state)

    def _ask(self, client: int) -> None:
        streamed = bool(client % 2)
        with httpx.Client(timeout=120, trust_env=False) as http:
            number = 0
            while not self._stop.is_set():
                number += 1
                self._outcomes.append(self._outcome(http, streamed, f"Client {client} asks for the time {number}:"))
                self._stop.wait(PAUSE_SECONDS)

    def _outcome(self, http: httpx.Client, streamed: bool, prompt: str) -> Outcome:
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": OUTPUT_TOKENS,
            "ignore_eos": True,
            "stream": streamed,
        }
        start, began, trouble = time.monotonic(), False, ""
        try:
            with http.stream("POST", self._url, json=body) as answer:
                if answer.status_code != 200:
                    trouble = f"{answer.status_code} {answer.read().decode()}"
                elif streamed:
                    began, trouble = _read_stream(answer)
                else:
                    finish = json.loads(answer.read())["choices"][0]["finish_reason"]
                    trouble = "" if finish == "length" else f"finish_reason {finish}"
        except (httpx.HTTPError, ValueError, KeyError) as error:
            trouble = f"{type(error).__name__}: {error}"
        ended = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Outcome(streamed, time.monotonic() - start, began, trouble, ended)


def _read_stream(answer: httpx.Response) -> tuple[bool, str]:
    """(whether a token came, what went wrong)"""
    began, finish = False, ""
    try:
        for line in answer.iter_lines():
            if line == "data: [DONE]":
                return began, "" if finish == "length" else f"finish_reason {finish!r}"
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    return began, str(event["error"])
                began = True
                finish = event["choices"][0]["finish_reason"] or finish
    except httpx.HTTPError as error:
        return began, f"{type(error).__name__}: {error}"
    return began, "the stream ended without [DONE]"
