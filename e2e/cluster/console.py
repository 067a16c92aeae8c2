"""What the user sees while the cluster is built and started: one line per step, with its duration."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class ClusterError(Exception):
    """Something of the embedded cluster failed; the message says what and where to look."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announces a step that takes a while, and says how long it took."""
    say(f"  … {title}")
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"  ✗ {title} ({time.monotonic() - begun:.1f} s)")
        raise
    say(f"  ✓ {title} ({time.monotonic() - begun:.1f} s)")


def tail(text: str, lines: int = 15) -> str:
    return "\n".join("      " + line for line in text.splitlines()[-lines:])
