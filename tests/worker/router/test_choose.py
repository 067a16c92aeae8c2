"""The plan's shares hold, also with engines away; which size a request has; who gets it within a backend."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motley_worker.router.choose import choose, size_of
from motley_worker.router.tables import Endpoint, Route, Size, Slo

A1, A2, B1, C1 = (Endpoint(f"10.0.0.{number}", 8000) for number in range(1, 5))
SMALL = Size(input_tokens=100, output_tokens=100, shares=(0.5, 0.3, 0.2))
LONG_ANSWER = Size(input_tokens=100, output_tokens=1000, shares=(0.0, 1.0, 0.0))
LARGE = Size(input_tokens=1000, output_tokens=100, shares=(0.0, 0.0, 1.0))
SIZES = (SMALL, LONG_ANSWER, LARGE)


def route(*backends: Sequence[Endpoint]) -> Route:
    slo = Slo(ttft_seconds=1, tpot_seconds=1)
    return Route("tiny", "default/tiny", 0, slo, SIZES, tuple(tuple(backend) for backend in backends))


def picks(route: Route, size: Size | None, count: int = 10_000, seed: int = 7) -> Counter[Endpoint | None]:
    random = Random(seed)
    return Counter(choose(route, size, {}, (), (), random) for _ in range(count))


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "size"),
    [
        (0, 0, SMALL),
        (100, 100, SMALL),
        (100, 101, LONG_ANSWER),
        (101, 1, LARGE),
        (1001, 1, LARGE),
        (1, 1001, LONG_ANSWER),
    ],
)
def test_a_request_has_the_smallest_size_of_its_input_that_holds_it_else_the_largest(
    input_tokens: int, output_tokens: int, size: Size
) -> None:
    assert size_of(SIZES, input_tokens, output_tokens) is size


def test_backends_get_the_shares_of_the_plan() -> None:
    counted = picks(route([A1], [B1], [C1]), SMALL)
    for endpoint, share in ((A1, 0.5), (B1, 0.3), (C1, 0.2)):
        spread = (10_000 * share * (1 - share)) ** 0.5
        assert abs(counted[endpoint] - 10_000 * share) < 4 * spread


def test_the_shares_of_living_backends_keep_their_proportions() -> None:
    counted = picks(route([], [B1], [C1]), SMALL)
    spread = (10_000 * 0.6 * 0.4) ** 0.5
    assert abs(counted[B1] - 6000) < 4 * spread
    assert counted[B1] + counted[C1] == 10_000


def test_the_same_random_source_makes_the_same_choices() -> None:
    three = route([A1, A2], [B1], [C1])
    assert picks(three, SMALL, seed=3) == picks(three, SMALL, seed=3)


def test_any_living_backend_serves_when_those_of_the_plan_are_away() -> None:
    assert set(picks(route([A1], [], [C1]), LONG_ANSWER, count=100)) == {A1, C1}


def test_a_table_without_sizes_uses_all_endpoints() -> None:
    assert set(picks(route([A1, A2], [B1]), None, count=100)) == {A1, A2, B1}


def test_the_endpoint_with_the_fewest_outstanding_requests_is_chosen() -> None:
    random = Random(1)
    assert choose(route([A1, A2], [], []), SMALL, {A1: 2, A2: 1}, (), (), random) == A2
    assert choose(route([A1, A2], [], []), SMALL, {A2: 1}, (), (), random) == A1


def test_endpoints_that_do_not_answer_are_never_chosen() -> None:
    assert choose(route([A1], [B1], []), SMALL, {}, {A1, B1}, (), Random(1)) is None


def test_an_endpoint_that_failed_this_request_is_chosen_only_if_nothing_else_is_left() -> None:
    two = route([A1], [B1], [])
    assert choose(two, SMALL, {}, (), {A1}, Random(1)) == B1
    assert choose(two, SMALL, {}, {B1}, {A1}, Random(1)) == A1


endpoints = st.lists(st.sampled_from([A1, A2, B1, C1]), max_size=4, unique=True)


@given(st.tuples(endpoints, endpoints, endpoints), st.sampled_from(SIZES), st.sets(st.sampled_from([A1, A2, B1, C1])))
def test_something_is_chosen_exactly_if_something_lives(
    backends: tuple[list[Endpoint], ...], size: Size, avoid: set[Endpoint]
) -> None:
    living = {endpoint for backend in backends for endpoint in backend} - avoid
    chosen = choose(route(*backends), size, {}, avoid, (), Random(1))
    assert chosen in living if living else chosen is None
