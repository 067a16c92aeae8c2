"""Numbers as people read them."""

import pytest

from motley_operator.cli.numbers import percent, significant


@pytest.mark.parametrize(
    ("value", "found"),
    [(0.0, "0"), (7e-7, "0.0000007"), (0.02, "0.02"), (1.2345, "1.23"), (999.9, "1000"), (12042.3, "12042")],
)
def test_a_number_has_no_exponent(value: float, found: str) -> None:
    assert significant(value) == found


@pytest.mark.parametrize(
    ("share", "found"),
    [(0.0, "0%"), (0.00004, "0.004%"), (0.003, "0.3%"), (0.42, "42%"), (0.9966, "99.7%"), (1 - 1e-9, "100%")],
)
def test_a_share_is_neither_nothing_nor_all_unless_it_is(share: float, found: str) -> None:
    assert percent(share) == found
