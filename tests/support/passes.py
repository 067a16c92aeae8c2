"""Whole passes of the operator against a fake API in memory."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fake_kube import FakeKubeApi, Json
from fleets import NOW, fleet, model, node, pool, profile, solved

from motley_operator.fleet import TrafficView
from motley_operator.planning import Solve
from motley_operator.reconcile import Reconciler
from motley_operator.settings import Settings

SETTINGS = Settings(resync_seconds=30)
START = (
    fleet({"allowedHostPaths": ["/models"]}),
    pool("l4", {"maxNodes": 12}),
    pool("spare", {"gpu": "L5"}),
    model("chat"),
    model("talk", {"traffic": {"rate": "1"}}, namespace="other"),
    model("bad", {"placement": {"pools": ["nowhere"]}}),
    model("unread", {"shape": None}),
    profile(),
    *(node(f"n{number}") for number in range(12)),
)


class Operator:
    """One process of the operator: what it keeps in memory ends with it."""

    def __init__(
        self, kube: FakeKubeApi, solve: Solve = solved, traffic: Mapping[str, TrafficView] | None = None
    ) -> None:
        self.kube = kube
        self.asked: list[str] = []

        def observe(addresses: Any) -> Mapping[str, TrafficView]:
            self.asked = list(addresses)
            return traffic or {}

        self.reconciler = Reconciler(kube, observe, SETTINGS, solve, lambda: NOW + timedelta(seconds=len(kube.writes)))

    def run(self) -> float:
        return self.reconciler.run_pass()

    def settle(self, passes: int = 12) -> None:
        """Passes with pods that start in between, until one writes nothing more."""
        for _ in range(passes):
            before = len(self.kube.writes)
            self.run()
            if not self.kube.run_pods() and len(self.kube.writes) == before:
                return
        raise AssertionError(f"it never comes to rest: {self.kube.writes[-12:]}")


def settled(*objects: Json) -> tuple[FakeKubeApi, Operator]:
    kube = FakeKubeApi(*(objects or START))
    operator = Operator(kube)
    operator.settle()
    return kube, operator


def reason(kube: FakeKubeApi, kind: str, name: str, condition: str) -> str:
    conditions = kube.of(kind)[name]["status"]["conditions"]
    found: str = next(one["reason"] for one in conditions if one["type"] == condition)
    return found


def replicas(kube: FakeKubeApi) -> dict[str, int]:
    """By model."""
    found: dict[str, int] = {}
    for one in kube.of("Deployment").values():
        name = one["metadata"]["labels"]["motley.dev/model"]
        found[name] = found.get(name, 0) + one["spec"]["replicas"]
    return found
