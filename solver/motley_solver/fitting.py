"""Step times fitted to measured iterations: least squares of relative errors, no coefficient below zero. It does not
know where the iterations were measured, nor how."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from motley_solver.steptime import StepTime

Array = npt.NDArray[np.float64]

FOLDS = 5
TURNS = 20
NEGLIGIBLE = 1e-12  # of the columns' own scale: a slack below it is rounding


class Measurement(NamedTuple):
    """One engine iteration and how long it took."""

    prefill_tokens: float
    prefill_context: float  # earlier tokens that each of them attends to, in the mean
    decode_seqs: float
    context_tokens: float  # that the decoding sequences read, all together
    seconds: float


def non_negative_least_squares(matrix: Array, target: Array) -> Array:
    """x ≥ 0 that minimises ‖matrix·x − target‖, by active sets (Lawson and Hanson, Solving Least Squares Problems)."""
    scale = np.sqrt((matrix**2).sum(axis=0))
    scale[scale == 0] = 1.0
    scaled = matrix / scale
    enough = NEGLIGIBLE * max(1.0, float(np.abs(scaled.T @ target).max(initial=0.0)))
    x = np.zeros(matrix.shape[1])
    free = np.zeros(matrix.shape[1], dtype=bool)
    for _ in range(10 * matrix.shape[1]):
        slack = np.where(free, 0.0, scaled.T @ (target - scaled @ x))
        if slack.max(initial=0.0) <= enough:
            break
        free[int(slack.argmax())] = True
        x = _feasible(scaled, target, x, free)
    return np.asarray(x / scale)


def _feasible(matrix: Array, target: Array, x: Array, free: npt.NDArray[np.bool_]) -> Array:
    """The least squares of the free columns, having fixed at zero those that would turn negative; changes `free`."""
    while True:
        wanted = np.zeros_like(x)
        wanted[free] = np.linalg.lstsq(matrix[:, free], target, rcond=None)[0]
        falling = free & (wanted <= 0)
        if not falling.any():
            return wanted
        part = float((x[falling] / np.maximum(x[falling] - wanted[falling], NEGLIGIBLE)).min())
        x = x + part * (wanted - x)
        free &= (x > 0) & ~(falling & (x <= NEGLIGIBLE))
        x = np.where(free, x, 0.0)


def _turned(rows: Array, turn: float) -> tuple[float, Array]:
    """(squared relative error, coefficients); arithmetic of fewer tokens than where the roof turns is hidden."""
    prefill, context, decodes, read, seconds = rows.T
    terms = (np.ones_like(prefill), prefill, prefill * context, decodes, read, np.maximum(prefill + decodes, turn))
    matrix = np.stack(terms, axis=1) / seconds[:, None]
    found = non_negative_least_squares(matrix, np.ones(len(rows)))
    return float(((matrix @ found - 1) ** 2).sum()), found


def _fit(rows: Array) -> StepTime:
    """Where the roof turns is found by trying: at quantiles of the tokens, then between the neighbours of the best."""
    turns = np.unique(np.quantile(rows[:, 0] + rows[:, 2], np.linspace(0, 0.95, TURNS)))
    best = int(np.argmin([_turned(rows, turn)[0] for turn in turns]))
    finer = np.linspace(turns[max(0, best - 1)], turns[min(best + 1, len(turns) - 1)], TURNS)
    turn = float(min(finer, key=lambda turn: _turned(rows, turn)[0]))
    base, per_prefill_token, per_prefill_token_context, per_decode_sequence, per_context_token, per_token = map(
        float, _turned(rows, turn)[1]
    )
    return StepTime(
        base=max(base, 1e-9),
        per_prefill_token=max(per_prefill_token, 1e-12),
        per_prefill_token_context=per_prefill_token_context,
        per_decode_sequence=per_decode_sequence,
        per_context_token=per_context_token,
        weights=per_token * turn,
        per_token=per_token,
        source="Measured",
    )


def _errors(step: StepTime, rows: Array) -> Array:
    predicted = step.seconds(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3])  # type: ignore[arg-type]
    return np.asarray(np.abs(predicted / rows[:, 4] - 1))


def fitted(measurements: Sequence[Measurement]) -> StepTime:
    """Coefficients that minimise the squared relative error, none negative. `error` is the mean absolute relative error
    over iterations left out of the fit, every fifth in turn. ValueError where there are too few or senseless ones."""
    rows = np.array(measurements, dtype=float).reshape(-1, 5)
    if len(rows) < 2 * FOLDS:
        raise ValueError(f"measurements: at least {2 * FOLDS} iterations are needed, not {len(rows)}")
    if not np.isfinite(rows).all() or (rows < 0).any() or (rows[:, 4] <= 0).any():
        raise ValueError("measurements: numbers ≥ 0 with seconds above 0 are needed")
    fold = np.arange(len(rows)) % FOLDS
    errors = [_errors(_fit(rows[fold != left_out]), rows[fold == left_out]) for left_out in range(FOLDS)]
    step = _fit(rows)
    return replace(step, error=float(np.concatenate(errors).mean()))
