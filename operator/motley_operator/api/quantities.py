"""Strings with units, as Kubernetes users write them: durations, memory, CPU, decimals."""

import re
from typing import Annotated

from pydantic import Field, StringConstraints

_DURATION = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)$")
_MEMORY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?$")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    None: 1,
}
GIB = float(2**30)

_POSITIVE = {
    "x-kubernetes-validations": [
        {"rule": "duration(self) > duration('0s')", "message": "must be longer than zero, for example 500ms"}
    ]
}
Duration = Annotated[
    str, StringConstraints(pattern=_DURATION.pattern, max_length=16), Field(json_schema_extra=_POSITIVE)
]
"""`500ms`, `1.5s`, `2m`, `1h`; longer than zero."""

Decimal = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}(\.[0-9]{1,9})?$", max_length=22)]
"""A non-negative decimal as a string, `"98.32"`: floats do not survive every YAML tool."""

Fraction = Annotated[str, StringConstraints(pattern=r"^(0(\.[0-9]{1,9})?|1(\.0{1,9})?)$", max_length=11)]
"""A part of a whole, from `"0"` to `"1"`."""

Portion = Annotated[str, StringConstraints(pattern=r"^0(\.[0-9]{1,9})?$", max_length=11)]
"""A part that is never the whole: from `"0"` to below `"1"`."""

Variation = Annotated[str, StringConstraints(pattern=r"^[0-9](\.[0-9]{1,9})?$", max_length=11)]
"""A coefficient of variation, below ten."""

Memory = Annotated[str, StringConstraints(pattern=_MEMORY.pattern, max_length=16)]
"""`80Gi`, `512Mi`, `16G`."""

Cpu = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?m?$", max_length=16)]
"""`4`, `0.5`, `500m`."""


def seconds(duration: str) -> float:
    """Seconds of a `Duration`."""
    match = _DURATION.match(duration)
    if match is None:
        raise ValueError(f"{duration!r} is not a duration such as 500ms, 1.5s, 2m or 1h")
    return float(match[1]) * _SECONDS[match[2]]


def gib(memory: str) -> float:
    """GiB of a `Memory`."""
    match = _MEMORY.match(memory)
    if match is None:
        raise ValueError(f"{memory!r} is not a quantity of memory such as 80Gi")
    return float(match[1]) * _BYTES[match[2]] / GIB


def cores(cpu: str) -> float:
    """CPU cores of a `Cpu`."""
    return float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)
