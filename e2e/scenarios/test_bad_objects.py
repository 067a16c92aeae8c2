"""Whatever is wrong with an object: it is refused, or it says what to change, and nothing else is disturbed."""

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

FLEET_CASES = tuple(case for case in bad_objects.CONDITIONED if "kind: Fleet" in case.text)
OTHERS = tuple(one for one in bad_objects.CONDITIONED if one not in FLEET_CASES)


def own(text: str, namespace: str, prefix: str) -> list[Json]:
    """The case's objects under names of their own, so that all cases can be there at once, beside other scenarios."""
    found = []
    for one in yaml.safe_load_all(text):
        spec, metadata = one["spec"], one["metadata"]
        if one["kind"] != "Fleet":
            metadata["name"] = f"{prefix}-{metadata['name']}"
        if one["kind"] == "GPUPool":
            spec["nodeSelector"] = {key: f"{prefix}-{value}" for key, value in spec["nodeSelector"].items()}
        if one["kind"] == "Model":
            metadata["namespace"] = namespace
            spec["servedName"] = f"{prefix}-{spec['servedName']}"
            spec["placement"]["pools"] = [f"{prefix}-{pool}" for pool in spec["placement"]["pools"]]
        found.append(one)
    return found


def reasons(api: Api, namespace: str, prefix: str, about: str) -> list[Json]:
    kind, key = about.split(" ")
    name = f"{prefix}-{key.rsplit('/', 1)[-1]}"
    found = api.get(kind, name, namespace if kind == "Model" else None)
    return found.get("status", {}).get("conditions", []) if found else []


def await_reason(cluster: Cluster, api: Api, namespace: str, prefix: str, case: bad_objects.Conditioned) -> None:
    def said() -> Json | None:
        found = reasons(api, namespace, prefix, case.about)
        return next((one for one in found if one["reason"] == case.reason and one["status"] == "False"), None)

    def state() -> str:
        return f"{reasons(api, namespace, prefix, case.about)}\n{stack.state(cluster, namespace)}"

    condition = wait_for(said, f"{case.name}: {case.about} to say {case.reason}", 90, state)
    assert condition["message"], f"{case.name}: {case.reason} comes without a word on what to change"


@pytest.fixture
def case_pools(api: Api) -> Iterator[list[str]]:
    """Names of GPUPools that a test made; they go after it."""
    names: list[str] = []
    yield names
    for name in names:
        api.delete("GPUPool", name)
    wait_for(lambda: not any(api.get("GPUPool", name) for name in names), f"GPUPools {names} to go")


def test_what_breaks_the_schema_is_refused_by_the_api_server_naming_the_field(motley: Cluster, api: Api) -> None:
    strict = {"dryRun": "All", "fieldValidation": "Strict"}
    for text in bad_objects.GOOD:
        status, body = api.create(yaml.safe_load(text), **strict)
        assert status == 201 or body.get("reason") == "AlreadyExists", body
    wrong = []
    for case in bad_objects.REFUSED:
        status, body = api.create(yaml.safe_load(case.text), **strict)
        if status not in (400, 422) or case.field not in body["message"]:
            wrong.append(f"{case.name}: expected {case.field}, got {status} {body.get('message')}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("bystander")
def test_what_cannot_be_served_gets_a_condition_that_says_why(
    motley: Cluster, api: Api, namespace: str, case_pools: list[str]
) -> None:
    cases = {f"bad-{number}": case for number, case in enumerate(OTHERS)}
    objects = [one for prefix, case in cases.items() for one in own(case.text, namespace, prefix)]
    case_pools += [one["metadata"]["name"] for one in objects if one["kind"] == "GPUPool"]
    motley.apply(objects)
    for prefix, case in cases.items():
        await_reason(motley, api, namespace, prefix, case)


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("case", FLEET_CASES, ids=lambda case: case.name)
def test_what_the_fleet_does_not_allow_gets_a_condition(
    motley: Cluster, api: Api, namespace: str, case_pools: list[str], case: bad_objects.Conditioned
) -> None:
    fleet, *objects = own(case.text, namespace, "fleet")
    case_pools += [one["metadata"]["name"] for one in objects if one["kind"] == "GPUPool"]
    limits = {key: value for key, value in fleet["spec"].items() if key.startswith("allowed")}
    api.patch("Fleet", "default", {"spec": limits})
    try:
        motley.apply(objects)
        await_reason(motley, api, namespace, "fleet", case)
    finally:
        api.patch("Fleet", "default", {"spec": dict.fromkeys(limits)})
