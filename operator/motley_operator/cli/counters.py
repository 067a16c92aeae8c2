"""What routers counted of one Model between two times, each saved from their /metrics/sizes. It knows the text and its
names; what load that is, is the affair of `motley_solver.offered`."""

from collections import defaultdict
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from motley_operator.cli.jsoninput import BadInput, said, shown, text_in
from motley_operator.cli.traces import MOST_INPUT, MOST_OUTPUT
from motley_solver.offered import Counters

UPTIME = "motley_router_uptime_seconds"
REQUESTS = "motley_router_offered_requests_total"
PROMPT, CACHED = "motley_router_prompt_tokens_total", "motley_router_cached_prompt_tokens_total"
REJECTED = "rejected"
MOST = 1e18
"""Of a counter; more is a slip, and beyond what floating point adds up."""


class Counted(NamedTuple):
    model: str  # namespace/name
    routers: tuple[Counters, ...]
    started: int  # so many of the routers started in between


def counted(before: str, after: str, model: str | None) -> Counted:
    """From two files, `-` for standard input. BadInput names the file."""
    earlier, later = _scrape_of(before), _scrape_of(after)
    chosen = _chosen(sorted({of for _, of in later.requests}), model, after)
    routers, started = [], 0
    for router, seconds in later.seconds.items():
        since = later.counters(router, chosen).since(earlier.counters(router, chosen))
        started += since.seconds == seconds
        routers.append(since)
    return Counted(chosen, tuple(routers), started)


def _chosen(models: list[str], model: str | None, file: str) -> str:
    if model is None and len(models) == 1:
        return models[0]
    if model in models:
        return model
    names = ", ".join(map(shown, models))
    if not models:
        message = "no request has come to these routers yet"
    elif model is None:
        message = f"counts requests of several Models; choose with --model: {names}"
    else:
        message = f"counts no requests of {shown(model)}, only of: {names}"
    raise _wrong(file, message)


class _Scrape(NamedTuple):
    """Of one or several routers, whose texts follow one another."""

    seconds: dict[str, float]
    """By router."""
    requests: dict[tuple[str, str], dict[tuple[int, int | None], float]]
    """By router and Model, then by size."""
    tokens: dict[tuple[str, str, str], float]
    """By router, Model and name."""

    def counters(self, router: str, model: str) -> Counters:
        """All 0 where nothing is told."""
        return Counters(
            self.seconds.get(router, 0.0),
            self.requests.get((router, model), {}),
            self.tokens.get((router, model, PROMPT), 0.0),
            self.tokens.get((router, model, CACHED), 0.0),
        )

    def take(self, sample: Sample) -> None:
        labels, value = sample.labels, sample.value
        if not 0 <= value <= MOST:
            raise ValueError(f"{sample.name} is {value}")
        router = labels["router"]
        if sample.name == UPTIME:
            if router in self.seconds:
                raise ValueError(f"router {shown(router)} is in it twice")
            self.seconds[router] = value
        elif sample.name == REQUESTS:
            if value % 1:
                raise ValueError(f"{sample.name} is {value}")
            inputs, outputs = labels["input_tokens"], labels["output_tokens"]
            to = None if outputs == REJECTED else _tokens(outputs, MOST_OUTPUT)
            self.requests[router, labels["model"]][_tokens(inputs, MOST_INPUT), to] += value
        else:
            self.tokens[router, labels["model"], sample.name] = value


def _tokens(text: str, most: int) -> int:
    """The edge of the largest sizes is beyond what a Model takes."""
    if (tokens := int(text)) < 1:
        raise ValueError(f"a size of {tokens} tokens")
    return min(tokens, most)


def _scrape_of(path: str) -> _Scrape:
    scrape = _Scrape({}, defaultdict(lambda: defaultdict(float)), {})
    try:
        for family in text_string_to_metric_families(text_in(path)):
            for sample in family.samples:
                if sample.name in (UPTIME, REQUESTS, PROMPT, CACHED):
                    scrape.take(sample)
    except BadInput as error:
        raise _wrong(path, str(error)) from error
    except KeyError as error:
        raise _wrong(path, f"not what a router's /metrics/sizes says: no label {error}; save it again") from error
    except (ValueError, IndexError) as error:
        raise _wrong(
            path, f"not what a router's /metrics/sizes says: {str(error) or 'no metrics'}; save it again"
        ) from error
    if not scrape.seconds:
        raise _wrong(path, "holds no router's counters; save what its /metrics/sizes says")
    return scrape


def _wrong(path: str, message: str) -> BadInput:
    return BadInput(said(path, BadInput(message)))
