"""What the planner is asked: models with their load, pools with price and stock, and what each configuration serves.
Frozen values, so that equal problems are equal questions; how they are solved and whence they come is unknown here."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from motley_solver.workload import Bucket, BucketLoad

Role = Literal["aggregated", "prefill", "decode"]
ShortfallKind = Literal["memory", "kv", "context", "ttft", "tpot", "dtype", "heads", "profile"]


def fingerprint(value: object) -> str:
    """Equal frozen values have equal ones, in other processes too."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Slo:
    """TTFT target = base + per 1000 input tokens; `attainment` is the fraction of requests that must meet both."""

    ttft_seconds_base: float
    ttft_seconds_per_1k_input: float
    tpot_seconds: float
    attainment: float = 0.99

    def ttft_seconds(self, input_tokens: int) -> float:
        return self.ttft_seconds_base + self.ttft_seconds_per_1k_input * input_tokens / 1000


@dataclass(frozen=True)
class Shortfall:
    """Why a configuration cannot serve a bucket within the SLO: what it would need and what there is at best.

    memory: GiB per GPU for the weights; kv, context: tokens of one request that fit in the cache or under the limit;
    ttft, tpot: the best achievable value (needed) and the target (available) in seconds; where it is within the target,
    it is the value when two requests meet, and more than two meet too often; dtype: the GPU lacks BF16 and FP8; heads:
    they do not split over so many GPUs; profile: nothing is known of the bucket (other numbers are 0)."""

    kind: ShortfallKind
    needed: float = 0.0
    available: float = 0.0


@dataclass(frozen=True)
class Capacity:
    """What one replica serves of one bucket, in requests per second: within the SLO (`rate`), and when latency does
    not matter (`best_effort`). 0.0 means not at all, and `shortfall` says why `rate` is 0."""

    bucket: Bucket
    rate: float
    best_effort: float = 0.0
    shortfall: Shortfall | None = None
    outside: float = 1.0  # part of the requests that are outside the SLO at `best_effort`


@dataclass(frozen=True)
class EngineSettings:
    """One engine has one of each, whatever the sizes of its requests."""

    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len: int


@dataclass(frozen=True)
class Configuration:
    """One way to run one model: GPU type, tensor parallelism and role with its engine settings.

    A prefill configuration hands its KV cache to a decode configuration of the same fabric and KV class; all its
    pools lie in one fabric. Its capacities are prompts per second, a decode configuration's are requests per second
    that it goes on with; an aggregated one does both."""

    key: str  # unique within the model, for example "L4-tp1"
    gpu: str
    tensor_parallel: int
    pools: tuple[str, ...]  # the pools it may run in; all of this GPU type
    capacities: tuple[Capacity, ...]
    settings: EngineSettings
    gpus: int  # GPUs that one replica takes: tensor_parallel, and 0 on a pool without GPUs (device: cpu)
    cpus: float = 0.0
    memory_gib: float = 0.0
    role: Role = "aggregated"
    kv_class: str = ""  # what must be equal for a KV cache to be understood: dtype, block layout, engine version
    estimated: bool = False
    error: float = 0.0  # relative error of the step time behind the capacities

    def capacity(self, bucket: Bucket) -> Capacity:
        """This bucket's capacity; a bucket without an entry cannot be served."""
        return self._by_bucket.get(bucket) or Capacity(bucket, 0.0, 0.0, Shortfall("profile"))

    @cached_property
    def _by_bucket(self) -> dict[Bucket, Capacity]:
        return {capacity.bucket: capacity for capacity in self.capacities}


@dataclass(frozen=True)
class ModelDemand:
    name: str  # namespace/name
    buckets: tuple[BucketLoad, ...]
    configurations: tuple[Configuration, ...]
    min_replicas: int = 0  # that can answer: aggregated, and prefill with decode as one
    max_replicas: int | None = None
    priority: int = 0  # higher is served first when not everything can be
    attainment: float = 1.0  # up to 1 − attainment of the load may be planned outside the SLO
    survivability: float = 0.0  # part of every served bucket that must still be served when any one spot pool is lost
    outputs_known: bool = True  # is the output of a request known when it is routed? Otherwise see `classes`

    @property
    def rate(self) -> float:
        return sum(load.rate for load in self.buckets)


@dataclass(frozen=True)
class Pool:
    """One way to get nodes. Nodes are bought whole."""

    name: str
    gpu: str
    gpus_per_node: int  # 0 on a pool without GPUs (device: cpu)
    cpus_per_node: float
    memory_gib_per_node: float
    price_per_node_hour: float
    max_nodes: int
    reserved_nodes: int = 0  # paid for, used or not
    interruptions_per_hour: float = 0.0  # of one node; above 0 it is a spot pool
    fabric: str = ""  # pools of one fabric can move KV caches between them; "" is none

    @property
    def spot(self) -> bool:
        return self.interruptions_per_hour > 0


@dataclass(frozen=True)
class Running:
    """Replicas that run now: starting others costs, and among plans of equal cost the one that changes least is
    preferred."""

    model: str
    pool: str
    configuration: str
    replicas: int


@dataclass(frozen=True)
class Problem:
    models: tuple[ModelDemand, ...]
    pools: tuple[Pool, ...]
    budget_per_hour: float | None = None
    headroom: float = 0.0  # 0.1 plans for 10 % more load than stated
    running: tuple[Running, ...] = ()
    start_hours: float = 0.0  # time until a started replica serves: its part of a node is paid for nothing meanwhile
    horizon_hours: float = 1.0  # time until the next plan, over which the cost of starting replicas is spread
