"""Many pokes → one pass: wait until it has been quiet for a moment, but never longer than a limit."""

import threading
import time
from collections.abc import Callable


class Batcher:
    """Handlers `poke` from any thread; one thread `wait`s. Nothing is lost: a poke during a pass starts another."""

    def __init__(self, quiet: float = 0.1, longest: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet, self._longest, self._clock = quiet, longest, clock
        self._changed = threading.Condition()
        self._first: float | None = None
        self._last = 0.0

    def poke(self) -> None:
        with self._changed:
            self._last = self._clock()
            if self._first is None:
                self._first = self._last
            self._changed.notify()

    def due_in(self) -> float | None:
        """Seconds until a pass is due; None while nobody poked."""
        with self._changed:
            if self._first is None:
                return None
            return max(0.0, min(self._last + self._quiet, self._first + self._longest) - self._clock())

    def wait(self, timeout: float) -> bool:
        """Until a pass is due (True) or `timeout` seconds passed without a poke (False)."""
        deadline = self._clock() + timeout
        with self._changed:
            while True:
                due = self.due_in()
                if due is not None and due <= 0:
                    self._first = None
                    return True
                left = deadline - self._clock()
                if due is None and left <= 0:
                    return False
                self._changed.wait(left if due is None else due)
