"""What the benchmark of fleets' savings is about: instances, models, fleets, stock, measured rates. All of it stood
before the first run."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from bench.savings_data import MODELS, PRICES
from motley_solver.capacity import ThroughputEntry, ThroughputTable
from motley_solver.hardware import DType, ModelShape
from motley_solver.workload import Bucket

RATES = (1, 2, 4, 8, 16, 32)  # of all models together; the means are over these, as the published ones are
BEYOND = (64, 128)
TENSOR_PARALLEL = (1, 2, 4, 8)


@dataclass(frozen=True)
class Instance:
    gpu: str
    gpus: int
    price: float  # per hour


# AWS us-east-1 on demand, July 2026: of each GPU type and number of GPUs the cheapest that is rented.
INSTANCES = {
    "g4dn.xlarge": Instance("T4", 1, 0.526),
    "g4dn.12xlarge": Instance("T4", 4, 3.912),
    "g4dn.metal": Instance("T4", 8, 7.824),
    "g6.xlarge": Instance("L4", 1, 0.8048),
    "g6.12xlarge": Instance("L4", 4, 4.6016),
    "g6.48xlarge": Instance("L4", 8, 13.3504),
    "g5.xlarge": Instance("A10G", 1, 1.006),
    "g5.12xlarge": Instance("A10G", 4, 5.672),
    "g5.48xlarge": Instance("A10G", 8, 16.288),
    "g6e.xlarge": Instance("L40S", 1, 1.861),
    "g6e.12xlarge": Instance("L40S", 4, 10.49264),
    "g6e.48xlarge": Instance("L40S", 8, 30.13118),
    "p4d.24xlarge": Instance("A100-40GB", 8, 21.957642),
    "p4de.24xlarge": Instance("A100-80GB", 8, 27.44705),
    "p5.4xlarge": Instance("H100", 1, 6.88),
    "p5.48xlarge": Instance("H100", 8, 55.04),
    "p5en.48xlarge": Instance("H200", 8, 63.296),
    "p6-b200.48xlarge": Instance("B200", 8, 113.9328),
}
UNLIMITED = 2000  # of each instance
LIMITED = {1: 4, 4: 1, 8: 1}  # of each instance, by its GPUs: 8 to 16 GPUs of each type


@dataclass(frozen=True)
class Served:
    shape: ModelShape
    weights: DType  # bfloat16 is float16 on GPUs without it


SERVED = {
    **{name: Served(shape, "bfloat16") for name, shape in MODELS.items()},
    "Qwen3-32B": Served(ModelShape(64, 5120, 64, 8, 128, 25600, 151936), "bfloat16"),
    "Llama-3.1-70B": Served(ModelShape(80, 8192, 64, 8, 128, 28672, 128256), "fp8"),
}


@dataclass(frozen=True)
class Part:
    """A model, the trace that it serves (a workload of savings_data), its part of the requests."""

    model: str
    workload: str
    part: float


def _fleet(*parts: float) -> tuple[Part, ...]:
    served = (("Llama-3.1-8B", "conv"), ("Qwen3-32B", "code"), ("Llama-3.1-70B", "arxiv"))
    return tuple(Part(*what, part / sum(parts)) for what, part in zip(served, parts, strict=True))


FLEETS = {"three models, 60/30/10": _fleet(60, 30, 10), "three models, even": _fleet(1, 1, 1)}
LIMITED_FLEET = next(iter(FLEETS))
REPLAYED = (8, 32)  # requests/s of the first fleet

# --- measured rates ---

MEASURED_MODEL = "meta-llama/Llama-3.1-70B"  # the other model of that table was measured on one type alone
MEASURED_SIZES = (Bucket(1024, 1024), Bucket(1024, 8192), Bucket(8192, 1024))  # as many requests of each
MEASURED_SLOS = {  # means of TTFT and TPOT in milliseconds
    "500/20 ms": (500.0, 20.0),
    "1000/50 ms": (1000.0, 50.0),
    "2000/50 ms": (2000.0, 50.0),
    "5000/100 ms": (5000.0, 100.0),
    "no SLO": (inf, inf),
}
MEASURED_TYPES = {"h100_sxm": "H100", "h200_sxm": "H200", "b200_sxm": "B200"}
PRECISIONS = {
    "FP8": {"H100": "fp8", "H200": "fp8", "B200": "fp8"},
    "FP8, B200 in FP4": {"H100": "fp8", "H200": "fp8", "B200": "fp4"},
}
GPU_PRICES = {"H100": PRICES["AWS"]["H100"], "H200": 63.296 / 8, "B200": 113.9328 / 8}
RENTED = {"by the GPU": None, "by the node of 8": 8}
"""By the GPU: a replica of n GPUs costs n eighths of the node, as Mélange counts."""
MEASURED_ORIGIN = """\
  silicon_agg_points.csv            ai-dynamo/aiconfigurator: aic-core/src/…/systems/silicon_sample.csv, aggregated
                                    points, requests/s = concurrency / (TTFT + (output − 1)·TPOT)"""

Measured = Mapping[tuple[str, int], ThroughputTable]
"""By GPU type and tensor parallelism."""


def measured(file: Path, slo: str, precisions: str) -> Measured:
    """The best rate of one replica among the points whose mean TTFT and TPOT are both within the SLO."""
    ttft, tpot = MEASURED_SLOS[slo]
    best: dict[tuple[str, int], dict[Bucket, float]] = defaultdict(dict)
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            gpu = MEASURED_TYPES.get(row["system"], "")
            if row["model_path"] != MEASURED_MODEL or row["precision"] != PRECISIONS[precisions].get(gpu):
                continue
            if float(row["silicon_ttft_ms"]) <= ttft and float(row["silicon_tpot_ms"]) <= tpot:
                rates = best[gpu, int(float(row["tp_size"]))]
                bucket = Bucket(int(row["isl"]), int(row["osl"]))
                rates[bucket] = max(rates.get(bucket, 0.0), float(row["req_s"]))
    return {
        key: ThroughputTable(tuple(ThroughputEntry(*entry) for entry in rates.items()), max_model_len=10**6)
        for key, rates in best.items()
    }
