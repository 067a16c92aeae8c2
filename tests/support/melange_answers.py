"""Whether the answer of `motley solve --melange` can be right, worked out from its input alone."""

from collections.abc import Iterator
from math import inf
from typing import Any

TOLERANCE = 1e-6


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
