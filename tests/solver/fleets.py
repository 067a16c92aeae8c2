"""Small problems for the planner's tests."""

from motley_solver.problem import (
    Capacity,
    Configuration,
    EngineSettings,
    ModelDemand,
    Pool,
    Problem,
    Shortfall,
)
from motley_solver.workload import Bucket, BucketLoad

SHORT, LONG = Bucket(500, 250), Bucket(8000, 500)
SETTINGS = EngineSettings(2048, 256, 16384)
UNKNOWN = Shortfall("tpot", 0.08, 0.04)


def pool(name: str, price: float, max_nodes: int = 10, gpus: int = 1) -> Pool:
    """A pool whose GPU type has its name."""
    return Pool(name, name, gpus, 16.0 * max(gpus, 1), 64.0 * max(gpus, 1), price, max_nodes)


def configuration(
    gpu: str,
    rates: dict[Bucket, float],
    tensor_parallel: int = 1,
    pools: tuple[str, ...] = (),
    best_effort: dict[Bucket, float] | None = None,
    cpus: float = 0.0,
    memory_gib: float = 0.0,
    gpus: int | None = None,
) -> Configuration:
    slow = best_effort or {}
    return Configuration(
        key=f"{gpu}-tp{tensor_parallel}",
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
    )


def model(
    name: str,
    rates: dict[Bucket, float],
    *configurations: Configuration,
    min_replicas: int = 0,
    max_replicas: int | None = None,
    priority: int = 0,
    attainment: float = 1.0,
) -> ModelDemand:
    loads = tuple(BucketLoad(bucket, rate) for bucket, rate in rates.items())
    return ModelDemand(f"test/{name}", loads, configurations, min_replicas, max_replicas, priority, attainment)


def problem(models: list[ModelDemand], pools: list[Pool], budget: float | None = None) -> Problem:
    return Problem(tuple(models), tuple(pools), budget)
