"""Quantities: what is a duration, memory, CPU or a decimal, and how much it is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from motley_operator.api.quantities import Cpu, Decimal, Duration, Memory, cores, gib, seconds


@pytest.mark.parametrize(("text", "value"), [("500ms", 0.5), ("1.5s", 1.5), ("2m", 120), ("1h", 3600), ("0.5ms", 5e-4)])
def test_durations_are_seconds(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("80Gi", 80), ("512Mi", 0.5), ("1Ti", 1024), ("1073741824", 1), ("16G", 14.901161), ("1024Ki", 2**-10), ("0", 0)],
)
def test_memory_is_gib(text: str, value: float) -> None:
    assert gib(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("4", 4), ("0.5", 0.5), ("500m", 0.5), ("1500m", 1.5)])
def test_cpu_is_cores(text: str, value: float) -> None:
    assert cores(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "1", "1d", "-1s", "1 s", "1e3s", "1s1s", ".5s", "1.s", "5S", "١s", "1s\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(text)


@pytest.mark.parametrize("text", ["", "Gi", "1GB", "-1Gi", "1 Gi", "1gi", "1e3", "1Ei", "80Gi\n"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Memory).validate_python(text)


@pytest.mark.parametrize("text", ["", "m", "1k", "-1", "1.", ".5", "1mm", "4\n"])
def test_what_is_no_cpu_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Cpu).validate_python(text)


@pytest.mark.parametrize("text", ["", "-1", "1e5", "1,5", "1.", ".5", "NaN", "inf", "1" * 13, "0." + "1" * 10, "1\n"])
def test_what_is_no_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Decimal).validate_python(text)


@pytest.mark.parametrize("read", [seconds, gib])
def test_an_unreadable_quantity_is_named_with_an_example(read: object) -> None:
    with pytest.raises(ValueError, match=r"'much' is not a .* such as"):
        read("much")  # type: ignore[operator]


@settings(max_examples=30, deadline=None)
@given(st.from_regex(r"[0-9]{1,5}(\.[0-9]{1,3})?(ms|s|m|h)", fullmatch=True))
def test_every_duration_that_the_schema_lets_through_can_be_read(text: str) -> None:
    TypeAdapter(Duration).validate_python(text)
    assert seconds(text) >= 0


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=16))
def test_what_the_schema_lets_through_can_be_read(text: str) -> None:
    for kind, read in ((Duration, seconds), (Memory, gib), (Cpu, cores), (Decimal, float)):
        try:
            TypeAdapter(kind).validate_python(text)
        except ValidationError:
            continue
        assert read(text) >= 0
