"""`motley plan --explain`: sentences in the table, numbers in JSON, and latency targets that are really loosened."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from bad_objects import changed
from commandline import CHAT, EXAMPLE, FLEET, POOLS, TABLE, Ran, written
from commandline import pool as pool_text
from fleets import A100, model, pool, view_of

from motley_operator.cli.explain import ahead, loosened
from motley_operator.cli.sentences import longer
from motley_operator.fleet import FleetView
from motley_operator.formulation import Formulation, formulated
from motley_solver import capacity
from motley_solver.attainment import Case
from motley_solver.whatif import Change


def test_the_table_is_followed_by_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "plan", "--explain", "-f", written(tmp_path, EXAMPLE))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(TABLE)
    after = ran.out.split("\n\nWHAT BINDS\n")[1]
    assert "The next best is without L4: 7.34 per hour, 2.27 more, with 2 nodes of a100." in after
    assert "Without A100-80GB not all of default/chat can be served." in after
    assert "  4000+200, 1/s: A100-80GB at 0.243; not on L4 (no profile)" in after


def test_of_throughputs_that_were_measured_at_one_slo_nothing_is_said_about_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = Ran(capsys, "plan", "--explain", "-f", written(tmp_path, EXAMPLE)).out
    assert "What looser targets would save for default/chat is not known" in said
    assert "Targets 10% looser" not in said
    estimated = Ran(capsys, "plan", "--explain", "-f", written(tmp_path, POOLS + CHAT + FLEET)).out
    assert "not known" not in estimated
    assert "Targets 10% looser" in estimated or " binds default/chat" in estimated


def test_json_and_yaml_hold_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, EXAMPLE)
    found = Ran(capsys, "plan", "--explain", "-o", "json", "-f", file).report["explanation"]
    first = found["alternatives"][0]
    assert (first["without"], first["gpu"], first["costPerHour"]) == ("gpu", "L4", 7.34)
    assert first["nodes"] == [{"pool": "a100", "nodes": 2, "pricePerNodeHour": 3.67, "reserved": 0}]
    assert {one["change"]["kind"] for one in found["savings"]} >= {"ttft", "tpot"}
    (short, long) = found["choices"]
    assert short["bucket"] == {"inputTokens": 100, "outputTokens": 100}
    assert [one["limitedBy"] for one in long["options"] if one["share"]] == [""]  # a throughput was measured, no more
    assert found["conflicts"] == found["unanswered"] == []
    assert [one["title"] for one in found["text"]] == ["What binds", "Next best plan", "Why it runs there"]
    as_yaml = yaml.safe_load(Ran(capsys, "plan", "--explain", "-o", "yaml", "-f", file).out)["explanation"]
    assert {**as_yaml, "seconds": 0} == {**found, "seconds": 0}


def test_without_being_asked_nothing_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Ran(capsys, "plan", "-o", "json", "-f", written(tmp_path, EXAMPLE)).report
    assert not {"explanation", "changes"} & report.keys()


def test_what_is_not_served_is_explained_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "plan", "--explain", "-f", written(tmp_path, changed(EXAMPLE, 'rate: "4"', 'rate: "24"')))
    assert ran.code == 3
    said = ran.out[ran.out.index("NOT SERVED, AND WHAT WOULD HELP") :].splitlines()
    assert said[1].startswith("default/chat: ") and said[1].endswith("4000+200")
    assert any("raise maxNodes of pool a100 from 4 to " in line for line in said[:6])


def test_a_looser_target_is_formulated_anew_for_that_model_alone() -> None:
    slo = {"ttft": "1s", "ttftPerThousandInputTokens": "250ms", "tpot": "45ms"}
    fleet = view_of(
        model("chat", {"slo": slo}), model("other", {"slo": slo, "servedName": "other"}), pool("a100", A100)
    )
    asked: list[FleetView] = []

    def recorded(view: FleetView) -> Formulation:
        asked.append(view)
        return formulated(view)

    loosen = loosened(fleet, recorded)
    assert loosen("team/chat", "ttft", 1.5).pools == loosen("team/chat", "tpot", 1.1).pools
    said = [
        {
            one.key: (one.spec.slo.ttft, one.spec.slo.ttft_per_thousand_input_tokens, one.spec.slo.tpot)
            for one in v.models
        }
        for v in asked
    ]
    as_given = ("1s", "250ms", "45ms")
    assert said == [
        {"team/chat": ("1500ms", "375ms", "45ms"), "team/other": as_given},
        {"team/chat": ("1s", "250ms", "50ms"), "team/other": as_given},
    ]


def test_what_was_worked_out_ahead_is_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    replayed: list[int] = []
    highest = capacity.highest_rates

    def counted(cases: Sequence[Case]) -> list[float]:
        replayed.append(len(cases))
        return list(highest(cases))

    monkeypatch.setattr(capacity, "highest_rates", counted)
    slo = {"ttft": "1s", "tpot": "47ms"}
    fleet = view_of(
        model("chat", {"slo": slo}), model("other", {"slo": slo, "servedName": "other"}), pool("a100", A100)
    )
    assert formulated(fleet).problem.models
    names = [one.key for one in fleet.models]
    ahead(fleet, formulated)([Change("tpot", name, 1.0, 1.37) for name in names])
    before = sum(replayed)
    assert all(loosened(fleet, formulated)(name, "tpot", 1.37) for name in names)
    assert sum(replayed) == before > 0


@pytest.mark.parametrize(
    ("target", "factor", "found"), [(0.05, 1.1, 0.055), (0.7, 1.1, 0.77), (0.005, 1.1, 0.006), (1.0, 1.0, 1.0)]
)
def test_a_longer_target_is_whole_milliseconds(target: float, factor: float, found: float) -> None:
    assert longer(target, factor) == found


def test_a_gpu_that_lacks_the_models_type_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = EXAMPLE.replace("layers: 32", "layers: 16")  # for which a T4 has room
    ran = Ran(capsys, "plan", "--explain", "-f", written(tmp_path, pool_text("T4", "0.10", 4) + small))
    assert ran.code == 0
    assert "not on L4 (no profile), T4 (neither BF16 nor FP8)" in ran.out
