"""The command line run in this process, and a small fleet in files for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from motley_operator.cli import main
from motley_solver.plan import Unsolved

SHAPE = """\
  shape: {layers: 32, hiddenSize: 4096, attentionHeads: 32, kvHeads: 8, headDim: 128, intermediateSize: 14336,
          vocabSize: 128256}
"""


def pool(gpu: str, price: str, most: int) -> str:
    return f"""\
apiVersion: motley.dev/v1alpha1
kind: GPUPool
metadata: {{name: {gpu.lower()}}}
spec:
  gpu: {gpu}
  node: {{gpus: 1, cpu: "8", memory: 64Gi}}
  pricePerNodeHour: "{price}"
  maxNodes: {most}
  nodeSelector: {{motley.dev/pool: {gpu.lower()}}}
---
"""


def profile(gpu: str, short: str, long: str) -> str:
    """Requests per second that one replica was measured to serve."""
    return f"""\
apiVersion: motley.dev/v1alpha1
kind: Profile
metadata: {{name: {gpu.lower()}}}
spec:
{SHAPE}  gpu: {gpu}
  source: Measured
  error: "0.1"
  throughput:
  - {{inputTokens: 100, outputTokens: 100, requestsPerSecond: "{short}"}}
  - {{inputTokens: 4000, outputTokens: 200, requestsPerSecond: "{long}"}}
---
"""


CHAT = f"""\
apiVersion: motley.dev/v1alpha1
kind: Model
metadata: {{name: chat}}
spec:
  source: {{uri: hf://example/chat-8b}}
{SHAPE}  slo: {{ttft: 1s, tpot: 80ms, attainment: "0.95"}}
  placement: {{tensorParallel: [1]}}
  traffic:
    rate: "4"
    sizes:
    - {{inputTokens: 100, outputTokens: 100, weight: "3"}}
    - {{inputTokens: 4000, outputTokens: 200, weight: "1"}}
"""
FLEET = """\
---
apiVersion: motley.dev/v1alpha1
kind: Fleet
metadata: {name: default}
spec: {headroom: "0"}
"""
# An L4 is the cheaper way to serve short requests and cannot serve long ones at all.
POOLS = pool("L4", "0.70", 4) + pool("A100", "3.67", 4)
EXAMPLE = POOLS + profile("L4", "1.5", "0") + profile("A100", "3", "1") + CHAT + FLEET
TABLE = """\
Planned: 5.07 per hour (lower bound 5.07, proven optimal)

MODEL          REPLICAS   GPU         TP   POOL   COST/H     SERVED   PREDICTED
default/chat          2   L4           1   l4       5.07   4 of 4/s   SLO met (100%, target 95%; Profile ±10%)
                      1   A100-80GB    1   a100

POOL    GPU          NODES   PRICE/NODE-H   COST/H
a100    A100-80GB   1 of 4           3.67     3.67
l4      L4          2 of 4           0.70     1.40
total                                         5.07

SINGLE TYPE   COST/H   SAVING   WHY NOT
A100-80GB       7.34      31%
L4                 -        -   cannot serve default/chat 4000+200: """
CONFIG = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


class Ran:
    """One run of the command."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> None:
        self.code = main([str(argument) for argument in arguments])
        self.out, self.err = capsys.readouterr()

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


def written(folder: Path, text: str, name: str = "fleet.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


class NeverSolves:
    """A solver that finds nothing, however long it may look."""

    def __init__(self, time_limit_seconds: float) -> None:
        self._limit = time_limit_seconds

    def __call__(self, problem: object) -> Unsolved:
        return Unsolved(f"no plan was found within {self._limit:g} s")
