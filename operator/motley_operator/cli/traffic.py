"""`motley traffic`: a trace, routers' counters or quantiles of request sizes → the `traffic` of a Model, with what it
was made from. What the sizes, their rates and the variability are is worked out by `motley_solver.offered`."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from motley_operator.cli import INVALID, PLANNED
from motley_operator.cli.counters import counted
from motley_operator.cli.jsoninput import BadInput, named, said, shown
from motley_operator.cli.terminal import progress
from motley_operator.cli.traces import MOST_INPUT, MOST_OUTPUT, requests_in
from motley_solver.offered import Request, busiest_rate, histogram_of_quantiles, within, workload_counted, workload_of
from motley_solver.workload import Workload, loads_of, merged

LEAST, MOST_RATE, MOST_BURSTINESS, MOST_REUSE = 1e-9, 1e9, 9.99, 0.999  # of what a Model takes

Json = dict[str, Any]


def run(options: Namespace) -> int:
    try:
        with progress() as tell:
            tell("Reading")
            workload, measured = _SOURCES[_source(options)](options)
            context_length = options.context_length or MOST_INPUT  # no Model has a longer one
            measured["cut"] = _longer_than(context_length, workload)
            found = _found(within(workload, context_length), measured)
    except BadInput as error:
        print(error, file=sys.stderr)
        return INVALID
    print(json.dumps(found, indent=2) if options.output == "json" else _yaml(found), flush=True)
    return PLANNED


# --- what is offered ---


def _source(options: Namespace) -> str:
    given = {
        "trace": options.trace is not None,
        "counters": options.counters is not None,
        "quantiles": bool(options.input_quantiles or options.output_quantiles),
    }
    if sum(given.values()) != 1 or (given["quantiles"] and not (options.input_quantiles and options.output_quantiles)):
        raise BadInput("give a TRACE, or --counters, or both --input-quantiles and --output-quantiles")
    return next(source for source, is_given in given.items() if is_given)


def _of_trace(options: Namespace) -> tuple[Workload, Json]:
    file = named(options.trace)
    trace = requests_in(options.trace, options)
    times = sorted(request.time for request in trace if request.time is not None)
    if times and len(times) > MOST_RATE * (times[-1] - times[0]):
        trace, times = [request._replace(time=None) for request in trace], []
    if options.rate is None and not times:
        raise BadInput(f"{file}: does not tell how many requests come in what time; say it with --rate")
    try:
        workload = workload_of(trace, options.rate)
    except ValueError as error:
        raise BadInput(f"{file}: {error}") from error
    return workload, {"source": file, **_measured(trace, times, workload)}


def _measured(trace: Sequence[Request], times: Sequence[float], workload: Workload) -> Json:
    outputs = [request.output_tokens for request in trace if request.output_tokens is not None]
    found: Json = {
        "requests": len(trace),
        "rejected": len(trace) - len(outputs),
        "inputTokens": sum(request.input_tokens for request in trace) / len(trace),
        "outputTokens": sum(outputs) / len(outputs),
    }
    if times:
        seconds = times[-1] - times[0]
        found |= {
            "seconds": seconds,
            "rate": (len(times) - 1) / seconds,
            "busiestMinuteRate": busiest_rate(times),
            "burstiness": workload.variability,
        }
    return found


def _of_counters(options: Namespace) -> tuple[Workload, Json]:
    before, after = options.counters
    model, routers, started = counted(before, after, options.model)
    try:
        workload = workload_counted(routers, options.rate)
        if options.rate is None and workload.rate > MOST_RATE:
            raise ValueError(f"{workload.rate:g} requests per second; a Model takes at most {MOST_RATE:g}")
    except ValueError as error:
        raise BadInput(said(after, BadInput(f"{shown(model)} since {shown(before)}: {error}"))) from error
    requests = [(outputs, n, n / router.seconds) for router in routers for (_, outputs), n in router.requests.items()]
    measured = {
        "source": f"{shown(after)} since {shown(before)}",
        "model": model,
        "routers": len(routers),
        "routersStarted": started,
        "requests": round(sum(n for _, n, _ in requests)),
        "rejected": round(sum(n for outputs, n, _ in requests if outputs is None)),
        "seconds": max(router.seconds for router in routers),
        "rate": sum(rate for _, _, rate in requests),
    }
    return workload, measured


def _of_quantiles(options: Namespace) -> tuple[Workload, Json]:
    if options.rate is None:
        raise BadInput("quantiles do not tell how many requests there are: say it with --rate")
    inputs, outputs = dict(options.input_quantiles), dict(options.output_quantiles)
    for role, quantiles, most in (("input", inputs, MOST_INPUT), ("output", outputs, MOST_OUTPUT)):
        if quantiles[1.0] > most:
            raise BadInput(f"--{role}-quantiles: a Model takes at most {most} tokens, not {quantiles[1.0]}")
    histogram = merged(histogram_of_quantiles(inputs, outputs))
    return Workload(loads_of(histogram.items(), options.rate)), {"source": "quantiles"}


_SOURCES = {"trace": _of_trace, "counters": _of_counters, "quantiles": _of_quantiles}


def _found(workload: Workload, measured: Json) -> Json:
    loads, rate = workload.loads, workload.rate
    return {
        "traffic": {
            "rate": _decimal(rate),
            "burstiness": _decimal(min(workload.variability, MOST_BURSTINESS)),
            "prefixReuse": _decimal(min(workload.prefix_reuse, MOST_REUSE)),
            "sizes": [
                {
                    "inputTokens": load.bucket.input_tokens,
                    "outputTokens": load.bucket.output_tokens,
                    "weight": _decimal(load.rate / rate),
                }
                for load in loads
            ],
        },
        "leastContextLength": max(load.bucket.input_tokens + load.bucket.output_tokens for load in loads),
        "measured": measured,
        "planned": {
            "inputTokens": sum(load.rate * load.bucket.input_tokens for load in loads) / rate,
            "outputTokens": sum(load.rate * load.bucket.output_tokens for load in loads) / rate,
        },
    }


def _decimal(value: float) -> str:
    """Four digits; in the API's form, which has nine places, nothing becomes 0 that is not."""
    return f"{max(float(f'{value:.4g}'), LEAST if value > 0 else 0.0):.9f}".rstrip("0").rstrip(".")


def _longer_than(context: int, workload: Workload) -> float:
    """Which fraction of the requests."""
    sizes = ((load.bucket.input_tokens + load.bucket.output_tokens, load.rate) for load in workload.loads)
    return sum(rate for tokens, rate in sizes if tokens > context) / workload.rate


# --- as text ---


_CV = "# CV of the times between requests, within a minute; vLLM's --burstiness is 1/CV^2"


def _yaml(found: Json) -> str:
    """Indented as below `spec:`."""
    traffic = found["traffic"]
    lines = [f"# {comment}" for comment in _comments(found)]
    lines += [
        "traffic:",
        f'  rate: "{traffic["rate"]}"',
        f'  burstiness: "{traffic["burstiness"]}" {_CV}',
        f'  prefixReuse: "{traffic["prefixReuse"]}" # share of the input tokens that were cached',
        "  sizes:",
    ]
    lines += [
        f'  - {{inputTokens: {size["inputTokens"]}, outputTokens: {size["outputTokens"]}, weight: "{size["weight"]}"}}'
        for size in traffic["sizes"]
    ]
    return "\n".join(f"  {line}" for line in lines)


def _comments(found: Json) -> Iterator[str]:
    measured, planned = found["measured"], found["planned"]
    yield from _origin(measured)
    yield from _arrivals(found["traffic"], measured)
    inputs, outputs = (_tokens(name, measured, planned) for name in ("inputTokens", "outputTokens"))
    yield f"Mean tokens: input {inputs}, output {outputs}: a size counts as the largest request in it."
    cut = f": sizes of {measured['cut']:.2%} of the requests were cut to it" if measured.get("cut") else ""
    yield f"contextLength must be at least {found['leastContextLength']}{cut}."


def _tokens(name: str, measured: Json, planned: Json) -> str:
    true = f"{measured[name]:.0f}, " if name in measured else ""
    return f"{true}planned {planned[name]:.0f}"


def _origin(measured: Json) -> Iterator[str]:
    if "requests" not in measured:
        yield "From quantiles; input and output lengths are assumed to be independent."
        return
    lasting = f" in {_duration(measured['seconds'])}" if "seconds" in measured else ""
    of = f" of {shown(measured['model'])}" if "model" in measured else ""
    yield f"From {measured['source']}: {measured['requests']} requests{of}{lasting}."
    if measured.get("routersStarted"):
        yield f"{measured['routersStarted']} of {measured['routers']} routers started in between, and count from then."
    if measured["rejected"]:
        yield f"{measured['rejected']} of them, without an output, are counted like the others of their input."


def _arrivals(traffic: Json, measured: Json) -> Iterator[str]:
    if "rate" not in measured:
        yield f"Rate: {traffic['rate']}/s as given."
    else:
        said = f"Rate: {measured['rate']:.4g}/s on average"
        if "busiestMinuteRate" in measured:
            said += f", {measured['busiestMinuteRate']:.4g}/s in the busiest minute"
        yield f"{said}, {traffic['rate']}/s as given." if _decimal(measured["rate"]) != traffic["rate"] else f"{said}."
    if "burstiness" not in measured:
        yield "Burstiness 1 (Poisson arrivals) is assumed: the source has no times."
    elif measured["burstiness"] > MOST_BURSTINESS:
        yield f"Burstiness: {measured['burstiness']:.3g}, of which a Model takes {MOST_BURSTINESS}."


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"
