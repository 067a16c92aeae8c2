"""One mixed-integer program: variables, linear rows, an objective, and HiGHS's answer with a proven bound.
The only door to PuLP; it knows nothing of fleets."""

from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Literal, TypeAlias

import pulp

LE, EQ, GE = pulp.LpConstraintLE, pulp.LpConstraintEQ, pulp.LpConstraintGE

Variable: TypeAlias = pulp.LpVariable
Row: TypeAlias = pulp.LpConstraint
Terms = list[tuple[Variable, float]]  # a linear expression; a variable may occur more than once

_TOLERANCE = 1e-8  # HiGHS's own 1e-6 loses small loads; at 1e-9, its least coefficient, it proves what is not so
_FEW = 24  # whole variables, up to which a program is solved lean
_LEAN = {  # for small programs: what HiGHS tries on large ones costs more than it saves here (all but its feasibility
    # jump: without a first solution it has not ended, nor kept its time limit, on counts of millions)
    "mip_detect_symmetry": False,
    "mip_heuristic_effort": 0.0,
    "mip_heuristic_run_rens": False,
    "mip_heuristic_run_rins": False,
    "mip_heuristic_run_root_reduced_cost": False,
}


@dataclass(frozen=True)
class Answer:
    """`feasible`: a limit was reached with a solution in hand. `bound`: no solution has a lower objective."""

    status: Literal["optimal", "feasible", "infeasible", "unsolved"]
    objective: float = 0.0
    bound: float = 0.0

    @property
    def found(self) -> bool:
        return self.status in ("optimal", "feasible")


class _InTime(pulp.HiGHS):  # type: ignore[misc]  # PuLP gives it no type
    """Its time limit is a moment: building the program counts."""

    def __init__(self, deadline: float, **options: object) -> None:
        super().__init__(**options)
        self.deadline = deadline

    def callSolver(self, lp: pulp.LpProblem) -> None:
        lp.solverModel.setOptionValue("time_limit", max(0.05, self.deadline - monotonic()))
        super().callSolver(lp)


class Program:
    """Variables are at least 0. After `minimise` they carry values, and after a relaxed one rows carry duals."""

    def __init__(self) -> None:
        self._lp = pulp.LpProblem("fleet", pulp.LpMinimize)
        self._count = 0  # PuLP wants a name for each variable
        self._whole = 0  # variables

    def variable(self, upper: float | None, whole: bool) -> Variable:
        self._count += 1
        self._whole += whole
        kind = pulp.LpInteger if whole else pulp.LpContinuous
        return self._lp.add_variable(f"x{self._count}", 0, upper, kind)

    def fix(self, variable: Variable, at: float) -> None:
        variable.lowBound = variable.upBound = at

    def constant(self) -> Variable:
        """A variable that is 1."""
        one = self.variable(1, whole=False)
        self.fix(one, 1)
        return one

    def require(self, terms: Iterable[tuple[Variable, float]], sense: int, bound: float) -> Row:
        row = pulp.LpConstraint(_summed(terms), sense, None, bound)
        self._lp.addConstraint(row)
        return row

    def minimise(
        self,
        terms: Terms,
        deadline: float,
        gap: float,
        whole: bool = True,
        lean: bool = False,
        tolerance: float = _TOLERANCE,
    ) -> Answer:
        """`gap` is relative; relaxed where not `whole`. `tolerance` is that of a row and of a whole number."""
        self._lp.setObjective(_summed(terms))
        self._lp.solve(
            _InTime(
                deadline,
                mip=whole,
                msg=False,
                gapRel=gap,
                gapAbs=1e-9,
                threads=1,
                mip_allow_restart=False,  # HiGHS 1.15.1 may come out of a restart with a false proof
                log_to_console=False,
                primal_feasibility_tolerance=tolerance,
                mip_feasibility_tolerance=tolerance,
                **(_LEAN if lean or self._whole <= _FEW else {}),
            )
        )
        if self._lp.status == pulp.LpStatusInfeasible:
            return Answer("infeasible")
        optimal = self._lp.sol_status == pulp.LpSolutionOptimal
        if not optimal and (self._lp.sol_status != pulp.LpSolutionIntegerFeasible or not whole):
            return Answer("unsolved")
        objective = value(terms)
        bound = float(self._lp.solverModel.getInfo().mip_dual_bound)
        if abs(bound) > 1e30:  # nothing whole was left to decide
            bound = objective
        return Answer("optimal" if optimal else "feasible", objective, bound)

    def again(self, objective: Variable, changed: Iterable[Variable], deadline: float) -> Answer:
        """The relaxed program that was solved last, with other bounds of some variables, from where it ended. Only
        these variables and the one that is minimised carry values."""
        mine = [variable for variable in changed if hasattr(variable, "index")]  # PuLP leaves out those in no row
        highs, solver = self._lp.solverModel, self._lp.solver
        for variable in mine:
            highs.changeColBounds(variable.index, variable.lowBound, variable.upBound)
        solver.deadline = deadline
        solver.callSolver(self._lp)
        if highs.modelStatusToString(highs.getModelStatus()) != "Optimal":
            return Answer("unsolved")
        found = highs.getSolution()
        values, duals = found.col_value, found.col_dual
        for variable in (objective, *mine):
            variable.varValue, variable.dj = values[variable.index], duals[variable.index]
        return Answer("optimal", objective.varValue, objective.varValue)


def _summed(terms: Iterable[tuple[Variable, float]]) -> pulp.LpAffineExpression:
    sums: dict[Variable, float] = {}
    for variable, coefficient in terms:
        sums[variable] = sums.get(variable, 0.0) + coefficient
    return pulp.LpAffineExpression(sums)


def value(terms: Iterable[tuple[Variable, float]]) -> float:
    return float(sum(coefficient * (variable.varValue or 0.0) for variable, coefficient in terms))


def within(deadline: float, part: float) -> float:
    """The moment at which this part of the time that is left is over."""
    now = monotonic()
    return now + max(0.0, deadline - now) * part
