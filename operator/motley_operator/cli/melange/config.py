"""What the keys of Mélange's configuration mean, and what is wrong with them. What is asked is `question`'s affair."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from math import fsum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motley_operator.cli.jsoninput import BadInput, key, mapping, matrix, number, required, whole

SUM_TOLERANCE = 1e-6
MOST_INSTANCES = 1e12
"""For one bucket; a GPU type that needs more does not serve it."""
LEAST_WORK = 1e-30
"""Instances; what takes less is work all the same."""

_KEYS = ("gpu_info", "workload_distribution", "total_request_rate", "slice_factor", "headroom")
_GPU_KEYS = ("cost", "tputs", "max")

Cell = tuple[int, int]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Config:
    names: tuple[str, ...]  # of the GPU types
    costs: Floats  # per hour and instance of each type
    caps: Floats  # instances of each type, infinite where it has no `max`
    cells: tuple[Cell, ...]  # the buckets with load
    rates: Floats  # requests per second of each of these
    tputs: Floats  # [type, cell]: requests per second of one instance, 0 where the bucket does not fit
    headroom: float

    @cached_property
    def work(self) -> Floats:
        """[type, cell]: the instances that a bucket's whole load takes, infinite where it is not served."""
        load = np.broadcast_to(self.rates * (1 + self.headroom), self.tputs.shape)
        serves = self.tputs > load / (2 * MOST_INSTANCES)
        work = np.divide(load, self.tputs, out=np.full(load.shape, np.inf), where=serves)
        return np.where(work <= MOST_INSTANCES, np.maximum(work, LEAST_WORK), np.inf)

    @cached_property
    def bills(self) -> Floats:
        """[type, cell]: what these instances cost, as if parts of one could be bought."""
        served = np.isfinite(self.work)
        return np.where(served, self.costs[:, None] * np.where(served, self.work, 0.0), np.inf)


def parsed(given: Mapping[str, Any]) -> Config:
    """BadInput names the first key that is wrong."""
    info = mapping(required(given, "gpu_info"), "gpu_info")
    if not info:
        raise BadInput("gpu_info: must hold at least one GPU type")
    shares = np.array(matrix(required(given, "workload_distribution"), "workload_distribution"))
    total = fsum(shares.flat)
    if total <= 0:
        raise BadInput("workload_distribution: at least one share must be above 0")
    rate = number(required(given, "total_request_rate"), "total_request_rate")
    if given.get("slice_factor") is not None:
        whole(given["slice_factor"], "slice_factor")
    headroom = number(given["headroom"], "headroom") if given.get("headroom") is not None else 0.0
    rates = rate * (shares / total)
    loaded = rates > 0
    types = [_gpu_type(name, value, shares.shape) for name, value in info.items()]
    return Config(
        names=tuple(info),
        costs=np.array([cost for cost, _, _ in types]),
        caps=np.array([cap for _, cap, _ in types]),
        cells=tuple((int(i), int(j)) for i, j in np.argwhere(loaded)),
        rates=rates[loaded],
        tputs=np.array([tputs[loaded] for _, _, tputs in types]),
        headroom=headroom,
    )


def _gpu_type(name: str, value: Any, size: tuple[int, ...]) -> tuple[float, float, Floats]:
    """Its cost, cap and throughputs."""
    where = ("gpu_info", name)
    value = mapping(value, *where)
    tputs = np.array(matrix(required(value, "tputs", *where), *where, "tputs"))
    if tputs.shape != size:
        message = f"is {tputs.shape[0]} by {tputs.shape[1]}, workload_distribution is {size[0]} by {size[1]}"
        raise BadInput(f"{key(*where, 'tputs')}: {message}")
    cost = number(required(value, "cost", *where), *where, "cost")
    return cost, _cap(value.get("max"), *where, "max"), tputs


def _cap(value: Any, *where: str) -> float:
    """None, and a number beyond all use, is none."""
    if value is None or (isinstance(value, int | float) and MOST_INSTANCES < value < np.inf):
        return np.inf
    return float(whole(value, *where))


def warnings(given: Mapping[str, Any]) -> Iterator[str]:
    """What was understood all the same. The input is known to be right."""
    total = fsum(share for row in given["workload_distribution"] for share in row)
    if abs(total - 1) > SUM_TOLERANCE:
        yield f"workload_distribution: adds up to {total:g}; divided by that"
    yield from _unknown(given, _KEYS)
    for name, value in given["gpu_info"].items():
        yield from _unknown(value, _GPU_KEYS, "gpu_info", name)


def _unknown(value: Mapping[str, Any], known: tuple[str, ...], *where: str) -> Iterator[str]:
    for name in value:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"{key(*where, name)}: unknown key, ignored{hint}"
