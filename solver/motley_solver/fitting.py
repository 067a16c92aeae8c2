"""Step times fitted to measured iterations. Least squares of relative errors with coefficients of at least zero; it knows
numbers only, neither where they were measured nor how."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from motley_solver.steptime import StepTime

Array = npt.NDArray[np.float64]

FOLDS = 5
NEGLIGIBLE = 1e-12  # of the columns' own scale: a slack below it is rounding


class Measurement(NamedTuple):
    """One engine iteration and how long it took."""

    prefill_tokens: float
    prefill_context: float  # earlier tokens that each of them attends to, in the mean
    decode_seqs: float
    context_tokens: float  # that the decoding sequences read, all together
    seconds: float


def non_negative_least_squares(matrix: Array, target: Array) -> Array:
    """x ≥ 0 that minimises ‖matrix·x − target‖: active sets (Lawson and Hanson, Solving Least Squares Problems, ch. 23)."""
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
    return x / scale


def _feasible(matrix: Array, target: Array, x: Array, free: npt.NDArray[np.bool_]) -> Array:
    """The least squares of the free columns, having fixed at zero those that would turn negative; changes `free`."""
    while True:
        wanted = np.zeros_like(x)
        wanted[free] = np.linalg.lstsq(matrix[:, free], target, rcond=None)[0]
        falling = free & (wanted <= 0)
        if not falling.any():
            return wanted
        part = float((x[falling] / (x[falling] - wanted[falling])).min())
        x = x + part * (wanted - x)
        free &= (x > 0) & ~(falling & (x <= NEGLIGIBLE))
        x = np.where(free, x, 0.0)


def _columns(rows: Array) -> Array:
    """base, per_prefill_token, per_prefill_token_context, per_decode_sequence, per_context_token, weights, per_token where
    the streaming of weights is longer (`weights`) and where the arithmetic is (`per_token`)"""
    prefill, context, decodes, read = rows.T[:4]
    return np.stack([np.ones_like(prefill), prefill, prefill * context, decodes, read], axis=1)


def _fit(rows: Array) -> StepTime:
    """The roof is found by trying where it turns: below a number of tokens their arithmetic is hidden, above it counts."""
    seconds, tokens = rows[:, 4], rows[:, 0] + rows[:, 2]
    linear = _columns(rows)
    best: tuple[float, Array, float] | None = None
    for turn in [0.0, *np.unique(np.quantile(tokens, np.linspace(0.05, 0.95, 19)))]:
        roof = np.maximum(tokens, turn)[:, None] if turn else np.zeros((len(rows), 0))
        matrix = np.hstack([linear, roof]) / seconds[:, None]
        found = non_negative_least_squares(matrix, np.ones(len(rows)))
        residual = float(((matrix @ found - 1) ** 2).sum())
        if best is None or residual < best[0] * (1 - 1e-6):
            best = residual, found, float(turn)
    assert best is not None
    _, found, turn = best
    base, prefill, prefill_context, decode, read = map(float, found[:5])
    per_token = float(found[5]) if turn else 0.0
    return StepTime(
        base=max(base, 1e-9),
        per_prefill_token=prefill if prefill + per_token > 0 else 1e-12,
        per_prefill_token_context=prefill_context,
        per_decode_sequence=decode,
        per_context_token=read,
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
    return StepTime(**{**step.__dict__, "error": float(np.concatenate(errors).mean())})
