"""Must the fleet be planned anew?"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from fleets import A100, fleet, model, pool, profile, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_operator import declarations, formulation, triggers
from motley_operator.formulation import formulated
from motley_operator.reasons import Finding
from motley_operator.triggers import FIRST_PLAN, INPUTS_CHANGED, inputs_of, replan


def inputs(*objects: dict[str, Any]) -> dict[str, str]:
    return inputs_of(formulated(view_of(*objects)))


BEFORE = (fleet(), pool("l4"), model("chat"), profile())


def changed(*objects: dict[str, Any]) -> str:
    finding = replan(inputs(*BEFORE), inputs(*objects))
    return finding.message if finding else ""


def test_without_a_plan_the_first_one_is_made() -> None:
    assert replan(None, {}) == Finding(FIRST_PLAN, "first plan")


def test_equal_inputs_ask_for_nothing() -> None:
    assert replan(inputs(*BEFORE), inputs(*BEFORE)) is None
    assert replan({}, {}) is None


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ((fleet({"headroom": "0.3"}), *BEFORE[1:]), "Fleet changed"),
        ((fleet({"budgetPerHour": "9"}), *BEFORE[1:]), "Fleet changed"),
        ((fleet({"replanHorizon": "2h"}), *BEFORE[1:]), "Fleet changed"),
        ((fleet({"startTime": "1m"}), *BEFORE[1:]), "Fleet changed"),
        ((*BEFORE[:1], pool("l4", {"pricePerNodeHour": "0.79"}), *BEFORE[2:]), "GPUPool l4 changed"),
        ((*BEFORE[:1], pool("l4", {"maxNodes": 5}), *BEFORE[2:]), "GPUPool l4 changed"),
        ((*BEFORE[:1], pool("l4", {"capacityType": "Reserved"}), *BEFORE[2:]), "GPUPool l4 changed"),
        ((*BEFORE[:2], model("chat", {"traffic": {"rate": "5"}}), BEFORE[3]), "Model team/chat changed"),
        ((*BEFORE[:2], model("chat", {"traffic": {"prefixReuse": "0.5"}}), BEFORE[3]), "Model team/chat changed"),
        ((*BEFORE[:2], model("chat", {"traffic": {"burstiness": "2"}}), BEFORE[3]), "Model team/chat changed"),
        ((*BEFORE[:2], model("chat", {"scaling": {"survivability": "1"}}), BEFORE[3]), "Model team/chat changed"),
        (
            (*BEFORE[:2], model("chat", {"slo": {"tpot": "90ms"}}), profile("p", {"gpu": "T4"})),
            "Model team/chat changed",
        ),
        ((*BEFORE[:2], model("chat", {"priority": 5}), BEFORE[3]), "Model team/chat changed"),
        (BEFORE[:3], "Model team/chat changed"),  # without its profile it is slower or faster
        ((*BEFORE, model("talk")), "Model team/talk added"),
        (BEFORE[:2], "Model team/chat removed"),
    ],
)
def test_what_bears_on_the_decision_asks_for_a_new_plan(after: tuple[dict[str, Any], ...], said: str) -> None:
    assert changed(*after) == said


@pytest.mark.parametrize(
    "after",
    [
        (fleet({"approval": "Manual", "allowedImages": ["x"]}), *BEFORE[1:]),
        (*BEFORE[:2], model("chat", {"engine": {"args": ["--seed=1"]}, "servedName": "other"}), BEFORE[3]),
        (*BEFORE[:2], model("chat", labels={"a": "b"}, generation=7), BEFORE[3]),
        (*BEFORE[:1], pool("l4", age=49), *BEFORE[2:]),
        (*BEFORE, profile("of-another-gpu", {"gpu": "H100"})),
        # what an older API server left out is what a newer one fills in
        (fleet({"replanHorizon": "1h", "startTime": "5m"}), *BEFORE[1:]),
        (*BEFORE[:2], model("chat", {"traffic": {"prefixReuse": "0", "burstiness": "1"}}), BEFORE[3]),
    ],
)
def test_what_does_not_bear_on_it_asks_for_none(after: tuple[dict[str, Any], ...]) -> None:
    assert changed(*after) == ""


def test_a_new_pool_is_named_with_what_it_changes() -> None:
    assert changed(*BEFORE, pool("a100", A100)) == "GPUPool a100 added, Model team/chat changed"


def test_many_changes_are_counted() -> None:
    finding = replan({}, {f"Model team/{n}": "x" for n in range(12)})
    assert finding is not None and finding.reason == INPUTS_CHANGED
    assert finding.message.endswith("Model team/4 added and 7 more")


def test_what_runs_is_no_reason_to_plan_anew() -> None:
    raw = {
        "kind": "Deployment",
        "metadata": {
            "name": "x",
            "namespace": "team",
            "labels": {"motley.dev/model": "chat", "motley.dev/pool": "l4"},
            "ownerReferences": [{"apiVersion": "motley.dev/v1alpha1", "kind": "Model", "controller": True}],
        },
        "spec": {"replicas": 2},
    }
    assert changed(*BEFORE, raw) == ""


def test_another_version_of_the_planner_may_plan_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    before = inputs(*BEFORE)
    monkeypatch.setattr(triggers, "__version__", "0.0.0")
    finding = replan(before, inputs(*BEFORE))
    assert finding is not None and finding.message == "Planner changed"


def test_whether_to_plan_is_known_without_asking_what_anything_can_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes seconds: a pass whose objects did not change, and a start of the operator, must not wait for it."""

    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("a capacity was asked for")

    monkeypatch.setattr(declarations, "demands_of", asked)
    monkeypatch.setattr(declarations, "configuration_of", asked)
    monkeypatch.setattr(formulation, "demands_of", asked)
    assert replan(inputs(*BEFORE), inputs(*BEFORE)) is None


def test_fingerprints_are_the_same_in_another_process() -> None:
    program = "import json, sys; from motley_operator.formulation import formulated; import fleets; "
    program += "from motley_operator.triggers import inputs_of; "
    program += "print(json.dumps(inputs_of(formulated(fleets.view_of(*json.load(sys.stdin))))))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, input=json.dumps(BEFORE), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == inputs(*BEFORE)


_INPUTS = st.dictionaries(st.sampled_from(["Fleet", "Model a/b", "GPUPool p"]), st.sampled_from("xy"))


@settings(max_examples=100, deadline=None)
@given(_INPUTS, _INPUTS)
def test_there_is_a_reason_exactly_where_there_is_a_difference(last: dict[str, str], now: dict[str, str]) -> None:
    finding = replan(last, now)
    assert (finding is None) == (last == now)
    assert all(name in (finding.message if finding else "") for name in last.keys() ^ now.keys())
