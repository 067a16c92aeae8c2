"""Problem → outcome, with comparisons, remembering the answers to the questions asked last: passes repeat them."""

from collections import OrderedDict

from motley_solver.comparisons import with_comparisons
from motley_solver.ilp import solve
from motley_solver.plan import Outcome
from motley_solver.problem import Problem

REMEMBERED = 4


class Solver:
    """Equal problems have equal answers, so that remembering them changes nothing but the time."""

    def __init__(self, time_limit_seconds: float) -> None:
        self._limit = time_limit_seconds
        self._answers: OrderedDict[Problem, Outcome] = OrderedDict()

    def __call__(self, problem: Problem) -> Outcome:
        if problem in self._answers:
            return self._answers[problem]
        outcome = with_comparisons(problem, solve(problem, self._limit), self._limit / 2)
        self._answers[problem] = outcome
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return outcome
