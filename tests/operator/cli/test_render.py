"""The table shows what is there to be shown: columns that would be empty are left out."""

from typing import Any

from motley_operator.cli.render import Table, aligned, headline, plain

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


WHY = Table(("TYPE", "COST/H", "WHY NOT"), (("H100", "-", "one two three four five six seven eight nine"),))


def test_what_is_too_long_is_broken_into_lines_where_it_stands() -> None:
    assert list(aligned(WHY, 50)) == [
        "TYPE   COST/H   WHY NOT",
        "H100   -        one two three four five six seven",
        "                eight nine",
    ]


def test_what_has_no_room_beside_the_row_stands_below_it() -> None:
    assert list(aligned(WHY, 40)) == [
        "TYPE   COST/H",
        "    WHY NOT",
        "H100   -",
        "    one two three four five six seven",
        "    eight nine",
    ]


def test_names_and_numbers_are_never_cut() -> None:
    table = Table(("A", "B"), (("a-very-long-name", "12345678"),), frozenset({"B"}))
    assert list(aligned(table, 10)) == ["A                         B", "a-very-long-name   12345678"]


def test_on_a_terminal_sentences_are_broken_and_keep_their_indent() -> None:
    said = {"text": [{"title": "Why", "lines": ["  one two three four five six"]}]}
    assert plain({**report(), "explanation": said}, 20).endswith("WHY\n  one two three four\n    five six")
    assert plain({**report(), "explanation": said}).endswith("WHY\n  one two three four five six")


def test_where_nothing_is_planned_no_cost_is_proven() -> None:
    assert headline({**report(), "models": [], "status": "Incomplete"}) == "Incomplete: nothing is planned"


def test_what_single_types_cost_is_said_to_be_for_as_much_where_something_is_left_out() -> None:
    left = {"model": "team/chat", "inputTokens": 1, "outputTokens": 1, "rate": 1e-7, "reason": "no room"}
    *_, single, unserved = plain({**report(), "unserved": [left]}).split("\n\n")
    assert single.startswith("SINGLE TYPE, SERVING AS MUCH")
    assert "0.0000001/s" in unserved


def test_changes_come_before_the_explanation() -> None:
    nothing = {"costPerHour": {"from": 8.0, "to": 8.0}, "inputs": [], "served": [], "replicas": [], "nodes": []}
    said = {"text": [{"title": "What binds", "lines": ["One.", "Two."]}]}
    text = plain({**report(), "changes": {**nothing, "shares": []}, "explanation": said})
    assert text.endswith("\n\nCHANGES\nThe plan stays the same.\n\nWHAT BINDS\nOne.\nTwo.")
