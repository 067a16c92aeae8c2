"""Whether the answer of `motley solve --melange` can be right, and for two types what it must cost, worked out from its
input alone."""

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, inf
from typing import Any

TOLERANCE = 1e-9


def contradictions(config: dict[str, Any], answer: dict[str, Any]) -> Iterator[str]:
    """Loads within counts, counts within caps, every bucket with load served whole, the cost as the counts have it,
    the bound below it."""
    gpus, distribution = config["gpu_info"], config["workload_distribution"]
    scale = config["total_request_rate"] / sum(sum(row) for row in distribution)
    served: dict[tuple[int, int], float] = {}
    work = dict.fromkeys(gpus, 0.0)
    for route in answer["assignment"]:
        i, j = route["bucket"]
        rate, tput = distribution[i][j] * scale, gpus[route["gpu"]]["tputs"][i][j]
        served[i, j] = served.get((i, j), 0.0) + route["share"]
        work[route["gpu"]] += rate * (1 + config.get("headroom", 0)) * route["share"] / tput if tput > 0 else inf
    for i, row in enumerate(distribution):
        for j, share in enumerate(row):
            if share * scale > 0 and abs(served.get((i, j), 0.0) - 1) > TOLERANCE:
                yield f"bucket [{i}, {j}]: {served.get((i, j), 0.0)} of it is served"
    for name, gpu in gpus.items():
        count = answer["counts"][name]
        if work[name] > count * (1 + TOLERANCE):
            yield f"{name}: {count} instances for a load of {work[name]}"
        if count > gpu.get("max", inf):
            yield f"{name}: {count} instances, max is {gpu['max']}"
    cost = sum(answer["counts"][name] * gpu["cost"] for name, gpu in gpus.items())
    if abs(cost - answer["cost"]) > TOLERANCE * cost:
        yield f"the counts cost {cost}, not {answer['cost']}"
    if answer["lower_bound"] > answer["cost"]:
        yield f"the bound {answer['lower_bound']} is above the cost {answer['cost']}"


def cheapest_of_two(config: dict[str, Any]) -> Fraction | float:
    """In exact arithmetic: for each count of the first type, it takes what it saves most on, the other the rest."""
    rates = [Fraction(share) * config["total_request_rate"] for share in config["workload_distribution"][0]]
    costs = [Fraction(one["cost"]) for one in config["gpu_info"].values()]
    caps = [one.get("max", inf) for one in config["gpu_info"].values()]
    tputs = [one["tputs"][0] for one in config["gpu_info"].values()]
    loads = [
        tuple(rate / Fraction(t) if t else inf for t in both)
        for rate, both in zip(rates, zip(*tputs, strict=True), strict=True)
    ]
    if any(load == (inf, inf) for load in loads):
        return inf
    loads.sort(key=lambda load: -1 if load[1] == inf else inf if load[0] == inf else load[0] / load[1])
    best: Fraction | float = inf
    for n in range(min(caps[0], ceil(sum(a for a, _ in loads if a < inf))) + 1):
        room = Fraction(n)
        rest: Fraction | float = Fraction(0)
        for first, second in loads:
            part = min(Fraction(1), room / Fraction(first)) if first < inf else Fraction(0)
            room -= part * Fraction(first) if part else 0
            rest += (1 - part) * second if part < 1 else 0
        if rest < inf and ceil(rest * (1 - Fraction(1, 10**9))) <= caps[1]:
            best = min(best, n * costs[0] + ceil(rest * (1 - Fraction(1, 10**9))) * costs[1])
    return best
