"""A report as a picture: which GPU type serves which request size, and what the mix costs beside single types.
The only door to matplotlib; it reads the report that `-o json` prints and nothing else."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from textwrap import shorten
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch, Rectangle

from motley_operator.cli.numbers import percent, significant
from motley_operator.cli.render import Table, headline, sections, tables

Json = dict[str, Any]

MOST_MODELS = 12
"""Those that cost most; the others are only counted."""
_ACROSS = 3
_WIDTH = 12.0  # inches
_HEIGHTS = 3.3, 7.0  # of a row of models, at least and at most
_CHARACTER, _LINE = 0.077, 0.165  # inches that they take in a cell

# Okabe and Ito's colours, told apart with any kind of colour vision; then the same with hatching.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_HATCHES = ("", "///", "...", "xxx")
_EMPTY, _INK, _FAINT = "#F4F4F4", "#222222", "#666666"

Style = dict[str, Any]
_UNSERVED: Style = {"facecolor": "white", "edgecolor": "#AA0000", "hatch": "////", "linewidth": 0.5}

_PLATE: Style = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}

_Box = tuple[float, float, float, float]  # left, bottom, width, height in a cell of 1 by 1


def write(report: Json, path: str) -> None:
    """PNG, SVG or a self-contained HTML page, as the name ends. The report must hold a plan. OSError where the file
    cannot be written."""
    kind = Path(path).suffix
    image = _image(figure(report), "png" if kind == ".png" else "svg")
    Path(path).write_bytes(_page(report, image.decode()).encode() if kind == ".html" else image)


def _image(drawn: Figure, kind: str) -> bytes:
    image = BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "motley", "hatch.linewidth": 0.6}):
        drawn.savefig(image, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {})
    return image.getvalue()


def figure(report: Json) -> Figure:
    models = sorted((one for one in report["models"] if one["assignment"]), key=lambda one: -one["costPerHour"])
    shown = models[:MOST_MODELS]
    styles = _styles(report)
    across = min(_ACROSS, len(shown)) or 1
    rows = -(-len(shown) // across)
    outputs = max((len({one["outputTokens"] for one in model["assignment"]}) for model in shown), default=1)
    height = min(max(_HEIGHTS[0], 1.2 + 3.2 * _LINE * outputs), _HEIGHTS[1])
    bars = 1.3 + 0.36 * (1 + len(report["comparisons"]))
    drawn = Figure(figsize=(_WIDTH, bars + height * rows + 0.5), layout="constrained")
    drawn.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    upper, *lower = drawn.subfigures(
        2 if shown else 1, 1, height_ratios=[bars, height * rows] if shown else None, squeeze=False
    )[:, 0]
    _costs(upper.subplots(), report, styles)
    for part in lower:
        _models(part, report, shown, len(models), styles, (rows, across), height)
    return drawn


def _styles(report: Json) -> dict[str, Style]:
    """One look per GPU type, the same in every plan for the same pools."""
    types = sorted({pool["gpu"] for pool in report["pools"]})
    return {
        gpu: {
            "facecolor": _COLOURS[i % len(_COLOURS)],
            "hatch": _HATCHES[i // len(_COLOURS) % len(_HATCHES)],
            "edgecolor": "white",
            "linewidth": 0.8,
        }
        for i, gpu in enumerate(types)
    }


def _ink(style: Style) -> str:
    """Black or white, whichever can be read on this colour; hatching needs a plate, and that is white."""
    if style["hatch"]:
        return _INK
    red, green, blue = (int(style["facecolor"][i : i + 2], 16) for i in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else _INK


# --- costs ---


def _costs(axes: Axes, report: Json, styles: dict[str, Style]) -> None:
    total = report["costPerHour"]
    names = ["this plan", *(f"{one['gpu']} alone" for one in report["comparisons"])]
    left = 0.0
    for gpu, cost in _by_gpu(report["pools"]):
        axes.barh(0, cost, left=left, height=0.7, **styles[gpu])
        left += cost
    axes.text(total, 0, f"  {total:.2f}", va="center", weight="bold", color=_INK)
    for y, one in enumerate(report["comparisons"], 1):
        cost = one["costPerHour"]
        if cost is None:
            axes.text(
                0,
                y,
                "  " + shorten(one["reason"], 150, placeholder=" …"),
                va="center",
                color=_FAINT,
                size=8,
                style="italic",
            )
        else:
            axes.barh(y, cost, height=0.7, **styles.get(one["gpu"], {"facecolor": _EMPTY}))
            axes.text(cost, y, f"  {cost:.2f}{_saved(one['saving'])}", va="center", color=_INK)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    most = max([total, *(one["costPerHour"] or 0 for one in report["comparisons"])])
    axes.set_xlim(0, 1.25 * most or 1)
    axes.set_xlabel("cost per hour")
    axes.set_title(headline(report), loc="left", weight="bold", size=11)
    axes.spines[["top", "right"]].set_visible(False)


def _by_gpu(pools: Iterable[Json]) -> list[tuple[str, float]]:
    costs: dict[str, float] = {}
    for pool in pools:
        costs[pool["gpu"]] = costs.get(pool["gpu"], 0.0) + pool["costPerHour"]
    return [(gpu, cost) for gpu, cost in sorted(costs.items()) if cost > 0]


def _saved(saving: float | None) -> str:
    return f"   the plan saves {saving:.0%}" if saving and saving >= 0.005 else ""


# --- who serves what ---


def _models(
    part: SubFigure,
    report: Json,
    shown: Sequence[Json],
    count: int,
    styles: dict[str, Style],
    places: tuple[int, int],
    height: float,
) -> None:
    gpus = {pool["pool"]: pool["gpu"] for pool in report["pools"]}
    grids = list(part.subplots(*places, squeeze=False).flat)
    for axes, model in zip(grids, shown, strict=False):
        _grid(axes, model, gpus, styles, (_WIDTH / places[1] - 0.9, height - 1.2))
    for axes in grids[len(shown) :]:
        axes.axis("off")
    title = "which GPU serves which request size"
    if count > len(shown):
        title += f" ({len(shown)} of {count} models, those that cost most)"
    part.suptitle(title, x=0.01, ha="left", size=11, weight="bold")
    part.legend(handles=list(_key(shown, gpus, styles)), loc="outside lower center", ncols=6, frameon=False)


def _key(shown: Sequence[Json], gpus: dict[str, str], styles: dict[str, Style]) -> Iterator[Patch]:
    shares = [share for model in shown for bucket in model["assignment"] for share in bucket["shares"]]
    for gpu in sorted({gpus[share["pool"]] for share in shares}):
        yield Patch(label=gpu, **styles[gpu])
    if any(_left_out(bucket) for model in shown for bucket in model["assignment"]):
        yield Patch(label="not served", **_UNSERVED)
    if any(share["role"] != "Aggregated" for share in shares):
        yield Patch(label="split: prefill above, decode below", facecolor="none", edgecolor="none")


def _grid(axes: Axes, model: Json, gpus: dict[str, str], styles: dict[str, Style], inches: tuple[float, float]) -> None:
    """A cell per request size; the parts of a cell are the GPU types that share it, as wide as their shares. What there
    is no room for in a cell is not written."""
    buckets = model["assignment"]
    inputs = sorted({bucket["inputTokens"] for bucket in buckets})
    outputs = sorted({bucket["outputTokens"] for bucket in buckets})
    characters = inches[0] / len(inputs) / _CHARACTER
    lines = int(inches[1] / len(outputs) / _LINE)
    written = characters >= 8 and lines >= 1
    axes.set_facecolor(_EMPTY)
    for bucket in buckets:
        x, y = inputs.index(bucket["inputTokens"]), outputs.index(bucket["outputTokens"])
        for box, share in _parts(bucket):
            left, bottom, width, height = box
            style = styles[gpus[share["pool"]]] if share else _UNSERVED
            axes.add_patch(Rectangle((x + left, y + bottom), width, height, **style))
            room = int(lines * height) - (1 if bottom == 0 else 0)  # the lowest line is the rate's
            text = _said(share, gpus[share["pool"]], width, characters * width, room) if share and written else ""
            if text:
                middle = (x + left + width / 2, y + bottom + height * 0.58)
                plate = _PLATE if style["hatch"] else None
                axes.text(*middle, text, ha="center", va="center", size=7.5, color=_ink(style), bbox=plate)
        if written:
            rate = f"{significant(bucket['rate'])}/s"
            axes.text(x + 0.5, y + 0.07, rate, ha="center", va="bottom", size=7, bbox=_PLATE, color=_INK)
    axes.vlines(range(1, len(inputs)), 0, len(outputs), color="white", linewidth=2)
    axes.hlines(range(1, len(outputs)), 0, len(inputs), color="white", linewidth=2)
    axes.set_xlim(0, len(inputs))
    axes.set_ylim(0, len(outputs))
    axes.set_xticks([i + 0.5 for i in range(len(inputs))], map(_tokens, inputs), size=8, rotation=0 if written else 90)
    axes.set_yticks([i + 0.5 for i in range(len(outputs))], map(_tokens, outputs), size=8)
    axes.tick_params(length=0)
    axes.set_xlabel("input tokens", size=8)
    axes.set_ylabel("output tokens", size=8)
    served = f"{significant(model['served'])} of {significant(model['rate'])} requests/s"
    about = f"{served}, {model['costPerHour']:.2f} per hour"
    axes.set_title(f"{_end(model['model'], 40)}\n{about}", size=9, color=_INK)
    axes.spines[:].set_color("#CCCCCC")


def _parts(bucket: Json) -> Iterator[tuple[_Box, Json | None]]:
    """From the left: who does all of a request; above each other who prefills and who decodes; what is not served."""
    left = 0.0
    for share in _of(bucket, "Aggregated"):
        yield (left, 0.0, share["share"], 1.0), share
        left += share["share"]
    for role, bottom in (("Prefill", 0.5), ("Decode", 0.0)):
        start = left
        for share in _of(bucket, role):
            yield (start, bottom, share["share"], 0.5), share
            start += share["share"]
    if missing := _left_out(bucket):
        yield (1 - missing, 0.0, missing, 1.0), None


def _of(bucket: Json, role: str) -> list[Json]:
    return [share for share in bucket["shares"] if share["role"] == role]


def _left_out(bucket: Json) -> float:
    served = sum(share["share"] for share in bucket["shares"] if share["role"] != "Decode")
    return float(1 - served) if bucket["rate"] and served < 1 - 1e-4 else 0.0


def _end(name: str, most: int) -> str:
    """Of a name that is too long, by which it differs from others."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _said(share: Json, gpu: str, width: float, characters: float, lines: int) -> str:
    """GPU type, its degree of tensor parallelism and its share, as far as there is room for them."""
    degree = f" TP{share['tensorParallel']}" if share["tensorParallel"] > 1 else ""
    parts = [f"{gpu}{degree}", percent(width) if width < 0.995 else ""]
    return "\n".join([part for part in parts if part and len(part) <= characters][: max(0, lines)])


def _tokens(count: int) -> str:
    return f"{count / 1000:g}k" if count >= 1000 and count % 10 == 0 else str(count)


# --- the page ---

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.4 "DejaVu Sans", Verdana, sans-serif; margin: 2em auto; max-width: 75em; color: #222 }}
svg {{ max-width: 100%; height: auto; font-family: "DejaVu Sans", Verdana, sans-serif }}
table {{ border-collapse: collapse; margin: 1.5em 0; font-size: 13px }}
th, td {{ text-align: left; padding: .25em .9em .25em 0; border-bottom: 1px solid #ddd; vertical-align: top }}
.number {{ text-align: right }}
p {{ margin: .2em 0 }}
.in {{ margin-left: 1.5em }}
</style>
<h1>{title}</h1>
{image}
{tables}
{said}
</html>
"""


def _page(report: Json, svg: str) -> str:
    return _PAGE.format(
        title=escape(headline(report)),
        image=svg[svg.index("<svg") :],
        tables="\n".join(map(_html, tables(report))),
        said="\n".join(_paragraphs(title, lines) for title, lines in sections(report)),
    )


def _paragraphs(title: str, lines: Iterable[str]) -> str:
    """What is indented in a terminal is indented here."""
    said = (f"<p{' class=in' if line.startswith(' ') else ''}>{escape(line.strip())}</p>" for line in lines)
    return "\n".join([f"<h2>{escape(title)}</h2>", *said])


def _html(table: Table) -> str:
    kinds = [' class="number"' if column in table.numbers else "" for column in table.columns]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, table.columns, strict=True))
    rows = (
        "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in table.rows
    )
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"
