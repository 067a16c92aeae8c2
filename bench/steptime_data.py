"""Published measurements as the benchmark of step times wants them: shares of a spec sheet that operators reach, and
end-to-end points. Which rows count is told in steptime_split.toml; nothing is fitted here."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import exp, log
from pathlib import Path
from statistics import fmean, median

from motley_solver.hardware import CATALOGUE, GIB, DType, Gpu, ModelShape

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
KINDS = ("streaming", "arithmetic", "attention", "key_values")
BIG = 100e6  # bytes: what does not sit in an L2 cache

GPUS = {
    **CATALOGUE,
    "A10": Gpu("A10", 24, 22.1, 600, 125, 31.2, None, 32, source="NVIDIA A10 data sheet"),
    "GH200": Gpu("GH200", 96, 94.5, 4000, 989, 67, 1979, 450, source="stas00/ml-engineering accelerator table"),
}
SHAPES = {
    "Llama-3.1-70B": ModelShape(80, 8192, 64, 8, 128, 28672, 128256),
    "Llama-2-70B": ModelShape(80, 8192, 64, 8, 128, 28672, 32000),
    "Llama-3-8B": ModelShape(32, 4096, 32, 8, 128, 14336, 128256),
    "Llama-2-7B": ModelShape(32, 4096, 32, 32, 128, 11008, 32000),
    "Qwen3-32B": ModelShape(64, 5120, 64, 8, 128, 25600, 151936),
    # a gateless MLP of 24576 has as many weights as a gated one of two thirds
    "StarCoder": ModelShape(40, 6144, 48, 1, 128, 16384, 49152, tied_embeddings=True),
}


@dataclass(frozen=True)
class Point:
    """An end-to-end measurement; seconds. Of a `record` users, context and prompts are means over its time."""

    engine: str
    kind: str
    model: str
    gpu: str
    tp: int
    dtype: DType
    users: float
    inputs: float
    outputs: float
    tpot: float
    ttft: float | None = None
    context: float = 0.0
    prompts_per_second: float = 0.0
    calibrates: bool = True

    @property
    def fits(self) -> bool:
        """All sequences at once in KV memory, as the planner counts it."""
        gpu, shape = GPUS[self.gpu], SHAPES[self.model]
        free = gpu.usable_memory_gib * 0.9 - 1.5 - shape.weight_bytes(self.dtype) / self.tp / GIB
        kv = shape.kv_bytes_per_token_and_gpu("bfloat16", self.tp) / GIB
        return self.users * (self.inputs + self.outputs) * kv <= free


@cache
def rows(path: str) -> list[dict[str, str]]:
    with (DATA / path).open() as file:
        return list(csv.DictReader(file))


# Operators


Reached = tuple[
    str, str, str, float
]  # GPU, model whose matrices they are ("" for a grid), kind, bytes or flops a second


def _gemms() -> Iterator[Reached]:
    for system, name in (("a100_sxm", "A100-80GB"), ("h100_sxm", "H100"), ("l40s", "L40S")):
        for row in rows(f"profiles/aic_ops/{system}_gemm_bf16.csv"):
            m, n, k, seconds = float(row["m"]), float(row["n"]), float(row["k"]), float(row["latency_ms"]) / 1e3
            if m <= 16 and n * k * 2 >= BIG:
                yield name, "", "streaming", n * k * 2 / seconds
            if m >= 1024 and 2048 <= min(n, k) and max(n, k) <= 32768:
                yield name, "", "arithmetic", 2 * m * n * k / seconds


def _attentions() -> Iterator[Reached]:
    for system, name in (("a100_sxm", "A100-80GB"), ("h100_sxm", "H100"), ("l40s", "L40S")):
        for row in rows(f"profiles/aic_ops/{system}_generation_attn_bf16.csv"):
            read = float(row["batch_size"]) * (float(row["isl"]) + float(row["step"]))
            read *= float(row["num_key_value_heads"]) * 128 * 4
            if read >= BIG:
                yield name, "", "key_values", read / float(row["latency_ms"]) * 1e3
        for row in rows(f"profiles/aic_ops/{system}_context_attn_bf16.csv"):
            length = float(row["isl"])
            if float(row["step"]) == 0 and 1024 <= length <= 16384:
                flops = 2 * float(row["batch_size"]) * float(row["num_heads"]) * 128 * length**2
                yield name, "", "attention", flops / float(row["latency_ms"]) * 1e3


VIDUR_GPUS = {"a100": "A100-80GB", "a40": "A40", "h100": "H100"}
VIDUR_SHAPES = {  # our name, hidden, KV heads, intermediate
    "meta-llama/Meta-Llama-3-70B": ("Llama-3.1-70B", 8192, 8, 28672),
    "meta-llama/Llama-2-70b-hf": ("Llama-2-70B", 8192, 8, 28672),
    "meta-llama/Meta-Llama-3-8B": ("Llama-3-8B", 4096, 8, 14336),
    "meta-llama/Llama-2-7b-hf": ("Llama-2-7B", 4096, 32, 11008),
    "Qwen/Qwen-72B": ("Qwen-72B", 8192, 64, 24576),
}
SAME_CHIP = {"H200": "H100", "GH200": "H100"}  # another memory beside it


def _layers() -> Iterator[Reached]:
    for row in rows("profiles/vidur_mlp_layer_ms.csv"):
        if row["model"] not in VIDUR_SHAPES:
            continue
        model, hidden, kv_heads, size = VIDUR_SHAPES[row["model"]]
        parts, tokens = int(row["num_tensor_parallel_workers"]), int(row["num_tokens"])
        weights = hidden * (2 * hidden + 2 * max(kv_heads, parts) * 128 + 3 * size) / parts
        seconds = float(row["linear_layer_ms"]) / 1e3
        gpu = VIDUR_GPUS[row["device"]]
        if tokens <= 16 and weights * 2 >= BIG:
            yield gpu, model, "streaming", weights * 2 / seconds
        if tokens >= 1024:
            yield gpu, model, "arithmetic", 2 * weights * tokens / seconds
    llama_30b = 4 * 6656**2 + 3 * 6656 * 17920
    names = {"a100": "A100-40GB", "v100": "V100", "l4": "L4", "t4": "T4"}
    for row in rows("profiles/helix_bs2time.csv"):
        batch, seconds = float(row["batch_or_tokens"]), float(row["time_ms_one_layer"]) / 1e3
        if row["machine"] in names and row["phase"] == "decode" and 2 <= batch <= 16:
            yield names[row["machine"]], "Llama-30B", "streaming", llama_30b * 2 / seconds
        if row["machine"] in names and row["phase"] == "prompt" and batch >= 1000:
            yield names[row["machine"]], "Llama-30B", "arithmetic", 2 * llama_30b * batch / seconds


def _rtx4090() -> Iterator[Reached]:
    weights = {"qkv_proj": 4096 * 6144, "o_proj": 4096**2, "gate_up_proj": 4096 * 28672, "down_proj": 4096 * 14336}
    seconds: dict[int, float] = defaultdict(float)
    for row in rows("profiles/llmservingsim/RTX4090_Llama-3.1-8B_tp1_dense.csv"):
        if row["layer"] in weights:
            seconds[int(row["tokens"])] += float(row["time_us"]) / 1e6
    for tokens, taken in seconds.items():
        if tokens <= 16:
            yield "RTX4090", "Llama-3-8B", "streaming", sum(weights.values()) * 2 / taken
        if tokens >= 1024:
            yield "RTX4090", "Llama-3-8B", "arithmetic", 2 * sum(weights.values()) * tokens / taken
    for row in rows("profiles/llmservingsim/RTX4090_Llama-3.1-8B_tp1_attention.csv"):
        chunk, before, decodes, context = (
            float(row[name]) for name in ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
        )
        taken, read = float(row["time_us"]) / 1e6, decodes * context * 8 * 128 * 4
        if chunk == 0 and read >= BIG:
            yield "RTX4090", "Llama-3-8B", "key_values", read / taken
        if decodes == 0 and chunk >= 1024:
            yield "RTX4090", "Llama-3-8B", "attention", 4 * 32 * 128 * chunk * (before + chunk / 2) / taken


def shares(left_out: frozenset[str]) -> dict[str, dict[str, float]]:
    """By GPU and kind of operator the median share over each source, then the geometric mean of the sources; without
    the GPUs and models left out."""
    medians: dict[tuple[str, str], list[float]] = defaultdict(list)
    for source in (_gemms, _attentions, _layers, _rtx4090):
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for (gpu, model, kind), values in _remembered(source).items():
            if gpu not in left_out and model not in left_out:
                found[gpu, kind] += values
        for key, values in found.items():
            medians[key].append(median(values))
    result: dict[str, dict[str, float]] = defaultdict(dict)
    for (gpu, kind), values in medians.items():
        result[gpu][kind] = geometric_mean(values)
    return result


@cache
def _remembered(source: Callable[[], Iterator[Reached]]) -> dict[tuple[str, str, str], list[float]]:
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for gpu, model, kind, reached in source():
        sheet = GPUS[gpu]
        full = sheet.tflops_16bit * 1e12 if kind in ("arithmetic", "attention") else sheet.bandwidth_gb_s * 1e9
        found[gpu, model, kind].append(reached / full)
    return found


def all_reduces(left_out: frozenset[str]) -> tuple[float, float, dict[int, tuple[float, float]]]:
    """(seconds of a small one, share of a switched link in large ones, both of PCIe by number of GPUs)"""
    small: dict[int, list[float]] = defaultdict(list)
    large: dict[int, list[float]] = defaultdict(list)  # 0 GPUs stands for any number on a switched link
    for system, name in (("a100_sxm", "A100-80GB"), ("h100_sxm", "H100"), ("l40s", "L40S")):
        for row in rows(f"profiles/aic_ops/{system}_allreduce.csv"):
            if "graph" not in row["backend"] or name in left_out:
                continue
            gpus, size, seconds = int(row["num_gpus"]), float(row["message_size"]) * 2, float(row["latency"]) / 1e3
            key = gpus if name == "L40S" else 0
            if size <= 32768:
                small[key].append(seconds)
            elif 4e6 <= size <= 128e6:
                large[key].append(2 * (gpus - 1) / gpus * size / seconds / (GPUS[name].link_gb_s * 1e9))
    pcie = {gpus: (median(small[gpus]), median(large[gpus])) for gpus in sorted(small) if gpus}
    return median(small[0]), median(large[0]), pcie


def small_kernels(left_out: frozenset[str]) -> tuple[float, float]:
    """(seconds of a layer's small kernels with few tokens, attention included; their memory traffic with many tokens in
    bytes per token and unit of hidden size, at nominal bandwidth)"""
    few: dict[str, list[float]] = defaultdict(list)
    many: dict[str, list[float]] = defaultdict(list)
    for row in rows("profiles/vidur_mlp_layer_ms.csv"):
        gpu, tokens, seconds = (
            VIDUR_GPUS[row["device"]],
            int(row["num_tokens"]),
            float(row["elementwise_layer_ms"]) / 1e3,
        )
        model, hidden, *_ = VIDUR_SHAPES.get(row["model"], ("", 0))
        if not hidden or gpu in left_out or model in left_out:
            continue
        if tokens <= 16:
            few[gpu].append(seconds)
        if tokens >= 1024:
            many[gpu].append(seconds * GPUS[gpu].bandwidth_gb_s * 1e9 / tokens / hidden)
    attention: dict[str, list[float]] = defaultdict(list)
    for system, name in (("a100_sxm", "A100-80GB"), ("h100_sxm", "H100"), ("l40s", "L40S")):
        for row in rows(f"profiles/aic_ops/{system}_generation_attn_bf16.csv"):
            read = float(row["batch_size"]) * (float(row["isl"]) + float(row["step"]))
            if name not in left_out and read * float(row["num_key_value_heads"]) * 128 * 4 <= 1e6:
                attention[name].append(float(row["latency_ms"]) / 1e3)
    seconds = geometric_mean(map(median, few.values())) + geometric_mean(map(median, attention.values()))
    return seconds, geometric_mean(map(median, many.values()))


def geometric_mean(values: Iterable[float]) -> float:
    return exp(fmean(log(value) for value in values))


# End-to-end points


def _silicon() -> Iterator[Point]:
    models = {"meta-llama/Llama-3.1-70B": "Llama-3.1-70B", "Qwen/Qwen3-32B": "Qwen3-32B"}
    systems = {"h100_sxm": "H100", "h200_sxm": "H200", "b200_sxm": "B200"}
    dtypes: dict[str, DType] = {"fp8": "fp8", "unspecified": "bfloat16"}
    for row in rows("derived/silicon_agg_points.csv"):
        if row["system"] not in systems or row["precision"] not in dtypes:
            continue
        if row["backend"] == "trtllm" and row["precision"] != "fp8":
            continue
        yield Point(
            engine=f"{row['backend']}-2025",
            kind="loop",
            model=models[row["model_path"]],
            gpu=systems[row["system"]],
            tp=int(float(row["tp_size"])),
            dtype=dtypes[row["precision"]],
            users=float(row["conc"]),
            inputs=float(row["isl"]),
            outputs=float(row["osl"]),
            tpot=float(row["silicon_tpot_ms"]) / 1e3,
            ttft=float(row["silicon_ttft_ms"]) / 1e3,
            calibrates=row["conc_from"] == "reported",
        )


def _inference_bench() -> Iterator[Point]:
    gpus = {"Nvidia A100 GPU": "A100-40GB", "Nvidia H100 GPU": "H100", "Nvidia GH200 GPU": "GH200"}
    models = {"meta-llama/Meta-Llama-3-8B": "Llama-3-8B", "meta-llama/Llama-2-7b-hf": "Llama-2-7B"}
    for row in rows("profiles/llm_inference_bench.csv"):
        length, batch = float(row["Input Output Length"]), float(row["Batch Size"])
        if row["Framework"] != "vLLM" or row["Hardware"] not in gpus or batch > 64:
            continue
        yield Point(
            engine="vllm-2024",
            kind="whole batch",
            model=models[row["Model"]],
            gpu=gpus[row["Hardware"]],
            tp=int(row["Num of Hardware"]),
            dtype="bfloat16",
            users=batch,
            inputs=length,
            outputs=length,
            tpot=float(row["Latency"]) / length,
        )


def _llmpilot() -> Iterator[Point]:
    gpus = {"t4": "T4", "a10": "A10", "a100": "A100-40GB", "h100": "H100"}
    models = {"llama-7b": "Llama-2-7B", "bigcode__starcoder": "StarCoder"}
    for row in rows("profiles/llmpilot_summary.csv"):
        if row["gpu"] not in gpus or row["model"] not in models or int(row["users"]) > 16:
            continue
        yield Point(
            engine="tgis-2023",
            kind="loop",
            model=models[row["model"]],
            gpu=gpus[row["gpu"]],
            tp=int(row["n_gpus"]),
            dtype="float16",
            users=float(row["users"]),
            inputs=float(row["mean_in_tok"]),
            outputs=float(row["mean_out_tok"]),
            tpot=float(row["itl_mean_ms"]) / 1e3,
            ttft=float(row["ttft_p50_ms"]) / 1e3,
        )


def _splitwise() -> Iterator[Point]:
    gpus = {"a100-80gb": "A100-80GB", "h100-80gb": "H100"}
    found: dict[tuple[str, int, float, float], list[tuple[float, float]]] = defaultdict(list)
    for row in rows("profiles/splitwise_perf_model.csv"):
        if row["hardware"] in gpus and row["token_size"] == "128":
            key = row["hardware"], int(row["tensor_parallel"]), float(row["prompt_size"]), float(row["batch_size"])
            found[key].append((float(row["prompt_time"]) / 1e3, float(row["token_time"]) / 1e3))
    for (gpu, tp, prompt, batch), times in found.items():
        prompts, tokens = zip(*times, strict=True)
        yield Point(
            engine="splitwise-2023",
            kind="batch",
            model="Llama-2-70B",
            gpu=gpus[gpu],
            tp=tp,
            dtype="float16",
            users=batch,
            inputs=prompt,
            outputs=128,
            tpot=median(tokens),
            ttft=median(prompts) if batch == 1 else None,
        )


def _record() -> Iterator[Point]:
    """Means over the time in which requests run: how many decode, what they have read, how fast prompts come in."""
    lines = (DATA / "profiles/llmservingsim/measured_RTX4090_Llama-3.1-8B_requests.jsonl").read_text().splitlines()
    requests = [json.loads(line) for line in lines]
    span = max(r["last_token_ts"] for r in requests) - min(r["scheduled_ts"] for r in requests)
    decoding = [r["last_token_ts"] - r["first_token_ts"] for r in requests]
    sequence_seconds = sum(decoding)
    context = sum((r["input_toks"] + r["output_toks"] / 2) * s for r, s in zip(requests, decoding, strict=True))
    yield Point(
        engine="vllm-2025",
        kind="record",
        model="Llama-3-8B",
        gpu="RTX4090",
        tp=1,
        dtype="bfloat16",
        users=sequence_seconds / span,
        inputs=fmean(r["input_toks"] for r in requests),
        outputs=0,
        tpot=sequence_seconds / sum(r["output_toks"] - 1 for r in requests),
        context=context / sequence_seconds,
        prompts_per_second=len(requests) / span,
        calibrates=False,
    )


def points() -> list[Point]:
    sources = (_silicon, _inference_bench, _llmpilot, _splitwise)
    return [point for source in sources for point in source() if point.fits] + list(_record())
