"""The operator killed in the middle of an apply, at random points: in the end all is as if nothing had happened."""

import random
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

from e2e import inside, made, operators, stack
from e2e.api import Api
from e2e.cluster import Cluster
from e2e.waiting import wait_for

Json = dict[str, Any]

SAMPLE, SOAK = 3, 20
OWNED = ("Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "RoutingTable")
MODELS = 6


def states(randomness: random.Random, count: int, namespace: str) -> list[list[Json]]:
    """Models that should be there, one list after the other: some come, some go, some change in one or another way."""

    def one(number: int) -> Json:
        tokens = randomness.choice((64, 128))
        return made.model(
            f"model-{number}",
            namespace,
            [randomness.choice(("kill-a", "kill-b"))],
            randomness.randint(1, 3),
            engine={"args": [f"--seed={randomness.randrange(3)}"]},
            traffic={"rate": "0.1", "sizes": [{"inputTokens": 500, "outputTokens": tokens}]},
        )

    return [[one(number) for number in range(MODELS) if randomness.random() < 0.8] for _ in range(count)]


def put(cluster: Cluster, api: Api, namespace: str, models: list[Json]) -> None:
    """These Models and no others."""
    wanted = {one["metadata"]["name"] for one in models}
    if models:
        cluster.apply(models)
    for one in api.list("Model", namespace):
        if one["metadata"]["name"] not in wanted:
            api.delete("Model", one["metadata"]["name"], namespace)


def normalised(api: Api, namespace: str) -> dict[str, Json]:
    """What the operator made, without what the API server and the controllers add or count."""
    found = {}
    for kind in OWNED:
        for one in api.list(kind, namespace, "app.kubernetes.io/managed-by=motley"):
            metadata = one["metadata"]
            owners = [(owner["kind"], owner["name"]) for owner in metadata["ownerReferences"]]
            found[f"{kind} {metadata['name']}"] = {
                "labels": metadata["labels"],
                "owners": owners,
                "spec": one["spec"],
            }
    return found


def settled(api: Api, namespace: str, models: list[Json]) -> bool:
    """Every Model has its one Deployment with all replicas ready, and everything else once."""
    names = sorted(one["metadata"]["name"] for one in models)
    counts = {one["metadata"]["name"]: one["spec"]["scaling"]["minReplicas"] for one in models}
    present = {kind: api.list(kind, namespace, "app.kubernetes.io/managed-by=motley") for kind in OWNED}
    if any(sorted(one["metadata"]["labels"]["motley.dev/model"] for one in present[kind]) != names for kind in OWNED):
        return False
    current = {one["metadata"]["name"]: one["metadata"]["generation"] for one in api.list("Model", namespace)}
    ready = [one for one in api.list("Model", namespace) if is_ready(one)]
    return len(ready) == len(current) == len(names) and all(
        one["status"].get("readyReplicas") == counts[one["metadata"]["labels"]["motley.dev/model"]]
        for one in present["Deployment"]
    )


def is_ready(model: Json) -> bool:
    ready = stack.condition(model, "Ready")
    return ready.get("status") == "True" and ready.get("observedGeneration") == model["metadata"]["generation"]


def acting(api: Api) -> Json | None:
    """The operator pod that holds the Lease, if it was never restarted: the kubelet starts it anew without delay."""
    holder, restarts = operators.lease_holder(api), operators.restarts(api)
    ready = {pod["metadata"]["name"]: pod for pod in operators.ready(api)}
    return ready[holder] if holder in ready and not restarts[holder] else None


def difference(found: dict[str, Json], wanted: dict[str, Json]) -> str:
    return "\n".join(
        f"{name}\n  wanted {wanted.get(name)}\n  found  {found.get(name)}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    )


def undisturbed(api: Api, namespace: str, models: list[Json], wanted: dict[str, Json]) -> bool:
    return normalised(api, namespace) == wanted and settled(api, namespace, models)


def told(api: Api, namespace: str, wanted: dict[str, Json], state: Callable[[], str]) -> str:
    return f"{difference(normalised(api, namespace), wanted)}\n{state()}"


def test_an_operator_killed_while_it_applies_ends_in_the_state_of_one_that_was_not(
    motley: Cluster, api: Api, make_pool: Any, namespace: str, randomness: random.Random, soak: bool
) -> None:
    make_pool("kill-a", nodes=20)
    make_pool("kill-b", nodes=20)
    rounds = states(randomness, SOAK if soak else SAMPLE, namespace)

    def state() -> str:
        return stack.state(motley, namespace)

    expected = []
    for models in rounds:
        put(motley, api, namespace, models)
        wait_for(partial(settled, api, namespace, models), "the undisturbed state", 120, state)
        expected.append(normalised(api, namespace))
    put(motley, api, namespace, [])
    wait_for(lambda: not normalised(api, namespace), "everything to go", 60, state)

    for number, (models, wanted) in enumerate(zip(rounds, expected, strict=True), 1):
        pod = wait_for(lambda: acting(api), "a fresh operator that acts", 90, state)
        kind, change = randomness.choice((*OWNED, "Model")), randomness.randint(1, MODELS)
        changes = api.watch(kind, namespace, seconds=3)
        put(motley, api, namespace, models)
        seen = len(list(islice(changes, change)))
        inside.kill(pod, "motley_operator")
        print(f"round {number}: killed after {seen} changes of a {kind}")
        wait_for(
            partial(undisturbed, api, namespace, models, wanted),
            f"the undisturbed state in round {number}",
            120,
            partial(told, api, namespace, wanted, state),
        )
        api.delete("Pod", pod["metadata"]["name"], stack.NAMESPACE)
