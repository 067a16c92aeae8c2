from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from motley_operator.api import GPUPool, Model
from motley_operator.api.plan import EngineSettings, PlannedAllocation
from motley_operator.fleet import NO_FLEET, DeploymentView, FleetView, NodeView, PodView
from motley_operator.manifests import Group
from motley_operator.repacking import GIVE_UP, stepping_aside

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATELY, LONG_AGO = NOW - timedelta(seconds=30), NOW - GIVE_UP

POOL = GPUPool.model_validate(
    {
        "metadata": {"name": "six"},
        "spec": {
            "gpu": "A100-80GB",
            "node": {"gpus": 6, "cpu": "8", "memory": "64Gi"},
            "pricePerNodeHour": "1",
            "maxNodes": 2,
            "nodeSelector": {"pool": "six"},
        },
    }
)
"""Two nodes of six GPUs."""
MODEL = Model.model_validate(
    {
        "metadata": {"name": "m", "namespace": "n"},
        "spec": {
            "source": {"uri": "hf://org/name"},
            "slo": {"ttft": "1s", "tpot": "1s"},
            "traffic": {"rate": "1", "sizes": [{"inputTokens": 1, "outputTokens": 1}]},
        },
    }
)


@dataclass(frozen=True)
class Placed:
    """Pods of one configuration, named after its degree: on nodes, waiting since, leaving."""

    degree: int
    nodes: tuple[str, ...] = ()
    waiting: tuple[datetime, ...] = ()
    leaving: tuple[str, ...] = ()
    planned: int | None = None
    """Where it is not what is there."""

    @property
    def replicas(self) -> int:
        return len(self.nodes) + len(self.waiting)

    def pods(self) -> Iterable[PodView]:
        name = f"tp{self.degree}"
        for number, node in enumerate((*self.nodes, *self.leaving)):
            gone = number >= len(self.nodes)
            yield PodView("n", f"{name}-{number}", "m", "six", name, True, None, "", node, gone)
        for number, since in enumerate(self.waiting):
            yield PodView("n", f"{name}-w{number}", "m", "six", name, False, since, "no room")


def aside(*placed: Placed, replicas: dict[int, int] | None = None) -> dict[str, int]:
    """`replicas` by degree: what the Deployments say, where that is not the number of pods."""
    groups = []
    for one in placed:
        count = one.replicas if one.planned is None else one.planned
        engine = EngineSettings(max_num_batched_tokens=1, max_num_seqs=1, max_model_len=1)
        allocation = PlannedAllocation(
            model="n/m", pool="six", gpu="A100-80GB", tensor_parallel=one.degree, replicas=count, engine=engine
        )
        groups.append(Group(MODEL, allocation, f"tp{one.degree}", f"m-tp{one.degree}", {}))
    pods = tuple(pod for one in placed for pod in one.pods())
    counts = {one.degree: one.replicas for one in placed} | (replicas or {})
    view = FleetView(
        now=NOW,
        fleet=NO_FLEET,
        pools=(POOL,),
        nodes=tuple(NodeView(name, {"pool": "six"}, True) for name in ("a", "b")),
        deployments=tuple(
            DeploymentView("n", f"m-tp{degree}", "m", "six", degree, f"tp{degree}", count, count)
            for degree, count in counts.items()
        ),
        pods=pods,
    )
    waiting = [pod for pod in pods if pod.unschedulable_since]
    return stepping_aside(groups, view, {"six": waiting} if waiting else {})


def test_nothing_steps_aside_while_nothing_waits() -> None:
    assert aside(Placed(2, ("a", "a")), Placed(4, ("b",))) == {}


def test_as_many_small_replicas_step_aside_as_the_large_one_needs() -> None:
    assert aside(Placed(2, ("a", "a")), Placed(4, ("b",), (LATELY,))) == {"m-tp2": 1}
    assert aside(Placed(1, ("a", "a", "a", "a")), Placed(4, ("b",), (LATELY,))) == {"m-tp1": 2}


def test_large_ones_get_room_one_after_the_other() -> None:
    assert aside(Placed(2, ("a", "a", "b", "b")), Placed(4, (), (LATELY, LATELY))) == {"m-tp2": 3}


def test_the_node_is_chosen_where_the_fewest_gpus_must_move() -> None:
    found = aside(Placed(1, ("a", "b", "b", "b")), Placed(2, ("a",)), Placed(4, (), (LATELY,)))
    assert found == {"m-tp1": 3, "m-tp2": 1}


def test_nothing_more_steps_aside_while_some_are_on_their_way() -> None:
    placed = (Placed(2, ("a", "a"), planned=2), Placed(4, ("b",), (LATELY,)))
    assert aside(*placed, replicas={2: 1}) == {"m-tp2": 1}  # the Deployment was scaled, no pod was told yet
    leaving = (Placed(2, ("a",), leaving=("a",), planned=2), Placed(4, ("b",), (LATELY,)))
    assert aside(*leaving) == {"m-tp2": 1}  # the pod was told


def test_the_small_ones_wait_until_the_large_one_has_taken_its_room() -> None:
    assert aside(Placed(2, ("a",), planned=2), Placed(4, ("b",), (LATELY,))) == {"m-tp2": 1}


@pytest.mark.parametrize("since", [LONG_AGO, LONG_AGO - timedelta(days=1)])
def test_the_small_ones_come_back_for_what_waits_in_vain(since: datetime) -> None:
    assert aside(Placed(2, ("a", "a"), planned=2), Placed(4, ("b",), (since,))) == {}


def test_equal_or_larger_replicas_never_step_aside() -> None:
    assert aside(Placed(4, ("a", "b"), (LATELY,))) == {}
    assert aside(Placed(4, ("a", "b")), Placed(2, ("a", "b"), (LATELY,))) == {}
