"""Problem → outcome, with comparisons, remembering the answers to the questions asked last: where no plan came of one,
the next passes repeat it."""

import time
from collections import OrderedDict
from collections.abc import Callable

from motley_operator import metrics
from motley_solver.comparisons import with_comparisons
from motley_solver.ilp import solve
from motley_solver.plan import Outcome, Unsolved
from motley_solver.problem import Problem

REMEMBERED = 2
UNSOLVED_SECONDS = 300.0
"""A problem that was not solved in time is tried again after this long: the machine may have been busy."""


class Solver:
    """Equal problems have equal answers, so that remembering them changes nothing but the time."""

    def __init__(self, time_limit_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = time_limit_seconds, clock
        self._answers: OrderedDict[Problem, tuple[Outcome, float]] = OrderedDict()

    def __call__(self, problem: Problem) -> Outcome:
        if problem in self._answers:
            outcome, since = self._answers[problem]
            if not isinstance(outcome, Unsolved) or self._clock() - since < UNSOLVED_SECONDS:
                return outcome
        with metrics.SOLVE_SECONDS.time():
            outcome = solve(problem, self._limit)
        outcome = with_comparisons(problem, outcome, self._limit / 2)
        self._answers[problem] = outcome, self._clock()
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return outcome
