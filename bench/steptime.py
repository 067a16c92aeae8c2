"""How far off an estimated step time is: the roofline against published end-to-end measurements, each predicted by a
calibration that has not seen its GPU (or its model).

    python bench/steptime.py                 the tables
    python bench/steptime.py --calibrate     also what a calibration on everything gives, as it stands in the code

Rules, rows and aims: steptime_split.toml. Without the data it says where to get them and ends with 0.
"""

import argparse
import os
import platform
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from statistics import fmean

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import steptime_data as data
from bench.steptime_data import Point
from motley_solver.fitting import Array, non_negative_least_squares
from motley_solver.steptime import (
    CALIBRATION,
    ESTIMATE_ERROR,
    UNMEASURED_ERROR,
    Calibration,
    Efficiency,
    StepTime,
    roofline,
)

SPLIT = tomllib.loads((Path(__file__).parent / "steptime_split.toml").read_text())
HEADLINE = {group["engine"] for group in SPLIT["points"] if group.get("headline")}
ROUNDS: dict[str, int] = SPLIT["loop"]["rounds"]
BUDGET: int = SPLIT["loop"]["token_budget"]
RECORD_BUDGET = 2048  # the record's own setting
PASSES = 12  # of a fixed point that settles earlier
FIT_STEPS = 5  # the last changes nothing any more


@dataclass(frozen=True)
class Fit:
    """A calibration for one engine, and what a request costs beside its iterations (server, client)."""

    calibration: Calibration
    request_seconds: float


# What a point is predicted to be


def predicted(fit: Fit, point: Point) -> tuple[float, float]:
    """(TPOT, TTFT) in seconds."""
    shape, gpu = data.SHAPES[point.model], data.GPUS[point.gpu]
    step = roofline(shape, gpu, point.tp, point.dtype, "float16", fit.calibration)
    assert step is not None
    kinds = {"loop": loop, "batch": batch, "whole batch": whole_batch, "record": record}
    tpot, ttft = kinds[point.kind](step, point)
    return tpot, ttft + fit.request_seconds


def prompt_steps(tokens: float, chunk: float) -> Iterable[tuple[float, float]]:
    """(tokens, mean context) of the iterations that one prompt takes."""
    chunk = max(chunk, 64)
    for index in range(ceil(tokens / chunk)):
        part = min(chunk, tokens - index * chunk)
        yield part, index * chunk + part / 2


def loop(step: StepTime, point: Point) -> tuple[float, float]:
    others, length, gaps = point.users - 1, point.inputs, max(1.0, point.outputs - 1)
    context = length + point.outputs / 2
    rounds = ROUNDS.get(point.engine)
    tpot = step.seconds(0, 0, point.users, point.users * context)
    ttft = step.seconds(length, length / 2, 0, 0)
    for _ in range(PASSES):
        cycle = ttft + gaps * tpot
        decodes = point.users * gaps * tpot / cycle
        read = decodes * context
        plain = step.seconds(0, 0, decodes, read)
        steps = list(prompt_steps(length, BUDGET - decodes))
        prompt = sum(step.seconds(tokens, before, decodes, read) for tokens, before in steps)
        share = others * tpot / cycle
        tpot = (tpot + plain + share * (prompt - len(steps) * plain)) / 2
        busy = min(0.95, others * prompt / cycle)
        wait = min(busy * prompt / (2 * (1 - busy)), others / 2 * prompt)
        first = others / 2 * prompt / rounds if rounds else 0.0
        ttft = (ttft + plain / 2 + prompt + wait + first) / 2
    return tpot, ttft


def batch(step: StepTime, point: Point) -> tuple[float, float]:
    """A static batch on an engine that runs one prompt after the other."""
    context = point.inputs + point.outputs / 2
    prompts = point.users * step.seconds(point.inputs, point.inputs / 2, 0, 0)
    return step.seconds(0, 0, point.users, point.users * context), prompts


def whole_batch(step: StepTime, point: Point) -> tuple[float, float]:
    """A static batch of which only the whole latency is known: per output token, prompts included."""
    tokens = point.users * point.inputs
    prompts = sum(step.seconds(part, point.inputs / 2, 0, 0) for part, _ in prompt_steps(tokens, BUDGET))
    decode, _ = batch(step, point)
    return (prompts + (point.outputs - 1) * decode) / point.outputs, prompts


def record(step: StepTime, point: Point) -> tuple[float, float]:
    read = point.users * point.context
    plain = step.seconds(0, 0, point.users, read)
    steps = list(prompt_steps(point.inputs, RECORD_BUDGET - point.users))
    added = sum(step.seconds(tokens, before, point.users, read) - plain for tokens, before in steps)
    return plain / (1 - min(0.95, point.prompts_per_second * added)), 0.0


# Calibration


def of_operators(left_out: frozenset[str]) -> Calibration:
    """What operators alone tell; the engine's own time stays as it is."""
    shares = data.shares(left_out)
    usual = {kind: data.geometric_mean(v[kind] for v in shares.values() if kind in v) for kind in data.KINDS}
    gpus = {gpu: Efficiency(**(usual | found)) for gpu, found in shares.items()}
    gpus |= {gpu: gpus[chip] for gpu, chip in data.SAME_CHIP.items() if chip in gpus}
    small, ring, pcie = data.all_reduces(left_out)
    layer, elementwise = data.small_kernels(left_out)
    return replace(
        CALIBRATION,
        gpus=gpus,
        usual=Efficiency(**usual),
        elementwise_bytes=elementwise,
        layer_seconds=layer,
        all_reduce_seconds=small,
        ring=ring,
        pcie=pcie,
    )


def assembled(operators: Calibration, x: Sequence[float]) -> Fit:
    step, sequence, request, fp8, reducing = map(float, x)
    calibration = replace(
        operators,
        step_seconds=max(step, 1e-6),
        sequence_seconds=sequence,
        fp8=1 / fp8,
        reducing=1 / max(reducing, 0.1),
    )
    return Fit(calibration, request)


def errors(fit: Fit, points: Iterable[Point]) -> Array:
    """Relative errors of TPOT, then of TTFT where it was measured."""
    found = [(predicted(fit, point), point) for point in points]
    tpot = [value[0] / point.tpot - 1 for value, point in found]
    ttft = [value[1] / point.ttft - 1 for value, point in found if point.ttft]
    return np.array(tpot + ttft)


def calibrated(operators: Calibration, points: Sequence[Point], fp8: float | None) -> Fit:
    """Overheads of one engine and its all-reduces in the switch, FP8 too unless given: Gauss-Newton steps, each a
    non-negative least squares."""
    scale = np.array([1e-3, 1e-5, 1e-2, 1.0, 1.0])
    x = np.array([1.0, 1.0, 1.0, 1 / fp8 if fp8 else 1.25, 1.5])
    free = [0, 1, 2, 4] if fp8 else [0, 1, 2, 3, 4]
    floor = np.array([0.0, 0.0, 0.0, 1.0, 0.0])[free]  # no FP8 arithmetic above the spec sheet's

    def residuals(x: Array) -> Array:
        return errors(assembled(operators, x * scale), points)

    for _ in range(FIT_STEPS):
        now = residuals(x)
        columns = []
        for index in free:
            moved = x.copy()
            moved[index] += 0.05
            columns.append((residuals(moved) - now) / 0.05)
        jacobian = np.stack(columns, axis=1)
        x[free] = floor + non_negative_least_squares(jacobian, jacobian @ (x[free] - floor) - now)
    return assembled(operators, x * scale)


def engines(points: Sequence[Point], left_out: frozenset[str]) -> dict[str, Fit]:
    """A calibration per engine; FP8 comes from the shipped engine."""
    operators = of_operators(left_out)
    by_engine: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        if point.calibrates:
            by_engine[point.engine].append(point)
    shipped = by_engine.pop(SPLIT["shipped"])
    first = calibrated(operators, shipped, None)
    others = {name: calibrated(operators, group, first.calibration.fp8) for name, group in by_engine.items()}
    return {SPLIT["shipped"]: first} | others


# Tables


@dataclass(frozen=True)
class Seen:
    point: Point
    tpot: float
    ttft: float


def ranks(values: Sequence[float]) -> Array:
    """Ranks from 1, ties at their mean."""
    array = np.array(values)
    _, group, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[group])


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    if len(set(one)) < 2 or len(set(other)) < 2:
        return float("nan")
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def judged(seen: Sequence[Seen], measure: str) -> tuple[int, float, float, float]:
    """(points, mean absolute relative error, mean relative error, Spearman's rank correlation)"""
    pairs = [(getattr(s, measure), getattr(s.point, measure)) for s in seen if getattr(s.point, measure)]
    off = [guess / truth - 1 for guess, truth in pairs]
    if not pairs:
        return 0, float("nan"), float("nan"), float("nan")
    guesses, truths = zip(*pairs, strict=True)
    return len(pairs), fmean(abs(e) for e in off), fmean(off), spearman(guesses, truths)


def left_out_in_turn(
    points: Sequence[Point], groups: Sequence[Sequence[str]], by: Callable[[Point], str]
) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {}
    for group in groups:
        names = frozenset(group)
        fits = engines([p for p in points if by(p) not in names], names)
        tested = [p for p in points if by(p) in names and p.engine in fits]
        found[" + ".join(group)] = [Seen(p, *predicted(fits[p.engine], p)) for p in tested]
    return found


def printed(title: str, seen: dict[str, list[Seen]]) -> None:
    print(f"\n{title}\n")
    print("| left out | engine | points | TPOT: MAPE % | bias % | Spearman | TTFT: MAPE % | bias % | Spearman |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for group, all_of_it in seen.items():
        for engine in sorted({s.point.engine for s in all_of_it}):
            row(group, engine, [s for s in all_of_it if s.point.engine == engine])


def row(group: str, engine: str, seen: Sequence[Seen]) -> None:
    count, mape, bias, rank = judged(seen, "tpot")
    with_ttft, ttft_mape, ttft_bias, ttft_rank = judged(seen, "ttft")
    ttft = f"{ttft_mape:.1%} | {ttft_bias:+.1%} | {ttft_rank:.2f}" if with_ttft else "– | – | –"
    print(f"| {group} | {engine} | {count} | {mape:.1%} | {bias:+.1%} | {rank:.2f} | {ttft} |".replace("%", ""))


def headline(title: str, seen: dict[str, list[Seen]], claim: float) -> None:
    """All points of the headline engines against the aims, and their mean error against what the code claims."""
    chosen = [s for found in seen.values() for s in found if s.point.engine in HEADLINE]
    mapes = []
    for measure, aim in SPLIT["aim"].items():
        count, mape, bias, rank = judged(chosen, measure.lower())
        verdict = "met" if mape <= aim else "MISSED"
        print(f"{title}: {measure} {mape:.1%} over {count} points (bias {bias:+.1%}, Spearman {rank:.2f}); ", end="")
        print(f"aim {aim:.0%}: {verdict}")
        mapes.append(mape)
    verdict = "" if claim >= fmean(mapes) else ": TOO LOW"
    print(f"    mean of both {fmean(mapes):.1%}; the code claims {claim:.0%}{verdict}")


def without_data() -> None:
    print(f"\n{data.DATA} is not there. The originals are public; which files of them: bench/steptime_split.toml.")
    for repository in SPLIT["originals"]:
        print(f"  {repository}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calibrate", action="store_true", help="print the calibration on everything")
    chosen = parser.parse_args()
    python = platform.python_version()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python {python}")
    if not data.DATA.is_dir():
        without_data()
        return 0
    points = data.points()
    if chosen.calibrate:
        fits = engines(points, frozenset())
        for name, value in fits[SPLIT["shipped"]].calibration.__dict__.items():
            print(f"{name}: {value}")
        for engine, fit in fits.items():
            c = fit.calibration
            own = [round(s * 1e3, 3) for s in (c.step_seconds, c.sequence_seconds, fit.request_seconds)]
            print(f"{engine}: ms per step, sequence and request {own}, reducing {c.reducing:.2f}")
        all_of_it = [Seen(p, *predicted(fits[p.engine], p)) for p in points if p.engine in fits]
        printed("Calibrated on everything, not held out", {"nothing": all_of_it})
    shipped = Fit(CALIBRATION, 0.0)
    printed(
        "As the code has it, on every engine, without a request's own time",
        {"–": [Seen(p, *predicted(shipped, p)) for p in points]},
    )
    gpus = left_out_in_turn(points, SPLIT["leave_out"]["gpus"], lambda p: p.gpu)
    printed("Leave one GPU out", gpus)
    models = left_out_in_turn(points, SPLIT["leave_out"]["models"], lambda p: p.model)
    printed("Leave one model out", models)
    print()
    alone = {group: found for group, found in gpus.items() if "GH200" not in group}
    chips = {group: found for group, found in gpus.items() if group not in ("H100", "H200")}
    headline("GPU never measured", alone, UNMEASURED_ERROR)
    headline("chip never measured (H100, H200 and GH200 together)", chips, UNMEASURED_ERROR)
    headline("model never measured", models, ESTIMATE_ERROR)
    return 0


if __name__ == "__main__":
    sys.exit(main())
