"""`motley solve --melange` in this process, and a configuration to start from."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Protocol

from melange_answers import contradictions

Config = dict[str, Any]

# An L4 is the cheaper way to serve short requests, and cannot serve the longest at all.
CONFIG: Config = {
    "gpu_info": {
        "L4": {"cost": 0.7, "tputs": [[2.0, 1.0], [1.0, 0.0]]},
        "A100": {"cost": 3.67, "tputs": [[9.0, 5.0], [6.0, 2.5]]},
    },
    "workload_distribution": [[0.4, 0.3], [0.2, 0.1]],
    "total_request_rate": 12,
    "slice_factor": 4,
}


def changed(**changes: Any) -> Config:
    return {**json.loads(json.dumps(CONFIG)), **changes}


def gpu(name: str, **changes: Any) -> Config:
    config = changed()
    config["gpu_info"][name].update(changes)
    return config


def of_work(work: Sequence[Sequence[float]], costs: Sequence[float], caps: Sequence[float] = ()) -> Config:
    """One bucket per column, which takes that many instances of the type of the row; infinite: is not served."""
    gpus: dict[str, Any] = {}
    for k, (row, cost) in enumerate(zip(work, costs, strict=True)):
        gpus[f"g{k}"] = {"cost": cost, "tputs": [[0 if w == inf else 1 / w for w in row]]}
        if caps and caps[k] < inf:
            gpus[f"g{k}"]["max"] = caps[k]
    buckets = len(work[0])
    return {"gpu_info": gpus, "workload_distribution": [[1 / buckets] * buckets], "total_request_rate": buckets}


@dataclass(frozen=True)
class Ran:
    given: Config | bytes
    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def broken(self) -> list[str]:
        assert isinstance(self.given, dict)
        return list(contradictions(self.given, self.answer))


class Solve(Protocol):
    def __call__(self, given: Config | bytes, *options: str) -> Ran: ...


def solver_in(folder: Path, main: Callable[[list[str]], int], output: Callable[[], tuple[str, str]]) -> Solve:
    """A file's name is shown as FILE."""
    file = folder / "config.json"

    def ran(given: Config | bytes, *options: str) -> Ran:
        file.write_bytes(json.dumps(given).encode() if isinstance(given, dict) else given)
        code = main(["solve", "--melange", str(file), *(options or ("-o", "json"))])
        out, err = output()
        return Ran(given, code, out, err.replace(str(file), "FILE"))

    return ran
