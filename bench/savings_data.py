"""What the benchmark of savings is about: traces, sizes, SLOs, models, prices, and what the paper has published.
Everything here but `published` speeds stood before the first run."""

import csv
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from motley_solver.hardware import ModelShape
from motley_solver.problem import Slo
from motley_solver.workload import Bucket

RATES = (1, 2, 4, 8, 16, 32)
INPUT_EDGES = (25, 100, 250, 500, 1000, 2000, 4000, 8000, 16000)
OUTPUT_EDGES = (25, 100, 250, 500, 1000, 2000, 4100)

SLOS = {
    "loose": Slo(ttft_seconds_base=2.0, ttft_seconds_per_1k_input=1.0, tpot_seconds=0.120, attainment=0.99),
    "tight": Slo(ttft_seconds_base=1.0, ttft_seconds_per_1k_input=0.5, tpot_seconds=0.040, attainment=0.99),
}
MODELS = {
    "Llama-2-7b": ModelShape(32, 4096, 32, 32, 128, 11008, 32000),  # its own limit of 4096 tokens left out, as there
    "Llama-3.1-8B": ModelShape(32, 4096, 32, 8, 128, 14336, 128256),
}
# Per GPU and hour. AWS us-east-1 on demand, July 2026: g6.xlarge, g5.xlarge, an eighth of p4de.24xlarge, p5.4xlarge.
# Lambda 2026: an eighth of gpu_8x_a100_80gb_sxm4, gpu_1x_h100_sxm5; it has no L4 and no A10G, which cost as at AWS.
# Paper: Table 1 of Mélange (arXiv 2404.14527).
PRICES = {
    "AWS": {"L4": 0.8048, "A10G": 1.006, "A100-80GB": 3.43088, "H100": 6.88},
    "Lambda": {"L4": 0.8048, "A10G": 1.006, "A100-80GB": 2.79, "H100": 4.29},
    "paper": {"L4": 0.70, "A10G": 1.01, "A100-80GB": 3.67, "H100": 7.516},
}
PUBLISHED = "as published"
"""Llama-2-7b as fast as the paper found it (vLLM 0.2.7): see `published_rate`. Added after the first run."""
HEADLINE = ("Llama-2-7b", "AWS")
"""The model and prices for which the aim is said to be met or missed; fixed before the first run."""

Lengths = list[tuple[int, int]]
Traces = Mapping[str, Lengths]


@dataclass(frozen=True)
class Workload:
    """Request sizes of public traces, in parts of a mixture; and the paper's dataset that it resembles, with its mean
    saving against the best single type by SLO, computed from the published tables."""

    parts: tuple[tuple[str, float], ...]
    dataset: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By SLO: how many instances of one type alone the paper needs at its highest rate, 32 requests/s."""


TRACES = {  # file under traces/, columns of input and output tokens
    "sharegpt": ("helix_sharegpt_lengths.csv", "input_tokens", "output_tokens"),
    "arxiv": ("vidur_arxiv_summarization.csv", "num_prefill_tokens", "num_decode_tokens"),
    "conv": ("azure2023_conv_30min.csv", "ContextTokens", "GeneratedTokens"),
    "code": ("azure2023_code.csv", "ContextTokens", "GeneratedTokens"),
}
ORIGINALS = """\
  helix_sharegpt_lengths.csv        Thesys-lab/Helix-ASPLOS25: simulator/trace_generator/length_data (ShareGPT)
  vidur_arxiv_summarization.csv     microsoft/vidur: data/processed_traces/arxiv_summarization_stats_…_v2.csv
  azure2023_conv_30min.csv          Azure/AzurePublicDataset: AzureLLMInferenceTrace_conv.csv, its first 30 minutes
  azure2023_code.csv                Azure/AzurePublicDataset: AzureLLMInferenceTrace_code.csv"""
_ARENA = {
    "loose": {"L4": 65, "A10G": 39, "A100-80GB": 9, "H100": 8},
    "tight": {"L4": 135, "A10G": 80, "A100-80GB": 9, "H100": 7},
}
_PUBMED = {"loose": {"A100-80GB": 106, "H100": 55}, "tight": {"A100-80GB": 133, "H100": 56}}
_MIXED = {"loose": {"A100-80GB": 20, "H100": 12}, "tight": {"A100-80GB": 24, "H100": 13}}
WORKLOADS = {
    "sharegpt": Workload((("sharegpt", 1.0),), "Arena", {"loose": 0.245, "tight": 0.161}, _ARENA),
    "arxiv": Workload((("arxiv", 1.0),), "PubMed", {"loose": 0.200, "tight": 0.063}, _PUBMED),
    "mixed": Workload((("sharegpt", 0.8), ("arxiv", 0.2)), "Mixed", {"loose": 0.202, "tight": 0.124}, _MIXED),
    "conv": Workload((("conv", 1.0),)),
    "code": Workload((("code", 1.0),)),
}


def lengths(file: Path, inputs: str, outputs: str) -> Lengths:
    with file.open(newline="") as stream:
        return [(int(row[inputs]), max(1, int(row[outputs]))) for row in csv.DictReader(stream)]


def histogram_of(workload: Workload, traces: Traces) -> dict[Bucket, float]:
    """Parts of each bucket; they add up to 1."""
    found: Counter[Bucket] = Counter()
    for name, part in workload.parts:
        for size in traces[name]:
            found[bucket_of(*size)] += part / len(traces[name])  # type: ignore[assignment]
    return dict(found)


def bucket_of(input_tokens: int, output_tokens: int) -> Bucket:
    return Bucket(
        INPUT_EDGES[bisect_left(INPUT_EDGES, input_tokens)], OUTPUT_EDGES[bisect_left(OUTPUT_EDGES, output_tokens)]
    )


def published_rate(workload: str, slo: str, gpu: str) -> float | None:
    """Requests per second of one instance that serves the whole dataset alone, to half an instance: 32 / (count − ½).
    None where the paper has no count, for the dataset has requests that this type cannot serve."""
    count = WORKLOADS[workload].counts[slo].get(gpu)
    return 32 / (count - 0.5) if count else None
