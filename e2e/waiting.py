"""Waits poll a condition; when time is over they fail with the state that a person would look at."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class WaitedInVain(AssertionError):
    pass


def wait_for(
    condition: Callable[[], T | None],
    what: str,
    seconds: float = 60,
    state: Callable[[], str] = str,
    every: float = 0.3,
) -> T:
    """The first answer that is neither None nor False."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() >= deadline:
            raise WaitedInVain(f"waited {seconds:.0f} s for {what}\n{state()}")
        time.sleep(every)
