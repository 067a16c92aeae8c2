"""What the routers measured, and what else may answer at their addresses."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fake_api_server import Answer, FakeApiServer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from motley_operator import traffic
from motley_operator.fleet import TrafficView
from motley_operator.traffic import ATTAINMENT, REQUESTS, merged, observed


def metrics(model: str = "team/chat", attainment: object = 0.5, requests: object = 10) -> str:
    return (
        f"# TYPE {ATTAINMENT} gauge\n"
        f'{ATTAINMENT}{{model="{model}"}} {attainment}\n'
        f"# TYPE {REQUESTS} gauge\n"
        f'{REQUESTS}{{model="{model}"}} {requests}\n'
    )


def test_one_router_says_it_all() -> None:
    assert merged([metrics()]) == {"team/chat": TrafficView(10, 0.5)}


def test_several_routers_are_weighted_by_their_requests() -> None:
    found = merged([metrics(attainment=1, requests=30), metrics(attainment=0.5, requests=10), metrics("b/c", 0.2, 5)])
    assert found == {"team/chat": TrafficView(40, 0.875), "b/c": TrafficView(5, pytest.approx(0.2))}


def test_nobody_says_nothing() -> None:
    assert merged([]) == merged([""]) == {}


@pytest.mark.parametrize(
    ("attainment", "requests"),
    [("NaN", 10), ("NaN", 0), (0.5, 0), (0.5, -3), (0.5, "NaN"), (0.5, "+Inf"), ("+Inf", 10), (1.5, 10), (-0.1, 10)],
)
def test_without_sound_numbers_there_is_no_traffic(attainment: object, requests: object) -> None:
    assert merged([metrics(attainment=attainment, requests=requests)]) == {}


def test_one_routers_nonsense_does_not_spoil_the_others() -> None:
    found = merged(["<html>not here</html>", metrics(attainment="NaN", requests="NaN"), metrics()])
    assert found == {"team/chat": TrafficView(10, 0.5)}


def test_a_part_without_its_counterpart_counts_nothing() -> None:
    ratio, count = metrics().split("# TYPE " + REQUESTS)
    assert merged([ratio]) == merged(["# TYPE " + REQUESTS + count]) == {}


def test_samples_without_a_model_or_of_other_metrics_are_passed_over() -> None:
    others = f'{ATTAINMENT} 0.1\nmotley_router_requests_total{{model="team/chat",code="200"}} 7\n'
    assert merged([others + metrics()]) == {"team/chat": TrafficView(10, 0.5)}


@pytest.mark.parametrize(
    "text", ["\x00", "{}{}{}", "# TYPE", "# TYPE a b", "a{", 'a{b="', "a 1 2 3", "�" * 9, "a" * 99999]
)
def test_a_text_that_is_no_metrics_is_left_out(text: str) -> None:
    assert merged([text]) == {}


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='{}"=#, \n\\abTYPEHL01.eN', max_size=80))
@example('a{b="c')
@example("# HELP a \\")
def test_no_text_stops_the_pass(text: str) -> None:
    assert set(merged([text, metrics()])) <= {"team/chat"}


@pytest.fixture
def routers() -> Iterator[list[str]]:
    """Addresses."""
    answers = [
        Answer(200, metrics(attainment=1).encode()),
        Answer(500, metrics("wrong/one").encode()),
        Answer(200, b"\xff\xfe not metrics"),
        Answer(200, metrics(attainment=0.5).encode()),
    ]
    with ExitStack() as running:
        yield [running.enter_context(FakeApiServer(one)).url.removeprefix("http://") for one in answers]


def test_a_router_that_answers_wrongly_or_not_at_all_is_left_out(
    routers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # the cluster's own addresses need no proxy
    found = observed([*routers, "127.0.0.1:1"])
    assert found == {"team/chat": TrafficView(20, 0.75)}


def test_without_routers_nothing_is_asked() -> None:
    assert observed([]) == {}
