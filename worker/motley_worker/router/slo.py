"""Did a request attain its SLO, and which fraction of the last five minutes did. Time is given, never asked."""

from collections import deque
from dataclasses import dataclass

from motley_worker.router.tables import Slo

WINDOW_SECONDS = 300.0
STEP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Served:
    """One finished request, in seconds as measured here."""

    input_tokens: int
    output_tokens: int
    ttft: float
    total: float
    streamed: bool

    @property
    def tpot(self) -> float | None:
        """Time per output token after the first; unknown where the tokens came all at once."""
        if not self.streamed or self.output_tokens < 2:
            return None
        return (self.total - self.ttft) / (self.output_tokens - 1)


def attains(slo: Slo, served: Served) -> bool:
    """A response that was not streamed shows no first token: it must take no longer than a streamed one may."""
    ttft = slo.ttft_seconds + slo.ttft_seconds_per_thousand_input_tokens * served.input_tokens / 1000
    if not served.streamed:
        return served.total <= ttft + slo.tpot_seconds * max(served.output_tokens - 1, 0)
    return served.ttft <= ttft and (served.tpot is None or served.tpot <= slo.tpot_seconds)


def counts(status: int) -> bool:
    """Whether a response says something about us: the client's own errors do not, being turned away does."""
    return status == 429 or not 400 <= status < 500


class Window:
    """Attained and attempted requests of the last five minutes, to five seconds exact."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, int, int]] = deque()

    def add(self, now: float, attained: bool) -> None:
        step = int(now // STEP_SECONDS)
        last, hits, total = self._steps.pop() if self._steps else (step, 0, 0)
        if last != step:
            self._steps.append((last, hits, total))
            hits = total = 0
        self._steps.append((step, hits + attained, total + 1))
        self._forget(now)

    def attained_and_attempted(self, now: float) -> tuple[int, int]:
        self._forget(now)
        return sum(hits for _, hits, _ in self._steps), sum(total for _, _, total in self._steps)

    def _forget(self, now: float) -> None:
        while self._steps and (self._steps[0][0] + 1) * STEP_SECONDS <= now - WINDOW_SECONDS:
            self._steps.popleft()
