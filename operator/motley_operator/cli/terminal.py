"""Standard output and standard error while something takes its time: who waits is told, and the report stays alone.
It knows nothing of what is being done."""

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 2.0
"""Seconds after which somebody who waits is told what for."""

LONGEST = 1000
"""Characters of an error: what a file holds may be a line of megabytes."""


def one_line(text: str) -> str:
    """For an error that quotes its input: what breaks a line or commands a terminal is escaped, what is long is cut."""
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:LONGEST])
    return escaped if len(text) <= LONGEST else f"{escaped}…"


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """On a terminal, says what goes on once it takes longer than a moment."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    status = Console(stderr=True).status("")
    timer = threading.Timer(PATIENCE, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield status.update
    finally:
        timer.cancel()
        timer.join()
        status.stop()


@contextmanager
def standard_output_kept_clean() -> Iterator[None]:
    """The solver's library may write to the process's standard output, which belongs to the report."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C keeps in its buffer would come out later, among the report
        os.dup2(kept, 1)
        os.close(kept)
