"""`motley plan --against`: an earlier report is read strictly, and what differs is said with what it comes from."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from bad_objects import changed
from commandline import CHAT, EXAMPLE, FLEET, Ran, written

from motley_operator.cli.against import NAMED, changes, earlier_report, lines_of
from motley_operator.cli.jsoninput import BadInput

Json = dict[str, Any]


@pytest.fixture
def current(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Json:
    return Ran(capsys, "plan", "-o", "json", "-f", written(tmp_path, EXAMPLE)).report


def against(folder: Path, capsys: pytest.CaptureFixture[str], earlier: Json, now: str, *more: str) -> Ran:
    file = written(folder, json.dumps(earlier), "current.json")
    return Ran(capsys, "plan", "-f", written(folder, now), "--against", file, *more)


def test_the_same_files_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], current: Json) -> None:
    ran = against(tmp_path, capsys, current, EXAMPLE)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("\n\nCHANGES\nThe plan stays the same.\n")


def test_what_changes_is_said_with_what_it_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], current: Json
) -> None:
    now = changed(EXAMPLE, 'rate: "4"', 'rate: "6"').replace('"0.70"', '"0.60"')
    ran = against(tmp_path, capsys, current, now)
    assert ran.code == 0
    assert ran.out[ran.out.index("CHANGES") :].splitlines() == [
        "CHANGES",
        "Because: GPUPool l4 pricePerNodeHour 0.7 → 0.6",
        "Because: Model default/chat rate 4/s → 6/s",
        "Cost per hour: 5.07 → 8.54 (+3.47)",
        "Nodes of a100: 1 → 2",
        "default/chat: 4 → 6 requests/s served",
        "default/chat: replicas on a100 TP1: 1 → 2",
        "default/chat: 100+100 on a100 TP1: 0% → 33%",
        "default/chat: 100+100 on l4 TP1: 100% → 67%",
    ]


def test_json_holds_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str], current: Json) -> None:
    found = against(tmp_path, capsys, current, changed(EXAMPLE, '"0.70"', '"9"'), "-o", "json").report["changes"]
    assert found["costPerHour"] == {"from": 5.07, "to": 7.34}
    assert found["inputs"] == [{"object": "GPUPool l4", "change": "pricePerNodeHour 0.7 → 9"}]
    assert found["nodes"] == [{"pool": "a100", "from": 1, "to": 2}, {"pool": "l4", "from": 2, "to": 0}]
    place = {"model": "default/chat", "tensorParallel": 1, "role": "Aggregated"}
    assert found["replicas"] == [
        {**place, "pool": "a100", "from": 1, "to": 2},
        {**place, "pool": "l4", "from": 2, "to": 0},
    ]
    assert {(one["pool"], one["inputTokens"]) for one in found["shares"]} <= {("a100", 100), ("l4", 100)}
    assert found["served"] == []


def test_inputs_that_the_report_does_not_spell_out_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], current: Json
) -> None:
    def because(now: str, earlier: Json = current) -> list[str]:
        lines = against(tmp_path, capsys, earlier, now).out.splitlines()
        return [line for line in lines if line.startswith("Because")]

    assert because(changed(EXAMPLE, 'attainment: "0.95"', 'attainment: "0.9"')) == [
        "Because: Model default/chat changed"
    ]
    assert because(changed(EXAMPLE, FLEET, FLEET.replace('headroom: "0"', 'headroom: "0.2"'))) == [
        "Because: Fleet changed"
    ]
    other = CHAT.replace("name: chat", "name: other")
    assert because(f"{EXAMPLE}---\n{other}") == ["Because: Model default/other added"]
    weights = changed(EXAMPLE, 'outputTokens: 200, weight: "1"', 'outputTokens: 200, weight: "2"')
    assert because(weights) == ["Because: Model default/chat other sizes or weights"]
    without = {name: value for name, value in current.items() if name != "inputs"}
    assert because(changed(EXAMPLE, 'attainment: "0.95"', 'attainment: "0.9"'), without) == []


def test_a_report_without_a_plan_can_be_compared_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], current: Json
) -> None:
    unsolved = {**current, "costPerHour": None, "models": [], "pools": []}
    ran = against(tmp_path, capsys, unsolved, EXAMPLE)
    assert ran.code == 0
    assert "default/chat: replicas on l4 TP1: 0 → 2" in ran.out


def test_a_role_is_part_of_a_place() -> None:
    def report(role: str) -> Json:
        place = {"pool": "a", "tensorParallel": 2, "role": role}
        size = {"inputTokens": 10, "outputTokens": 5, "rate": 1.0, "shares": [{**place, "share": 1.0}]}
        allocation = {**place, "gpu": "A", "replicas": 1}
        chat = {"model": "x/chat", "rate": 1.0, "served": 1.0, "allocations": [allocation], "assignment": [size]}
        return {"costPerHour": 1.0, "pools": [], "models": [chat], "inputs": {}}

    lines = list(lines_of(changes(report("Aggregated"), report("Decode"))))
    assert lines == [
        "x/chat: replicas on a TP2: 1 → 0",
        "x/chat: replicas on a TP2 (decode): 0 → 1",
        "x/chat: 10+5 on a TP2: 100% → 0%",
        "x/chat: 10+5 on a TP2 (decode): 0% → 100%",
    ]


def test_many_moved_shares_are_counted_in_words() -> None:
    moved = {"model": "x/chat", "outputTokens": 5, "pool": "a", "tensorParallel": 1, "role": "Aggregated"}
    shares = [{**moved, "inputTokens": size, "from": 0.0, "to": 1.0} for size in range(NAMED + 3)]
    nothing: Json = {"costPerHour": {"from": None, "to": 1.0}, "inputs": [], "served": [], "replicas": [], "nodes": []}
    *named, last = lines_of({**nothing, "shares": shares})
    assert (len(named), last) == (NAMED, "3 more shares move; -o json lists them")


BAD: dict[str, tuple[Callable[[Json], Any], str]] = {
    "no cost": (lambda found: found.pop("costPerHour"), "costPerHour: is missing"),
    "a cost in words": (lambda found: found.update(costPerHour="5"), "costPerHour: must be a number, not text"),
    "no models": (lambda found: found.pop("models"), "models: is missing"),
    "models by name": (lambda found: found.update(models={}), "models: must be a list, not an object"),
    "a model of text": (lambda found: found.update(models=["a"]), "models[0]: must be an object, not text"),
    "an unnamed model": (lambda found: found["models"][0].update(model=7), "models[0].model: must be text"),
    "half a replica": (
        lambda found: found["models"][0]["allocations"][0].update(replicas=1.5),
        "models[0].allocations[0].replicas: must be a whole number, not 1.5",
    ),
    "a share without a pool": (
        lambda found: found["models"][0]["assignment"][0]["shares"][0].pop("pool"),
        "models[0].assignment[0].shares[0].pool: is missing",
    ),
    "a negative price": (
        lambda found: found["pools"][0].update(pricePerNodeHour=-1),
        "pools[0].pricePerNodeHour: must not be negative",
    ),
    "a fingerprint of numbers": (lambda found: found.update(inputs={"Fleet": 1}), "inputs.Fleet: must be text"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_report_is_one_line_with_file_and_key(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], current: Json
) -> None:
    spoil, message = BAD[case]
    bad = deepcopy(current)
    spoil(bad)
    ran = against(tmp_path, capsys, bad, EXAMPLE)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.startswith(f"{tmp_path}/current.json: {message}")


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"costPerHour": NaN}', "\xff"])
def test_what_is_no_json_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "current.json"
    file.write_bytes(text.encode("latin-1"))
    ran = Ran(capsys, "plan", "-f", written(tmp_path, EXAMPLE), "--against", file)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1 and ran.err.startswith(f"{file}: ")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.json: no such file or directory"):
        earlier_report(str(tmp_path / "none.json"))


def test_a_changed_input_that_leaves_the_plan_as_it_is_is_said_with_that() -> None:
    nothing = {"costPerHour": {"from": 8.0, "to": 8.0}, "served": [], "replicas": [], "nodes": [], "shares": []}
    said = lines_of({**nothing, "inputs": [{"object": "Model default/chat", "change": "changed"}]})
    assert list(said) == ["Because: Model default/chat changed", "The plan stays the same."]


def test_without_a_plan_nothing_changes_and_nothing_is_said_to_be_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], current: Json
) -> None:
    none = changed(EXAMPLE, '{headroom: "0"}', '{headroom: "0", budgetPerHour: "1"}').replace(
        "  maxNodes: 4\n", "  maxNodes: 4\n  capacityType: Reserved\n"
    )
    ran = against(tmp_path, capsys, current, none)
    assert ran.out.startswith("Infeasible: ")
    assert ran.out[ran.out.index("CHANGES") :].splitlines() == [
        "CHANGES",
        "Because: Fleet changed",
        "Because: GPUPool a100 changed",
        "Because: GPUPool l4 changed",
        "There is no plan: all stays as it is.",
    ]
    without = Ran(capsys, "plan", "-o", "json", "-f", written(tmp_path, none)).report
    again = against(tmp_path, capsys, without, EXAMPLE)
    assert "added" not in again.out and "Nodes of a100: 0 → 1" in again.out
