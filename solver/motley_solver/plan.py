"""What the planner answers: a plan (maybe partial), a contradiction, or no answer in time. Frozen values that a
person can read; they know nothing of how they were found."""

from dataclasses import dataclass

from motley_solver.problem import EngineSettings, Role
from motley_solver.workload import Bucket


@dataclass(frozen=True)
class Allocation:
    model: str
    pool: str
    gpu: str
    tensor_parallel: int
    role: Role
    replicas: int
    configuration: str  # Configuration.key
    settings: EngineSettings
    gpus: int  # per replica; 0 on a pool without GPUs
    estimated: bool = False


@dataclass(frozen=True)
class PoolNodes:
    pool: str
    nodes: int
    price_per_node_hour: float
    reserved: int = 0  # paid for, used or not

    @property
    def cost_per_hour(self) -> float:
        return max(self.nodes, self.reserved) * self.price_per_node_hour


@dataclass(frozen=True)
class Assignment:
    """The share of one bucket's requests that goes to one configuration (to all its replicas, in whatever pool). A
    disaggregated request has two routes, one of role prefill and one of role decode."""

    model: str
    bucket: Bucket
    configuration: str
    share: float  # of the bucket's whole rate; aggregated and prefill shares of a fully served bucket add up to 1
    within_slo: bool = True
    role: Role = "aggregated"


@dataclass(frozen=True)
class Survival:
    """Evidence for the survivability floors: routes with which the replicas outside the lost spot pool still serve the
    floor of every bucket that the plan serves, for each model that has a floor and a replica in this pool. Shares are
    of the bucket's whole rate; headroom is not needed, all else holds as for the plan's own assignment."""

    lost_pool: str
    assignment: tuple[Assignment, ...]


@dataclass(frozen=True)
class Unserved:
    model: str
    bucket: Bucket
    rate: float  # requests per second that are left out
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What the same load would cost on one GPU type alone; None with a reason where that type cannot serve it."""

    gpu: str
    cost_per_hour: float | None
    reason: str = ""
    proven: bool = True


@dataclass(frozen=True)
class ModelSummary:
    """One model's part of a plan. `within_slo` is what is served less every route outside the SLO (a disaggregated
    request has two routes). `cost_per_hour` is its share of the nodes it stands on, by GPUs (CPUs without); reserved
    nodes on which nothing stands are nobody's."""

    model: str
    replicas: int
    rate: float
    served: float
    within_slo: float
    cost_per_hour: float
    estimated: bool

    @property
    def predicted_attainment(self) -> float:
        """The planned fraction of requests inside the SLO; 1.0 without traffic."""
        return self.within_slo / self.rate if self.rate else 1.0


@dataclass(frozen=True)
class Plan:
    allocations: tuple[Allocation, ...]
    nodes: tuple[PoolNodes, ...]
    cost_per_hour: float  # the bill, reserved nodes included
    objective: float  # what was minimised: the bill, switching and risk
    lower_bound: float  # no plan that serves as much has a lower objective
    proven: bool  # nothing better exists (within the solver's tolerance)
    assignment: tuple[Assignment, ...]
    unserved: tuple[Unserved, ...]
    models: tuple[ModelSummary, ...]
    solve_seconds: float
    comparisons: tuple[Comparison, ...] = ()
    switching_per_hour: float = 0.0  # for each started replica: its part of a node × price × start / horizon hours
    risk_per_hour: float = 0.0  # for each spot node: price × interruptions per hour × start hours
    survivals: tuple[Survival, ...] = ()  # one per spot pool on which a model with a survivability floor stands

    @property
    def complete(self) -> bool:
        return not self.unserved


@dataclass(frozen=True)
class Infeasible:
    """Hard constraints contradict one another; each reason names them and says what to change."""

    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Unsolved:
    """No plan was found in the time given; the fleet should keep running as it is."""

    reason: str


Outcome = Plan | Infeasible | Unsolved
