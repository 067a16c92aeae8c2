"""Step times fitted to measured iterations: coefficients come back, none is negative, the error is an honest one."""

from itertools import combinations

import numpy as np
import pytest

from motley_solver.fitting import Measurement, fitted, non_negative_least_squares
from motley_solver.hardware import ModelShape, gpu_named
from motley_solver.steptime import StepTime, roofline


def iterations(step: StepTime, count: int, noise: float = 0.0) -> list[Measurement]:
    """What an engine with that step time would show in a sweep, each off by a relative error."""
    random = np.random.default_rng(7)
    found = []
    for _ in range(count):
        prefill = float(random.choice([0, 0, 64, 256, 512, 2048, 8192]))
        decodes = float(random.integers(0 if prefill else 1, 200))
        work = (
            prefill,
            prefill / 2 + float(random.integers(0, 4000)),
            decodes,
            decodes * float(random.integers(50, 6000)),
        )
        found.append(Measurement(*work, seconds=step.seconds(*work) * float(np.exp(noise * random.standard_normal()))))
    return found


LINEAR = StepTime(0.012, 8e-5, 2e-9, 3e-5, 4e-8)
ROOFED = roofline(ModelShape(32, 4096, 32, 8, 128, 14336, 128256), gpu_named("L4"), 1, "bfloat16", "bfloat16")


@pytest.mark.parametrize("true", [LINEAR, ROOFED], ids=["linear", "with a roof"])
def test_exact_measurements_give_the_step_time_back(true: StepTime) -> None:
    step = fitted(iterations(true, 300))
    assert step.source == "Measured"
    assert step.error < 0.01
    for measurement in iterations(true, 50):
        assert step.seconds(*measurement[:4]) == pytest.approx(measurement.seconds, rel=0.03)


def test_the_coefficients_of_a_linear_engine_come_back() -> None:
    step = fitted(iterations(LINEAR, 300))
    assert step.base + step.weights == pytest.approx(LINEAR.base, rel=0.01)
    assert step.per_prefill_token + step.per_token == pytest.approx(LINEAR.per_prefill_token, rel=0.02)
    assert step.per_prefill_token_context == pytest.approx(LINEAR.per_prefill_token_context, rel=0.02)
    assert step.per_context_token == pytest.approx(LINEAR.per_context_token, rel=0.02)


@pytest.mark.parametrize("noise", [0.03, 0.10])
def test_the_error_is_that_on_iterations_not_seen(noise: float) -> None:
    expected = noise * (2 / np.pi) ** 0.5  # of a normal deviation
    assert fitted(iterations(LINEAR, 400, noise)).error == pytest.approx(expected, rel=0.25)


def test_no_coefficient_is_negative_whatever_the_noise() -> None:
    for count in (10, 12, 40):
        fitted(iterations(LINEAR, count, noise=0.5))  # a StepTime refuses negative ones itself


def test_engines_measured_without_prefill_or_without_decoding_are_fitted() -> None:
    decoding = [Measurement(0, 0, n, 1000 * n, 0.01 + 1e-4 * n) for n in range(1, 30)]
    assert fitted(decoding).seconds(0, 0, 20, 20_000) == pytest.approx(0.012, rel=0.01)
    prefill = [Measurement(n, n / 2, 0, 0, 0.01 + 1e-4 * n) for n in range(1, 3000, 100)]
    assert fitted(prefill).seconds(1000, 500, 0, 0) == pytest.approx(0.11, rel=0.01)


def test_more_of_the_same_measurements_change_nothing() -> None:
    once = iterations(LINEAR, 60, noise=0.05)
    assert fitted(once * 5).seconds(512, 256, 64, 64_000) == pytest.approx(fitted(once).seconds(512, 256, 64, 64_000))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("column", range(5))
def test_senseless_measurements_are_refused(bad: float, column: int) -> None:
    rows = [list(measurement) for measurement in iterations(LINEAR, 20)]
    rows[3][column] = bad
    with pytest.raises(ValueError, match="measurements"):
        fitted([Measurement(*row) for row in rows])


def test_too_few_measurements_and_iterations_that_take_no_time_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        fitted(iterations(LINEAR, 9))
    with pytest.raises(ValueError, match="seconds above 0"):
        fitted([Measurement(1, 1, 1, 1, 0.0)] * 20)


@pytest.mark.parametrize("seed", range(20))
def test_non_negative_least_squares_find_the_best_of_all_subsets(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((12, 5)) * 10.0 ** random.integers(-6, 3, 5)
    target = random.standard_normal(12)
    found = non_negative_least_squares(matrix, target)
    assert (found >= 0).all()
    best = float(target @ target)
    for size in range(1, 6):
        for chosen in map(list, combinations(range(5), size)):
            part = np.linalg.lstsq(matrix[:, chosen], target, rcond=None)[0]
            if (part >= 0).all():
                best = min(best, float(((matrix[:, chosen] @ part - target) ** 2).sum()))
    assert float(((matrix @ found - target) ** 2).sum()) == pytest.approx(best, rel=1e-6)


def test_non_negative_least_squares_bear_columns_of_zeros_and_equal_ones() -> None:
    matrix = np.array([[0.0, 1.0, 1.0], [0.0, 2.0, 2.0], [0.0, 3.0, 3.0]])
    found = non_negative_least_squares(matrix, np.array([2.0, 4.0, 6.0]))
    assert found[0] == 0
    assert found.sum() == pytest.approx(2.0)
