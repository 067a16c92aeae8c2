"""Objects with random mistakes: each is refused or says what is the matter, and nothing else is disturbed."""

import copy
import random
import re
from collections.abc import Iterator
from typing import Any

import bad_objects
import pytest
import yaml

from e2e import stack
from e2e.api import Api
from e2e.cluster import Cluster
from e2e.waiting import wait_for

Json = dict[str, Any]

SAMPLE, SOAK = 40, 200
BATCH = 20
"""So many are there at once."""
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1,
        3.5,
        2**31,
        10**20,
        "",
        "0",
        "-1",
        "1e9",
        "NaN",
        "9" * 400,
        "x" * 5000,
        "ä☃",
        "../..",
        "a b",
    ),
    *({}, [], [None], [{}], {"a": {"b": "c"}}, ["x"] * 300, "hf://", "0s", "99999h", "100Ei", "0.5", "1000000"),
)
NUMBER = re.compile(r"([0-9.]+)([a-zA-Z]*)")


@pytest.fixture
def without_budget(motley: Cluster, api: Api) -> Iterator[None]:
    """Which could cost the bystander a replica."""
    budget = (api.get("Fleet", "default") or {})["spec"].get("budgetPerHour")
    api.patch("Fleet", "default", {"spec": {"budgetPerHour": None}})
    yield
    api.patch("Fleet", "default", {"spec": {"budgetPerHour": budget}})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in an object."""
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def near(value: Any, randomness: random.Random) -> Any:
    """Another value of the same form, often an extreme one."""
    match value:
        case bool():
            return not value
        case int():
            return randomness.choice((0, 1, 2, 3, value + 1, value * 2, value * 100, 100_000))
        case str() if NUMBER.fullmatch(value):
            unit = NUMBER.fullmatch(value)[2]  # type: ignore[index]
            return randomness.choice(("0", "0.000000001", "1", "3", "17.5", "1000", "99999999")) + unit
        case str():
            return randomness.choice((value + "x", value[:-1], value[::-1], value.upper(), value + "/" + value, "a"))
        case list():
            return randomness.choice((value * 2, value[1:], value[::-1]))
    return value


def mutated(original: Json, randomness: random.Random) -> Json:
    """With one to three changes: mostly another value; or one of another kind, something missing, doubled, unknown."""
    found = copy.deepcopy(original)
    for _ in range(randomness.choice((1, 1, 2, 3))):
        *way, last = randomness.choice(list(places(found["spec"])))
        parent = found["spec"]
        for key in way:
            parent = parent[key]
        change = randomness.randrange(10)
        if change == 0:
            parent[last] = copy.deepcopy(randomness.choice(ODD))
        elif change == 1:
            parent[last] = [parent[last]]
        elif change == 2 and isinstance(parent, dict):
            parent[f"{last}x"] = parent[last]
        elif change in (2, 3) and len(found["spec"]) > 1:
            del parent[last]
        else:
            parent[last] = near(parent[last], randomness)
    return found


def named(one: Json, name: str, namespace: str) -> Json:
    """Under a name of its own, and where it could reach the nodes of other Models, kept from them."""
    one["metadata"] = {"name": name}
    if one["kind"] == "GPUPool" and isinstance(one["spec"].get("nodeSelector"), dict):
        one["spec"]["nodeSelector"]["mutation"] = name
    if one["kind"] == "Model":
        one["metadata"]["namespace"] = namespace
        placement = one["spec"].setdefault("placement", {})
        if isinstance(placement, dict) and placement.get("pools") in (None, [], ["l4"]):
            placement["pools"] = ["mutants"]
    return one


def mutants(randomness: random.Random, count: int, namespace: str) -> Iterator[Json]:
    """Fleets are not among them: there is one for all, and what it says is meant to change the others."""
    originals = [
        yaml.safe_load(text) for text in (bad_objects.POOL, bad_objects.MODEL, bad_objects.MODEL, bad_objects.PROFILE)
    ]
    for number in range(count):
        yield named(mutated(randomness.choice(originals), randomness), f"mutant-{number}", namespace)


def silent(api: Api, accepted: list[Json]) -> list[str]:
    """Objects of which nothing is said yet."""
    found = []
    for one in accepted:
        metadata = one["metadata"]
        current = api.get(one["kind"], metadata["name"], metadata.get("namespace"))
        conditions = (current or {}).get("status", {}).get("conditions") or []
        if not conditions or not all(said["reason"] and said["message"] for said in conditions):
            found.append(f"{one['kind']} {metadata['name']}: {one['spec']}\n  {conditions}")
    return found


@pytest.mark.usefixtures("without_budget", "bystander")
def test_every_mutated_object_is_refused_or_says_what_is_the_matter(
    motley: Cluster, api: Api, make_pool: Any, namespace: str, randomness: random.Random, soak: bool
) -> None:
    make_pool("mutants")
    refused = 0
    count = SOAK if soak else SAMPLE
    everything = list(mutants(randomness, count, namespace))
    for start in range(0, count, BATCH):
        accepted = []
        for one in everything[start : start + BATCH]:
            status, body = api.create(one, fieldValidation="Strict")
            assert status in (201, 400, 422), f"{one}: {status} {body}"
            accepted += [one] if status == 201 else []
            assert status == 201 or body["message"], one
        refused += len(everything[start : start + BATCH]) - len(accepted)
        talking = [one for one in accepted if one["kind"] != "Profile"]  # which is figures and does nothing by itself

        def all_spoke(talking: list[Json] = talking) -> bool:
            return not silent(api, talking)

        def state(talking: list[Json] = talking) -> str:
            return "\n".join(silent(api, talking)) + stack.state(motley, namespace)

        try:
            wait_for(all_spoke, "a condition on every mutated object", 120, state)
        finally:
            for one in accepted:
                api.delete(one["kind"], one["metadata"]["name"], one["metadata"].get("namespace"))
    assert 0 < refused < count, f"{refused} of {count} were refused: the mutations are too wild or too tame"
    wait_for(
        lambda: not [one for one in api.list("GPUPool") if one["metadata"]["name"].startswith("mutant-")],
        "the mutated pools to go",
        60,
        lambda: stack.state(motley, namespace),
    )
