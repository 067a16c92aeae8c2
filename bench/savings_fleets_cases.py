"""The cases of the benchmark of fleets' savings: a problem for each setting and rate, and the replay of a fleet."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from bench.fleet_replay import Fleet, attainment, group_of, shares_by_input
from bench.savings import WARM_UP, requests_of
from bench.savings_data import SLOS, TRACES, WORKLOADS, Traces, bucket_of, histogram_of, lengths
from bench.savings_fleets_data import (
    BEYOND,
    FLEETS,
    GPU_PRICES,
    INSTANCES,
    LIMITED,
    LIMITED_FLEET,
    MEASURED_SIZES,
    MEASURED_SLOS,
    PRECISIONS,
    RATES,
    RENTED,
    SERVED,
    TENSOR_PARALLEL,
    UNLIMITED,
    Part,
    measured,
)
from motley_solver.capacity import Engine, Question, configuration_of, engine_of, evaluations
from motley_solver.hardware import CATALOGUE, DType
from motley_solver.plan import Plan
from motley_solver.problem import Configuration, ModelDemand, Pool, Problem
from motley_solver.steptime import roofline
from motley_solver.workload import Bucket, BucketLoad, loads_of


@dataclass(frozen=True)
class Data:
    folder: Path

    @property
    def traces(self) -> Traces:
        return _traces(self.folder)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Of all traces: capacities are asked for once."""
        return tuple(sorted({bucket_of(*size) for sizes in self.traces.values() for size in sizes}))


@cache
def _traces(folder: Path) -> Traces:
    return {name: lengths(folder / "traces" / file, *columns) for name, (file, *columns) in TRACES.items()}


@dataclass(frozen=True)
class Case:
    """One table: a problem for each rate."""

    title: str
    problem: Callable[[float], Problem]
    rates: tuple[int, ...] = RATES
    replay: Callable[[Problem, Plan, float], float] | None = None  # the least attainment of a model


def one_model(data: Data) -> Iterator[Case]:
    for model in ("Llama-2-7b", "Llama-3.1-8B"):
        for workload in WORKLOADS:
            for slo in SLOS:
                yield _case(data, f"{workload}, {slo}, {model}", (Part(model, workload, 1.0),), slo)


def fleets(data: Data) -> Iterator[Case]:
    for name, fleet in FLEETS.items():
        for slo in SLOS:
            case = _case(data, f"{name}, {slo}", fleet, slo)
            replay = _replay(data, fleet, slo) if fleet == FLEETS[LIMITED_FLEET] else None
            yield replace(case, rates=RATES + BEYOND, replay=replay)


def limited_stock(data: Data) -> Iterator[Case]:
    for slo in SLOS:
        case = _case(data, f"{LIMITED_FLEET}, little stock, {slo}", FLEETS[LIMITED_FLEET], slo, limited=True)
        yield replace(case, rates=RATES + BEYOND)


def measured_rates(data: Data) -> Iterator[Case]:
    file = data.folder / "derived" / "silicon_agg_points.csv"
    for precisions in PRECISIONS:
        for name, node in RENTED.items():
            for slo in MEASURED_SLOS:
                ways, pools = _measured(file, slo, precisions, node)
                title = f"measured, {precisions}, {name}, {slo}"
                yield Case(title, partial(_equally, ways, pools))


PARTS: dict[str, Callable[[Data], Iterator[Case]]] = {
    "models": one_model,
    "fleets": fleets,
    "stock": limited_stock,
    "measured": measured_rates,
}


def _case(data: Data, title: str, fleet: tuple[Part, ...], slo: str, limited: bool = False) -> Case:
    pools = tuple(
        Pool(name, i.gpu, i.gpus, 0.0, 0.0, i.price, LIMITED[i.gpus] if limited else UNLIMITED)
        for name, i in INSTANCES.items()
    )
    ways = {part.model: configurations(part.model, slo, data.buckets) for part in fleet}

    def problem(rate: float) -> Problem:
        models = (
            ModelDemand(p.model, _loads(data, p, rate), ways[p.model], outputs_known=False)  # as the operator plans
            for p in fleet
        )
        return Problem(tuple(models), pools)

    return Case(title, problem)


def _loads(data: Data, part: Part, rate: float) -> tuple[BucketLoad, ...]:
    return loads_of(histogram_of(WORKLOADS[part.workload], data.traces).items(), rate * part.part)


def configurations(model: str, slo: str, buckets: tuple[Bucket, ...]) -> tuple[Configuration, ...]:
    """Every GPU type and tensor parallelism on which the model runs, in the instances that have as many GPUs."""
    loads = tuple(BucketLoad(bucket, 1.0) for bucket in buckets)
    engines = {(gpu, tp): e for gpu in _types() for tp in TENSOR_PARALLEL if (e := engine(gpu, tp, model))}
    evaluations([Question(engine, SLOS[slo], buckets) for engine in engines.values()])  # all at once
    return tuple(
        configuration_of(_key(gpu, tp), gpu, tp, pools, engine, SLOS[slo], loads, gpus=tp)
        for (gpu, tp), engine in engines.items()
        if (pools := tuple(name for name, i in INSTANCES.items() if i.gpu == gpu and i.gpus >= tp))
    )


def _types() -> tuple[str, ...]:
    return tuple(dict.fromkeys(instance.gpu for instance in INSTANCES.values()))


def _key(gpu: str, tensor_parallel: int) -> str:
    return f"{gpu}-tp{tensor_parallel}"


def engine(gpu: str, tensor_parallel: int, model: str) -> Engine | None:
    """None where the weights do not fit or cannot run."""
    served, sheet = SERVED[model], CATALOGUE[gpu]
    cache_dtype: DType = "bfloat16" if sheet.bf16 else "float16"
    weights = served.weights if served.weights == "fp8" else cache_dtype
    step_time = roofline(served.shape, sheet, tensor_parallel, weights, cache_dtype)
    found = step_time and engine_of(served.shape, sheet, tensor_parallel, weights, cache_dtype, step_time)
    return found if isinstance(found, Engine) else None


def _measured(
    file: Path, slo: str, precisions: str, node: int | None
) -> tuple[tuple[Configuration, ...], tuple[Pool, ...]]:
    loads, any_slo = tuple(BucketLoad(bucket, 1.0) for bucket in MEASURED_SIZES), SLOS["loose"]
    pools, found = {}, []
    for (gpu, tp), table in measured(file, slo, precisions).items():
        gpus = node or tp
        name = f"{gpu}×{gpus}"
        pools[name] = Pool(name, gpu, gpus, 0.0, 0.0, GPU_PRICES[gpu] * gpus, UNLIMITED)
        found.append(configuration_of(_key(gpu, tp), gpu, tp, (name,), table, any_slo, loads, gpus=tp))
    return tuple(found), tuple(pools.values())


def _equally(ways: tuple[Configuration, ...], pools: tuple[Pool, ...], rate: float) -> Problem:
    loads = loads_of(((bucket, 1.0) for bucket in MEASURED_SIZES), rate)
    return Problem((ModelDemand("Llama-3.1-70B", loads, ways),), pools)


# --- the replay ---


def _replay(data: Data, fleet: tuple[Part, ...], slo: str) -> Callable[[Problem, Plan, float], float]:
    """The least attainment of the fleet's models, each replayed on its own replicas with its trace's lengths."""

    def least(problem: Problem, plan: Plan, rate: float) -> float:
        return min(_model_attained(data, part, problem, plan, rate * part.part, slo) for part in fleet)

    return least


def _model_attained(data: Data, part: Part, problem: Problem, plan: Plan, rate: float, slo: str) -> float:
    [demand] = [model for model in problem.models if model.name == part.model]
    replicas = Counter[str]()
    for one in plan.allocations:
        if one.model == part.model:
            replicas[one.configuration] += one.replicas
    groups = {}
    for c in demand.configurations:
        if replicas[c.key]:
            has = engine(c.gpu, c.tensor_parallel, part.model)
            assert has is not None
            groups[c.key] = group_of(has, c.settings, replicas[c.key])
    mine = [route for route in plan.assignment if route.model == part.model]
    requests = requests_of(WORKLOADS[part.workload], data.traces, rate)
    return attainment(Fleet(groups, shares_by_input(mine, demand.buckets)), requests, SLOS[slo], WARM_UP)
