"""Small problems for the planner's tests."""

from motley_solver.problem import (
    Capacity,
    Configuration,
    EngineSettings,
    ModelDemand,
    Pool,
    Problem,
    Role,
    Shortfall,
)
from motley_solver.workload import Bucket, BucketLoad

SHORT, LONG = Bucket(500, 250), Bucket(8000, 500)
SETTINGS = EngineSettings(2048, 256, 16384)
UNKNOWN = Shortfall("tpot", 0.08, 0.04)


def pool(
    name: str,
    price: float,
    max_nodes: int = 10,
    gpus: int = 1,
    gpu: str = "",
    reserved: int = 0,
    interruptions: float = 0.0,
    fabric: str = "",
) -> Pool:
    """A pool whose GPU type has its name, unless said otherwise."""
    cpus, memory = 16.0 * max(gpus, 1), 64.0 * max(gpus, 1)
    return Pool(name, gpu or name, gpus, cpus, memory, price, max_nodes, reserved, interruptions, fabric)


def configuration(
    gpu: str,
    rates: dict[Bucket, float],
    tensor_parallel: int = 1,
    pools: tuple[str, ...] = (),
    best_effort: dict[Bucket, float] | None = None,
    cpus: float = 0.0,
    memory_gib: float = 0.0,
    gpus: int | None = None,
    role: Role = "aggregated",
    kv_class: str = "",
) -> Configuration:
    slow = best_effort or {}
    return Configuration(
        key=f"{gpu}-tp{tensor_parallel}" + ("" if role == "aggregated" else f"-{role}{kv_class}"),
        gpu=gpu,
        tensor_parallel=tensor_parallel,
        pools=pools or (gpu,),
        capacities=tuple(
            Capacity(bucket, rate, slow.get(bucket, rate), None if rate else UNKNOWN) for bucket, rate in rates.items()
        ),
        settings=SETTINGS,
        gpus=tensor_parallel if gpus is None else gpus,
        cpus=cpus,
        memory_gib=memory_gib,
        role=role,
        kv_class=kv_class,
    )


def model(
    name: str,
    rates: dict[Bucket, float],
    *configurations: Configuration,
    min_replicas: int = 0,
    max_replicas: int | None = None,
    priority: int = 0,
    attainment: float = 1.0,
    survivability: float = 0.0,
) -> ModelDemand:
    loads = tuple(BucketLoad(bucket, rate) for bucket, rate in rates.items())
    limits = (min_replicas, max_replicas, priority, attainment, survivability)
    return ModelDemand(f"test/{name}", loads, configurations, *limits)


def problem(models: list[ModelDemand], pools: list[Pool], budget: float | None = None) -> Problem:
    return Problem(tuple(models), tuple(pools), budget)
