"""The table shows what is there to be shown: columns that would be empty are left out."""

from typing import Any

from motley_operator.cli.render import headline, plain

Json = dict[str, Any]


def report(role: str = "Aggregated", reserved: int = 0, switching: float = 0.0) -> Json:
    place = {"pool": "h100", "gpu": "H100", "tensorParallel": 1, "role": role, "replicas": 2}
    predicted = {"attainment": 1.0, "target": 0.99, "met": True, "estimated": False, "error": 0.1}
    model = {"model": "team/chat", "rate": 1.0, "served": 1.0, "costPerHour": 8.0, "predicted": predicted}
    pool = {"pool": "h100", "gpu": "H100", "nodes": 2, "maxNodes": 4, "pricePerNodeHour": 4.0, "costPerHour": 8.0}
    return {
        "status": "Planned",
        "reasons": [],
        "costPerHour": 8.0,
        "switchingPerHour": switching,
        "riskPerHour": 0.0,
        "objective": 8.0 + switching,
        "lowerBound": 8.0 + switching,
        "proven": True,
        "pools": [{**pool, "reservedNodes": reserved}],
        "models": [{**model, "allocations": [place], "assignment": []}],
        "comparisons": [{"gpu": "H100", "costPerHour": 8.0, "saving": 0.0, "reason": ""}],
        "unserved": [],
        "refused": [],
    }


def columns(text: str) -> list[list[str]]:
    return [part.splitlines()[0].split() for part in text.split("\n\n")[1:]]


def test_roles_and_reservations_are_columns_only_where_there_are_some() -> None:
    assert columns(plain(report())) == [
        ["MODEL", "REPLICAS", "GPU", "TP", "POOL", "COST/H", "SERVED", "PREDICTED"],
        ["POOL", "GPU", "NODES", "PRICE/NODE-H", "COST/H"],
        ["SINGLE", "TYPE", "COST/H", "SAVING"],
    ]
    models, pools, _ = columns(plain(report(role="Prefill", reserved=1)))
    assert models == ["MODEL", "REPLICAS", "GPU", "TP", "POOL", "ROLE", "COST/H", "SERVED", "PREDICTED"]
    assert pools == ["POOL", "GPU", "NODES", "RESERVED", "PRICE/NODE-H", "COST/H"]


def test_what_is_counted_beside_the_bill_is_in_the_first_line() -> None:
    assert headline(report()) == "Planned: 8.00 per hour (lower bound 8.00, proven optimal)"
    assert headline(report(switching=0.5)) == (
        "Planned: 8.00 per hour (with switching and risk 8.50, lower bound 8.50, proven optimal)"
    )


def test_changes_come_before_the_explanation() -> None:
    nothing = {"costPerHour": {"from": 8.0, "to": 8.0}, "inputs": [], "served": [], "replicas": [], "nodes": []}
    said = {"text": [{"title": "What binds", "lines": ["One.", "Two."]}]}
    text = plain({**report(), "changes": {**nothing, "shares": []}, "explanation": said})
    assert text.endswith("\n\nCHANGES\nThe plan stays the same.\n\nWHAT BINDS\nOne.\nTwo.")
