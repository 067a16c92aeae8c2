"""What the user sees while the cluster is built and started: one line per step, with its duration."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

REMINDER = 30.0  # seconds after which a long step says that it still goes on


class ClusterError(Exception):
    """Something of the embedded cluster failed; the message says what and where to look."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announces a step that takes a while, reminds of it, and says how long it took."""
    begun, over = time.monotonic(), threading.Event()

    def remind() -> None:
        while not over.wait(REMINDER):
            say(f"  … {title}: {time.monotonic() - begun:.0f} s so far")

    say(f"  … {title}")
    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    sign = "✗"
    try:
        yield
        sign = "✓"
    finally:
        over.set()
        reminder.join()
        say(f"  {sign} {title} ({time.monotonic() - begun:.1f} s)")


def tail(text: str, lines: int = 15) -> str:
    return "\n".join("      " + line for line in text.splitlines()[-lines:])
