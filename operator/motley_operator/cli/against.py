"""What would change: the report of an earlier `motley plan -o json` against the present one. It reads and compares
reports; what each of them was decided from is known only as far as they say."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from motley_operator.cli.jsoninput import BadInput, key, kind_of, mapping, number, object_in, required, whole
from motley_operator.cli.numbers import percent, significant

Json = dict[str, Any]

_MOVED = 0.005
"""Shares that differ by less are the same."""
NAMED = 20
"""So many moved shares are named in words."""


# --- the earlier report ---


def earlier_report(path: str) -> Json:
    """The report in a file, `-` for standard input; BadInput, one line with file and key, where it is none."""
    try:
        found = object_in(path)
        _check(found)
    except BadInput as error:
        raise BadInput(f"{'<stdin>' if path == '-' else path}: {error}") from error
    return found


def _check(found: Json) -> None:
    """What is compared is there and of its type."""
    if (cost := required(found, "costPerHour")) is not None:
        number(cost, "costPerHour")
    for name, value in mapping(found.get("inputs", {}), "inputs").items():
        _text(value, "inputs", name)
    for where, pool in _rows(found, "pools"):
        _text(required(pool, "pool", *where), *where, "pool")
        for name in ("nodes", "maxNodes"):
            whole(required(pool, name, *where), *where, name)
        number(required(pool, "pricePerNodeHour", *where), *where, "pricePerNodeHour")
    for where, model in _rows(found, "models"):
        _check_model(model, where)


def _check_model(model: Mapping[str, Any], where: "_Where") -> None:
    _text(required(model, "model", *where), *where, "model")
    for name in ("rate", "served"):
        number(required(model, name, *where), *where, name)
    for here, allocation in _rows(model, "allocations", *where):
        _place(allocation, here)
        whole(required(allocation, "replicas", *here), *here, "replicas")
    for here, size in _rows(model, "assignment", *where):
        for name in ("inputTokens", "outputTokens"):
            whole(required(size, name, *here), *here, name)
        number(required(size, "rate", *here), *here, "rate")
        for place, share in _rows(size, "shares", *here):
            _place(share, place)
            number(required(share, "share", *place), *place, "share")


_Where = tuple[str | int, ...]


def _rows(value: Mapping[str, Any], name: str, *where: str | int) -> Iterator[tuple[_Where, Mapping[str, Any]]]:
    found = required(value, name, *where)
    if not isinstance(found, list):
        raise BadInput(f"{key(*where, name)}: must be a list, not {kind_of(found)}")
    for index, row in enumerate(found):
        here = (*where, name, index)
        yield here, mapping(row, *here)


def _place(row: Mapping[str, Any], where: _Where) -> None:
    _text(required(row, "pool", *where), *where, "pool")
    whole(required(row, "tensorParallel", *where), *where, "tensorParallel")
    _text(row.get("role", ""), *where, "role")


def _text(value: Any, *where: str | int) -> None:
    if not isinstance(value, str):
        raise BadInput(f"{key(*where)}: must be text, not {kind_of(value)}")


# --- what differs ---


def changes(earlier: Json, now: Json) -> Json:
    """From the earlier report to this one; lists hold only what differs. Without a plan now nothing changes."""
    inputs = list(_inputs(earlier, now))
    now = now if _planned(now) else {**earlier, "costPerHour": None}
    return {
        "costPerHour": {"from": earlier["costPerHour"], "to": now["costPerHour"]},
        "inputs": inputs,
        "served": _differing(_served(earlier), _served(now), ("model",)),
        "replicas": _differing(_replicas(earlier), _replicas(now), ("model", *_PLACE)),
        "nodes": _differing(_nodes(earlier), _nodes(now), ("pool",)),
        "shares": _differing(_shares(earlier), _shares(now), ("model", "inputTokens", "outputTokens", *_PLACE), _MOVED),
    }


def _planned(report: Json) -> bool:
    return report["costPerHour"] is not None


_PLACE = ("pool", "tensorParallel", "role")
_Numbers = Mapping[tuple[Any, ...], float]


def _differing(earlier: _Numbers, now: _Numbers, names: tuple[str, ...], least: float = 1e-9) -> list[Json]:
    keys = sorted({*earlier, *now})
    pairs = ((key, earlier.get(key, 0), now.get(key, 0)) for key in keys)
    return [
        {**dict(zip(names, key, strict=True)), "from": before, "to": after}
        for key, before, after in pairs
        if abs(after - before) >= least
    ]


def _of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["pool"], row["tensorParallel"], row.get("role") or "Aggregated"


def _served(report: Json) -> _Numbers:
    return {(model["model"],): model["served"] for model in report["models"]}


def _replicas(report: Json) -> _Numbers:
    return {(m["model"], *_of(one)): one["replicas"] for m in report["models"] for one in m["allocations"]}


def _nodes(report: Json) -> _Numbers:
    return {(pool["pool"],): pool["nodes"] for pool in report["pools"]}


def _shares(report: Json) -> _Numbers:
    return {
        (model["model"], size["inputTokens"], size["outputTokens"], *_of(share)): share["share"]
        for model in report["models"]
        for size in model["assignment"]
        for share in size["shares"]
    }


# --- why ---


def _inputs(earlier: Json, now: Json) -> Iterator[Json]:
    """Which objects differ, and in what as far as the reports hold it. Without fingerprints only that can be told."""
    before, after = earlier.get("inputs", {}), now["inputs"]
    said = dict(_said(earlier, now)) if _planned(earlier) and _planned(now) else {}
    for name in sorted({*before, *after, *said}):
        if name in said:
            yield {"object": name, "change": said[name]}
        elif before and name not in before:
            yield {"object": name, "change": "added"}
        elif before and name not in after:
            yield {"object": name, "change": "removed"}
        elif before and before[name] != after[name]:
            yield {"object": name, "change": "changed"}


def _said(earlier: Json, now: Json) -> Iterator[tuple[str, str]]:
    """What differs in what the reports say of pools and models that are in both; what is in one only is new or gone."""
    old, new = _pools(earlier), _pools(now)
    for pool in sorted({*old, *new}):
        if words := _difference(old.get(pool), new.get(pool), {"pricePerNodeHour": "{:.6g}", "maxNodes": "{:g}"}):
            yield f"GPUPool {pool}", words
    old, new = _models(earlier), _models(now)
    for model in sorted({*old, *new}):
        words = _difference(old.get(model), new.get(model), {"rate": "{:.4g}/s"})
        if not words and _mix(old[model]) != _mix(new[model]):
            words = "other sizes or weights"
        if words:
            yield f"Model {model}", words


def _pools(report: Json) -> dict[str, Json]:
    return {one["pool"]: one for one in report["pools"]}


def _models(report: Json) -> dict[str, Json]:
    return {one["model"]: one for one in report["models"]}


def _difference(old: Json | None, new: Json | None, forms: Mapping[str, str]) -> str:
    if old is None or new is None:
        return "added" if old is None else "removed"
    parts = (
        f"{name} {form.format(old[name])} → {form.format(new[name])}"
        for name, form in forms.items()
        if abs(old[name] - new[name]) > 1e-6
    )
    return ", ".join(parts)


def _mix(model: Json) -> list[tuple[int, int, float]]:
    rate = model["rate"] or 1.0
    return sorted((s["inputTokens"], s["outputTokens"], round(s["rate"] / rate, 6)) for s in model["assignment"])


# --- for people ---


def lines_of(found: Json) -> Iterator[str]:
    """The changes in sentences, why first."""
    inputs: Iterable[Json] = found["inputs"]
    yield from (f"Because: {one['object']} {one['change']}" for one in inputs)
    same = (
        "The plan stays the same."
        if found["costPerHour"]["to"] is not None
        else "There is no plan: all stays as it is."
    )
    yield from list(_of_plan(found)) or [same]


def _of_plan(found: Json) -> Iterator[str]:
    cost = found["costPerHour"]
    if cost["from"] is not None and cost["to"] is not None and abs(cost["to"] - cost["from"]) >= 0.005:
        yield f"Cost per hour: {cost['from']:.2f} → {cost['to']:.2f} ({cost['to'] - cost['from']:+.2f})"
    yield from (f"Nodes of {one['pool']}: {one['from']} → {one['to']}" for one in found["nodes"])
    yield from (
        f"{one['model']}: {significant(one['from'], 4)} → {significant(one['to'], 4)} requests/s served"
        for one in found["served"]
    )
    yield from (f"{one['model']}: replicas {_at(one)}: {one['from']} → {one['to']}" for one in found["replicas"])
    shares: list[Json] = found["shares"]
    for one in shares[:NAMED]:
        size = f"{one['inputTokens']}+{one['outputTokens']}"
        yield f"{one['model']}: {size} {_at(one)}: {percent(one['from'])} → {percent(one['to'])}"
    if len(shares) > NAMED:
        yield f"{len(shares) - NAMED} more shares move; -o json lists them"


def _at(one: Json) -> str:
    role = "" if one["role"] == "Aggregated" else f" ({one['role'].lower()})"
    return f"on {one['pool']} TP{one['tensorParallel']}{role}"
