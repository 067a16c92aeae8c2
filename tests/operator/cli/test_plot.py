"""`motley plan --plot`: the picture holds what the report says, in each of its forms."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from commandline import EXAMPLE, NeverSolves
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from motley_operator.cli import main, plot

Json = dict[str, Any]


def share(pool: str, part: float, role: str = "Aggregated", tensor_parallel: int = 1) -> Json:
    return {"pool": pool, "tensorParallel": tensor_parallel, "share": part, "role": role}


def bucket(inputs: int, outputs: int, *shares: Json) -> Json:
    return {"inputTokens": inputs, "outputTokens": outputs, "rate": 2.0, "shares": list(shares)}


def model(name: str, *buckets: Json, cost: float = 1.0) -> Json:
    about = {"attainment": 1.0, "target": 0.99, "met": True, "estimated": False, "error": 0.0}
    return {
        "model": name,
        "rate": 4.0,
        "served": 4.0,
        "costPerHour": cost,
        "predicted": about,
        "allocations": [],
        "assignment": list(buckets),
    }


def report(*models: Json, **changes: Any) -> Json:
    pools = [
        {
            "pool": name,
            "gpu": gpu,
            "nodes": 1,
            "maxNodes": 4,
            "reservedNodes": 0,
            "pricePerNodeHour": c,
            "costPerHour": c,
        }
        for name, gpu, c in (("l4", "L4", 0.7), ("l4-spot", "L4", 0.3), ("h100", "H100", 4.0))
    ]
    return {
        "status": "Planned",
        "reasons": [],
        "costPerHour": 5.0,
        "switchingPerHour": 0.0,
        "riskPerHour": 0.0,
        "objective": 5.0,
        "lowerBound": 5.0,
        "proven": True,
        "pools": pools,
        "models": list(models),
        "comparisons": [
            {"gpu": "H100", "costPerHour": 8.0, "saving": 0.375, "reason": ""},
            {"gpu": "L4", "costPerHour": None, "saving": None, "reason": "cannot serve chat <4000+200>"},
        ],
        "unserved": [],
        "refused": [],
        **changes,
    }


CHAT = model(
    "default/chat", bucket(100, 100, share("l4", 0.25), share("h100", 0.75)), bucket(4000, 100, share("h100", 1))
)


def grids(drawn: Figure) -> list[Axes]:
    return [axes for axes in drawn.get_axes() if axes.get_xlabel() == "input tokens"]


def boxes(axes: Axes) -> list[tuple[float, float, float, float]]:
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [tuple(round(v, 6) for v in (*p.get_xy(), p.get_width(), p.get_height())) for p in found]  # type: ignore[misc]


def colours(axes: Axes) -> list[Any]:
    return [patch.get_facecolor() for patch in axes.patches]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_a_cell_is_split_as_its_requests_are_and_coloured_by_gpu_type() -> None:
    (grid,) = grids(plot.figure(report(CHAT)))
    assert boxes(grid) == [(0, 0, 0.25, 1), (0.25, 0, 0.75, 1), (1, 0, 1, 1)]
    l4, h100, whole = colours(grid)
    assert l4 != h100 == whole
    assert [label.get_text() for label in grid.get_xticklabels()] == ["100", "4k"]
    assert "default/chat\n4 of 4 requests/s, 1.00 per hour" == grid.get_title()
    assert {"L4\n25%", "H100\n75%", "H100", "2/s"} == set(texts(grid))


def test_prefill_stands_above_decode_where_different_gpus_do_them() -> None:
    split = bucket(100, 100, share("h100", 0.4), share("h100", 0.6, "Prefill"), share("l4", 0.6, "Decode", 2))
    drawn = plot.figure(report(model("m", split)))
    (grid,) = grids(drawn)
    assert boxes(grid) == [(0, 0, 0.4, 1), (0.4, 0.5, 0.6, 0.5), (0.4, 0, 0.6, 0.5)]
    assert "L4 TP2\n60%" in texts(grid)
    assert "split: prefill above, decode below" in plotted(drawn)


def test_what_is_not_served_is_shown_as_such() -> None:
    drawn = plot.figure(report(model("m", bucket(100, 100, share("l4", 0.5)), bucket(200, 100))))
    (grid,) = grids(drawn)
    assert boxes(grid) == [(0, 0, 0.5, 1), (0.5, 0, 0.5, 1), (1, 0, 1, 1)]
    assert "not served" in plotted(drawn)


def plotted(drawn: Figure) -> list[str]:
    return [text.get_text() for part in drawn.subfigs for legend in part.legends for text in legend.get_texts()]


def test_costs_stand_beside_those_of_single_types_and_what_cannot_be_is_said() -> None:
    costs = plot.figure(report(CHAT)).get_axes()[0]
    assert [label.get_text() for label in costs.get_yticklabels()] == ["this plan", "H100 alone", "L4 alone"]
    assert [round(patch.get_width(), 6) for patch in costs.patches] == [4.0, 1.0, 8.0]  # type: ignore[attr-defined]
    assert texts(costs) == ["  5.00", "  8.00   the plan saves 38%", "  cannot serve chat <4000+200>"]
    assert costs.get_xlabel() == "cost per hour"


def test_a_gpu_type_looks_the_same_above_and_below() -> None:
    costs, grid = plot.figure(report(CHAT)).get_axes()[:2]
    assert costs.patches[0].get_facecolor() == grid.patches[1].get_facecolor()


def test_of_many_models_the_dearest_are_shown_and_the_others_counted() -> None:
    many = [model(f"m{i}", bucket(100, 100, share("l4", 1.0)), cost=float(i)) for i in range(20)]
    drawn = plot.figure(report(*many))
    assert len(grids(drawn)) == plot.MOST_MODELS == 12
    assert grids(drawn)[0].get_title().startswith("m19\n")
    (title,) = [part.get_suptitle() for part in drawn.subfigs if part.get_suptitle()]
    assert title == "which GPU serves which request size (12 of 20 models, those that cost most)"


def test_large_grids_hold_colours_and_no_text() -> None:
    wide = model("m", *(bucket(100 * i, 100, share("l4", 1.0)) for i in range(1, 40)))
    (grid,) = grids(plot.figure(report(wide)))
    assert (len(boxes(grid)), texts(grid)) == (39, [])


@pytest.mark.parametrize(("models", "inputs", "outputs"), [(1, 8, 8), (2, 5, 3), (3, 3, 8), (12, 2, 2)])
def test_what_is_written_in_cells_can_be_read(models: int, inputs: int, outputs: int) -> None:
    def cell(i: int, o: int) -> Json:
        apart = (share("h100", 0.45, "Prefill"), share("l4", 0.45, "Decode", 8))
        return bucket(1000 * (i + 1), 100 * (o + 1), share("h100", 0.5 + 0.05 * (i == o)), *apart[: 2 * (i != o)])

    cells = [cell(i, o) for i in range(inputs) for o in range(outputs)]
    drawn = plot.figure(report(*(model(f"m{i}", *cells) for i in range(models))))
    FigureCanvasAgg(drawn).draw()
    for grid in grids(drawn):
        assert len(texts(grid)) > inputs * outputs
        extents = [text.get_window_extent().shrunk(1.0, 0.85) for text in grid.texts]
        assert not [(one, two) for i, one in enumerate(extents) for two in extents[:i] if one.overlaps(two)]


def test_of_a_name_that_is_too_long_the_end_is_shown() -> None:
    (grid,) = grids(
        plot.figure(report(model("team-with-a-long-name/" + "x" * 30 + "-production", CHAT["assignment"][0])))
    )
    assert grid.get_title().splitlines()[0] == "…" + "x" * 28 + "-production"


@pytest.mark.parametrize("changes", [{}, {"comparisons": []}, {"costPerHour": 0.0, "pools": []}])
def test_a_plan_without_models_or_comparisons_is_drawn_all_the_same(changes: Json, tmp_path: Path) -> None:
    plot.write(report(**changes), str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_more_gpu_types_than_colours_are_told_apart_by_hatching() -> None:
    pools = [dict(report()["pools"][0], pool=f"p{i}", gpu=f"G{i:02}") for i in range(12)]
    every = model("m", *(bucket(100 * (i + 1), 100, share(f"p{i}", 1.0)) for i in range(12)))
    (grid,) = grids(plot.figure(report(every, pools=pools)))
    assert len({(patch.get_facecolor(), patch.get_hatch()) for patch in grid.patches}) == 12


def test_svg_is_well_formed_holds_its_text_and_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plot.write(report(CHAT), str(tmp_path / name))
    text = (tmp_path / "a.svg").read_text()
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "default/chat" in text and "the plan saves 38%" in text
    assert text == (tmp_path / "b.svg").read_text()


def test_html_is_one_page_with_the_picture_and_the_tables(tmp_path: Path) -> None:
    said = {"text": [{"title": "What binds", "lines": ["Nothing."]}]}
    plot.write(report(CHAT, status="<b>", explanation=said), str(tmp_path / "a.html"))
    text = (tmp_path / "a.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "<svg" in text and "<?xml" not in text
    assert "<td>H100</td>" in text and "<th>SINGLE TYPE</th>" in text
    assert "&lt;4000+200&gt;" in text and "<b>" not in text
    assert "<h2>What binds</h2>" in text and "<p>Nothing.</p>" in text
    assert "src=" not in text and 'href="http' not in text and "url(http" not in text


# --- the command ---


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    (tmp_path / "fleet.yaml").write_text(EXAMPLE)
    return str(tmp_path / "fleet.yaml")


def test_plan_writes_the_picture_beside_the_report(
    fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-f", fleet, "-o", "json", "--plot", str(tmp_path / "plan.html")]) == 0
    assert json.loads(capsys.readouterr().out)["costPerHour"] == 5.07
    assert "Planned: 5.07 per hour" in (tmp_path / "plan.html").read_text()


def test_a_picture_that_cannot_be_written_is_bad_input(fleet: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", fleet, "--plot", "/nowhere/plan.svg"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "--plot: /nowhere/plan.svg: no such folder\n")


def test_without_matplotlib_it_says_how_to_get_it_before_anything_is_planned(
    fleet: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "motley_operator.cli.plot")
    assert main(["plan", "-f", fleet, "--plot", "plan.svg"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("--plot: ")
    assert captured.err.endswith("install it: pip install 'motley-fleet[plot]'\n")


def test_where_there_is_no_plan_there_is_no_picture(
    fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motley_operator.cli.plan.Solver", NeverSolves)
    assert main(["plan", "-f", fleet, "--plot", str(tmp_path / "plan.svg")]) == 4
    assert capsys.readouterr().err == "note: there is no plan to draw\n"
    assert not (tmp_path / "plan.svg").exists()


@pytest.mark.parametrize("name", ["plan.pdf", "plan", "svg"])
def test_other_forms_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["plan", "-f", "x", "--plot", name])
    assert exit.value.code == 2
    assert f"must end with .png, .svg or .html, not '{name}'" in capsys.readouterr().err


def test_no_window_and_no_global_state_is_touched(tmp_path: Path) -> None:
    program = (
        "import json, sys; from motley_operator.cli import plot\n"
        "plot.write(json.load(sys.stdin), sys.argv[1]); print('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "a.png")]
    ran = subprocess.run(command, input=json.dumps(report(CHAT)), capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("False\n", "")
