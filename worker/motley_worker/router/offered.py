"""Counts every offered request, rejected ones included, by the planner's size grid: what `motley traffic --counters`
reads. Sizes are edges of that grid and names those of Models: their number is bounded, whatever clients send."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

from motley_solver.workload import SMALLEST_INPUT, SMALLEST_OUTPUT, edge
from motley_worker.router.usage import Usage

REJECTED = "rejected"


class Offered:
    def __init__(self, router: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`router`: tells this one's counters from those of its replicas."""
        self._router = router
        self._clock = clock
        self._started = clock()
        self._requests: Counter[tuple[str, int, int | None]] = Counter()
        self._prompt: Counter[str] = Counter()
        self._cached: Counter[str] = Counter()

    def add(self, model: str, input_tokens: int, output_tokens: int | None) -> None:
        """Without an output it was rejected, failed or given up before its first token."""
        output = None if output_tokens is None else edge(output_tokens, SMALLEST_OUTPUT)
        self._requests[model, edge(input_tokens, SMALLEST_INPUT), output] += 1

    def told(self, model: str, usage: Usage) -> None:
        self._prompt[model] += usage.input_tokens
        self._cached[model] += usage.cached_tokens

    def text(self) -> str:
        """In Prometheus' text format. Written here, since the library takes nine times as long for a line, in which
        all streams would wait."""
        return "".join(self._lines())

    def _lines(self) -> Iterator[str]:
        router = f'router="{_escaped(self._router)}"'
        yield "# HELP motley_router_uptime_seconds Since this router began to count.\n"
        yield "# TYPE motley_router_uptime_seconds gauge\n"
        yield f"motley_router_uptime_seconds{{{router}}} {self._clock() - self._started}\n"
        yield (
            "# HELP motley_router_offered_requests_total Offered requests by upper edges of their tokens; rejected: "
            "also those that failed or were given up before their first token.\n"
            "# TYPE motley_router_offered_requests_total counter\n"
        )
        names = {model: f'{router},model="{_escaped(model)}"' for model, _, _ in self._requests}
        for (model, inputs, outputs), number in self._requests.items():
            output = REJECTED if outputs is None else outputs
            size = f'input_tokens="{inputs}",output_tokens="{output}"'
            yield f"motley_router_offered_requests_total{{{names[model]},{size}}} {number}\n"
        for family, said, tokens in (
            ("motley_router_prompt_tokens_total", "Tokens of the prompts whose answers told them.", self._prompt),
            ("motley_router_cached_prompt_tokens_total", "Of these, found in a prefix cache.", self._cached),
        ):
            yield f"# HELP {family} {said}\n# TYPE {family} counter\n"
            yield from (f"{family}{{{names[model]}}} {number}\n" for model, number in tokens.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
