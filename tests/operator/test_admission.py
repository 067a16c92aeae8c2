"""Who takes part in planning, and what the others are told."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from fleets import A100, about_models, model, node, pool, view_of

from motley_operator import admission, reasons
from motley_operator.admission import admitted_models, admitted_pools, key_of, owners
from motley_operator.api import Model
from motley_operator.reasons import Finding

SHEET = {"memory": "24Gi", "bandwidthGBs": "300", "bf16TFLOPS": "120"}


def about_pools(*objects: dict[str, Any]) -> dict[str, str]:
    return {key: finding.reason for key, finding in admitted_pools(view_of(*objects))[1].items()}


# Pools


def test_a_good_pool_takes_part() -> None:
    pools, findings = admitted_pools(view_of(pool("l4"), pool("a100", A100)))
    assert ([one.metadata.name for one in pools], findings) == (["a100", "l4"], {})


def test_an_unknown_gpu_is_told_what_is_known_and_what_to_give() -> None:
    _, findings = admitted_pools(view_of(pool("x", {"gpu": "L5"})))
    (finding,) = findings.values()
    assert finding.reason == reasons.UNKNOWN_GPU
    assert "'L5'" in finding.message and "A100-80GB" in finding.message and "spec.sheet" in finding.message


def test_a_sheet_makes_any_gpu_known() -> None:
    assert about_pools(pool("x", {"gpu": "L5", "sheet": SHEET})) == {}
    assert about_pools(pool("x", {"gpu": "L5", "sheet": {**SHEET, "bf16": False}})) == {}


def test_one_gpu_type_has_one_name_from_here_on() -> None:
    named = {"a": "A100", "b": "a100-80gb", "c": "A100-80GB", "d": "Own"}
    pools, _ = admitted_pools(view_of(*(pool(name, {"gpu": gpu, "sheet": SHEET}) for name, gpu in named.items())))
    assert {one.metadata.name: one.spec.gpu for one in pools} == {**dict.fromkeys("abc", "A100-80GB"), "d": "Own"}


@pytest.mark.parametrize("field", ["bandwidthGBs", "bf16TFLOPS", "fp32TFLOPS", "fp8TFLOPS", "linkGBs"])
def test_a_sheet_with_a_zero_is_refused_by_name(field: str) -> None:
    """It would be divided by."""
    _, findings = admitted_pools(view_of(pool("x", {"gpu": "L5", "sheet": {**SHEET, field: "0.0"}})))
    assert findings["GPUPool x"] == Finding(reasons.UNKNOWN_GPU, f"spec.sheet.{field}: must be above zero")


def test_a_pool_that_is_being_deleted_drains() -> None:
    assert about_pools(pool("x", deletionTimestamp="2026-03-01T11:00:00Z")) == {"GPUPool x": reasons.DRAINING}


@pytest.mark.parametrize(
    ("older", "newer"),
    [({"a": "1"}, {"a": "1"}), ({"a": "1"}, {"a": "1", "b": "2"}), ({"a": "1", "b": "2"}, {"a": "1"})],
)
def test_of_two_pools_whose_selectors_overlap_the_older_stays(older: dict[str, str], newer: dict[str, str]) -> None:
    one = pool("one", {"nodeSelector": {"pool": None, **older}}, age=9)
    other = pool("other", {"nodeSelector": {"pool": None, **newer}}, age=3)
    assert about_pools(other, one) == {"GPUPool other": reasons.NODES_SHARED}


def test_selectors_that_only_a_node_shows_to_overlap_name_that_node() -> None:
    one, other = (
        pool("one", {"nodeSelector": {"pool": "l4"}}),
        pool("other", {"nodeSelector": {"pool": None, "z": "1"}}),
    )
    assert about_pools(one, other) == {}
    both = node("n7")
    both["metadata"]["labels"]["z"] = "1"
    _, findings = admitted_pools(view_of(one, other, both))
    assert "GPUPool one" in findings["GPUPool other"].message and "node n7" in findings["GPUPool other"].message


def test_a_pool_that_is_refused_itself_takes_no_nodes_from_another() -> None:
    shared = {"nodeSelector": {"pool": "shared"}}
    draining = pool("old", shared, age=9, deletionTimestamp="2026-03-01T11:00:00Z")
    assert about_pools(draining, pool("new", shared, age=1)) == {"GPUPool old": reasons.DRAINING}
    three = [pool(name, shared, age=age) for name, age in (("a", 9), ("b", 8), ("c", 7))]
    assert about_pools(*three).keys() == {"GPUPool b", "GPUPool c"}


# Served names


def test_the_oldest_model_has_the_served_name() -> None:
    twins = model("new", {"servedName": "chat"}, age=1), model("old", {"servedName": "chat"}, age=9)
    models, findings = admitted_models(view_of(pool(), *twins))
    assert [one.metadata.name for one in models] == ["old"]
    assert findings["Model team/new"].reason == reasons.SERVED_NAME_TAKEN
    assert "team/old" in findings["Model team/new"].message


def test_who_has_which_served_name_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(models: Iterable[Model]) -> Mapping[str, Model]:
        asked.append(1)
        return owners(models)

    monkeypatch.setattr(admission, "owners", counted)
    assert about_models(pool(), *(model(f"m{number}") for number in range(20))) == {}
    assert len(asked) == 1


def test_a_models_own_name_is_a_served_name_in_every_namespace() -> None:
    found = about_models(pool(), model("chat", namespace="a", age=9), model("chat", namespace="b", age=1))
    assert found == {"Model b/chat": reasons.SERVED_NAME_TAKEN}


def test_twins_of_one_second_are_told_apart_by_name() -> None:
    found = about_models(pool(), model("a", {"servedName": "x"}), model("b", {"servedName": "x"}))
    assert found == {"Model team/b": reasons.SERVED_NAME_TAKEN}


def test_a_model_that_is_being_deleted_gives_its_served_name_up() -> None:
    leaving = model("old", {"servedName": "x"}, age=9, deletionTimestamp="2026-03-01T11:00:00Z")
    models, findings = admitted_models(view_of(pool(), leaving, model("new", {"servedName": "x"})))
    assert ([one.metadata.name for one in models], findings) == (["new"], {})


def test_a_refused_owner_keeps_its_served_name() -> None:
    """Otherwise a client's requests would go to another model as soon as its own is misspelt."""
    wrong = model("old", {"servedName": "x", "placement": {"pools": ["gone"]}}, age=9)
    found = about_models(pool(), wrong, model("new", {"servedName": "x"}, age=1))
    assert found == {"Model team/old": reasons.NO_POOL, "Model team/new": reasons.SERVED_NAME_TAKEN}


def test_everybody_else_is_left_alone_by_a_quarrel() -> None:
    view = view_of(pool(), model("a", {"servedName": "x"}, age=90), model("b", {"servedName": "x"}), model("c"))
    assert owners(view.models).keys() == {"x", "c"}
    assert [one.metadata.name for one in admitted_models(view)[0]] == ["a", "c"]


# Pools that a model may use


def test_without_any_pool_the_model_says_so() -> None:
    assert about_models(model()) == {"Model team/chat": reasons.NO_POOL}


def test_a_misspelt_pool_is_told_which_ones_there_are() -> None:
    _, findings = admitted_models(view_of(pool("l4"), pool("t4"), model("chat", {"placement": {"pools": ["l5"]}})))
    assert findings["Model team/chat"].message == "spec.placement.pools names l5; there are l4, t4"


def test_one_pool_that_exists_is_enough() -> None:
    assert about_models(pool("l4"), model("chat", {"placement": {"pools": ["gone", "l4"]}})) == {}


def test_findings_are_filed_under_kind_and_key() -> None:
    view = view_of(pool("l4"), model("chat"))
    assert (key_of(view.pools[0]), key_of(view.models[0])) == ("GPUPool l4", "Model team/chat")
