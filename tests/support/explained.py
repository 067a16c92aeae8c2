"""Small fleets whose explanations a person has read, each with one thing to explain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from motley_solver.problem import Capacity, Configuration, ModelDemand, Pool, Problem, Role, Shortfall, Slo
from motley_solver.whatif import Target, with_models
from motley_solver.workload import Bucket, BucketLoad
from tests.solver.fleets import LONG, SETTINGS, SHORT, pool

SLO = Slo(ttft_seconds_base=1.0, ttft_seconds_per_1k_input=0.25, tpot_seconds=0.05)
_Rates = Mapping[Bucket, tuple[float, float]]


@dataclass(frozen=True)
class Explained:
    problem: Problem

    def loosened(self, model: str, target: Target, factor: float) -> Problem:
        """TPOT limits everything: rates follow it up to what latency does not limit; sizes that miss it by less than
        the factor are served at a tenth of that."""
        return with_models(self.problem, lambda m: _with(m, factor), {model}) if target == "tpot" else self.problem

    @property
    def slos(self) -> dict[str, Slo]:
        return {model.name: SLO for model in self.problem.models}


def _with(model: ModelDemand, factor: float) -> ModelDemand:
    def faster(c: Capacity) -> Capacity:
        short = c.shortfall
        if short is not None and short.kind == "tpot" and short.needed <= short.available * factor:
            return replace(c, rate=c.best_effort / 10, shortfall=None)
        return replace(c, rate=min(c.best_effort, c.rate * factor))

    configurations = tuple(
        replace(one, capacities=tuple(faster(c) for c in one.capacities)) for one in model.configurations
    )
    return replace(model, configurations=configurations)


def on(
    gpu: str,
    rates: _Rates,
    shortfall: Shortfall | None = None,
    role: Role = "aggregated",
    pools: tuple[str, ...] = (),
    kv_class: str = "",
) -> Configuration:
    """`rates`: within the SLO, and whatever the latency, of one replica on one GPU."""
    capacities = tuple(
        Capacity(bucket, rate, most, None if rate else shortfall) for bucket, (rate, most) in rates.items()
    )
    key = gpu if role == "aggregated" else f"{gpu}-{role}"
    return Configuration(key, gpu, 1, pools or (gpu.lower(),), capacities, SETTINGS, 1, role=role, kv_class=kv_class)


def demand(name: str, rates: dict[Bucket, float], *ways: Configuration, priority: int = 0) -> ModelDemand:
    return ModelDemand(f"team/{name}", tuple(BucketLoad(*one) for one in rates.items()), ways, priority=priority)


def stock(gpu: str, price: float, most: int, gpus: int = 1) -> Pool:
    return replace(pool(gpu, price, most, gpus), name=gpu.lower())


L4 = on("L4", {SHORT: (2.0, 4.0), LONG: (0.0, 0.5)}, Shortfall("tpot", 0.08, 0.05))
A100 = on("A100", {SHORT: (9.0, 14.0), LONG: (1.2, 1.5)})
H100 = on("H100", {SHORT: (18.0, 18.0), LONG: (3.0, 3.0)})


def complete() -> Problem:
    chat = demand("chat", {SHORT: 12.49, LONG: 1.0}, L4, A100, H100)
    return Problem((chat,), (stock("L4", 0.8, 10), stock("A100", 3.7, 4), stock("H100", 9.0, 2)))


def scarce_stock() -> Problem:
    chat = demand("chat", {SHORT: 12.0, LONG: 1.0}, L4, A100, H100)
    code = demand("code", {LONG: 1.0}, A100, H100)
    return Problem((chat, code), (stock("L4", 0.8, 10), stock("A100", 3.7, 1), stock("H100", 9.0, 4)))


def no_stock_left() -> Problem:
    chat = demand("chat", {SHORT: 12.0, LONG: 4.0}, L4, A100)
    return Problem((chat,), (stock("L4", 0.8, 10), stock("A100", 3.7, 2)))


def small_budget() -> Problem:
    chat = demand("chat", {SHORT: 20.0, LONG: 2.0}, L4, A100)
    return Problem((chat,), (stock("L4", 0.8, 20), stock("A100", 3.7, 4)), budget_per_hour=10.0)


def tight_slo() -> Problem:
    slow = on("A10G", {SHORT: (3.0, 6.0), LONG: (0.0, 1.0)}, Shortfall("tpot", 0.07, 0.05))
    chat = demand("chat", {SHORT: 6.0, LONG: 0.5}, L4, slow)
    return Problem((chat,), (stock("L4", 0.8, 10), stock("A10G", 1.0, 20)))


def two_priorities() -> Problem:
    first = demand("assistant", {LONG: 2.0}, A100, priority=10)
    second = demand("batch", {LONG: 1.5}, A100)
    return Problem((first, second), (stock("A100", 3.7, 2),))


def spot() -> Problem:
    """Spot nodes are a third of the price, and half of the load must outlive them."""
    both = replace(A100, pools=("a100", "a100-spot"))
    chat = replace(demand("chat", {SHORT: 36.0}, both), survivability=0.5)
    cheap = replace(stock("A100", 1.2, 8), name="a100-spot", interruptions_per_hour=0.05)
    return Problem((chat,), (stock("A100", 3.7, 8), cheap), start_hours=0.1)


def disaggregated() -> Problem:
    """An H100 prefills well and an L40S decodes cheaply; one fabric joins them."""
    ways = (
        on("H100", {LONG: (2.0, 3.0)}),
        on("L40S", {LONG: (0.4, 0.6)}),
        on("H100", {LONG: (8.0, 8.0)}, role="prefill", kv_class="bf16"),
        on("L40S", {LONG: (2.0, 2.0)}, role="decode", kv_class="bf16"),
    )
    pools = (replace(stock("H100", 7.0, 4), fabric="rack1"), replace(stock("L40S", 1.8, 10), fabric="rack1"))
    return Problem((demand("rag", {LONG: 7.0}, *ways),), pools)


FLEETS: Mapping[str, Callable[[], Problem]] = {
    "complete": complete,
    "scarce-stock": scarce_stock,
    "no-stock-left": no_stock_left,
    "small-budget": small_budget,
    "tight-slo": tight_slo,
    "two-priorities": two_priorities,
    "spot": spot,
    "disaggregated": disaggregated,
}
