"""What attains an SLO, what counts, and the window it is counted in."""

import pytest
from fake_openai_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from router_harness import RunningRouter, table_json

from motley_worker.router.slo import Served, Window, attains, counts
from motley_worker.router.tables import Slo

SLO = Slo(ttft_seconds=1.0, ttft_seconds_per_thousand_input_tokens=0.5, tpot_seconds=0.1)


@pytest.mark.parametrize(
    ("served", "attained"),
    [
        (Served(0, 11, ttft=1.0, total=2.0, streamed=True), True),
        (Served(0, 11, ttft=1.01, total=2.0, streamed=True), False),
        (Served(0, 11, ttft=0.5, total=1.6, streamed=True), False),
        (Served(2000, 11, ttft=2.0, total=2.5, streamed=True), True),
        (Served(0, 1, ttft=0.9, total=9.0, streamed=True), True),
        (Served(0, 11, ttft=2.0, total=2.0, streamed=False), True),
        (Served(0, 11, ttft=2.1, total=2.1, streamed=False), False),
        (Served(0, 0, ttft=1.0, total=1.0, streamed=False), True),
    ],
)
def test_both_the_first_token_and_the_pace_must_be_in_time(served: Served, attained: bool) -> None:
    assert attains(SLO, served) is attained


def test_the_clients_errors_do_not_count_and_being_turned_away_does() -> None:
    assert [code for code in (200, 400, 404, 413, 422, 429, 499, 500, 503) if counts(code)] == [200, 429, 500, 503]


def test_the_window_holds_five_minutes() -> None:
    window = Window()
    window.add(1000.0, True)
    window.add(1100.0, False)
    window.add(1299.0, True)
    assert window.attained_and_attempted(1299.0) == (2, 3)
    assert window.attained_and_attempted(1306.0) == (1, 2)
    assert window.attained_and_attempted(1500.0) == (1, 1)
    assert window.attained_and_attempted(9999.0) == (0, 0)


@given(st.lists(st.tuples(st.floats(0, 60), st.booleans()), max_size=50))
def test_the_window_counts_what_is_young_enough_and_nothing_else(steps: list[tuple[float, bool]]) -> None:
    window, now, added = Window(), 0.0, []
    for pause, attained in steps:
        now += pause
        added.append((now, attained))
        window.add(now, attained)
    _, attempted = window.attained_and_attempted(now)
    assert len([1 for at, _ in added if at > now - 300]) <= attempted <= len([1 for at, _ in added if at > now - 306])


async def test_streams_fill_the_histograms_and_whole_responses_only_the_window(
    router: RunningRouter, engine: FakeEngine
) -> None:
    await router.ask(stream=True)
    await router.ask()
    assert router.metric("motley_router_ttft_seconds_count", model="default/tiny") == 1
    assert router.metric("motley_router_tpot_seconds_count", model="default/tiny") == 1
    assert router.metric("motley_router_slo_window_requests", model="default/tiny") == 2
    assert router.metric("motley_router_slo_attainment_ratio", model="default/tiny") == 1


async def test_without_traffic_there_is_no_attainment(router: RunningRouter, engine: FakeEngine) -> None:
    assert "motley_router_slo_attainment_ratio{" not in (await router.http.get("/metrics")).text


async def test_a_first_token_that_comes_late_is_a_miss(router: RunningRouter, engine: FakeEngine) -> None:
    table = table_json(backends=[("service-0", engine.port)])
    table["spec"]["slo"] = {"ttftSeconds": 0.0, "tpotSeconds": 1.0, "attainment": 0.99}
    router.put_table(table)
    for _ in range(2):
        assert (await router.ask(stream=True)).status_code == 200
    assert router.metric("motley_router_slo_attainment_ratio", model="default/tiny") == 0
    assert router.metric("motley_router_slo_window_requests", model="default/tiny") == 2
