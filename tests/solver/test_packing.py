"""Counting what fits on nodes."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_solver.packing import Size, is_nested, nodes_needed, patterns, per_node, rounded_up
from tests.solver.fleets import pool

NODE = pool("p", 1.0, gpus=8)  # 128 CPUs, 512 GiB


@pytest.mark.parametrize(
    ("size", "count"),
    [
        (Size(1, 0, 0), 8),
        (Size(3, 0, 0), 2),
        (Size(16, 0, 0), 0),
        (Size(1, 40.0, 0), 3),
        (Size(1, 0, 200.0), 2),
        (Size(0, 0, 0), 100),
    ],
)
def test_a_node_holds_what_its_scarcest_part_allows(size: Size, count: int) -> None:
    assert per_node(size, NODE) == count


def test_fractions_of_a_cpu_add_up_without_rounding_loss() -> None:
    assert per_node(Size(0, 0.1, 0), pool("p", 1.0, gpus=0)) == 100
    assert per_node(Size(0, 1.6, 0), pool("p", 1.0, gpus=0)) == 10


def test_only_dividing_gpu_counts_are_nested() -> None:
    assert is_nested([Size(1, 4, 16), Size(2, 8, 32), Size(8, 128, 512)], NODE)
    assert not is_nested([Size(2, 0, 0), Size(3, 0, 0)], NODE)
    assert not is_nested([Size(1, 20, 0)], NODE)
    assert not is_nested([Size(0, 1, 0)], NODE)


def test_patterns_are_the_fillings_to_which_nothing_can_be_added() -> None:
    found = patterns([Size(2, 0, 0), Size(3, 0, 0)], NODE, 100)
    assert found is not None
    assert sorted(found) == [(1, 2), (2, 1), (4, 0)]
    assert patterns([Size(n, 0.1 * n, 0) for n in range(1, 9)], NODE, 5) is None


def test_rounding_up_keeps_one_size_per_number_of_gpus() -> None:
    sizes = [Size(1, 2, 30), Size(1, 4, 10), Size(2, 1, 1)]
    assert set(rounded_up(sizes).values()) == {Size(1, 4, 30), Size(2, 1, 1)}


def test_nodes_are_counted_in_groups_however_many_replicas() -> None:
    assert nodes_needed({Size(4, 0, 0): 3}, pool("p", 1.0, gpus=6)) == 3
    assert nodes_needed({Size(4, 0, 0): 3, Size(1, 0, 0): 6}, pool("p", 1.0, gpus=6)) == 3
    assert nodes_needed({Size(1, 0, 0): 8 * 10**9 + 1}, NODE) == 10**9 + 1
    assert nodes_needed({Size(9, 0, 0): 1}, NODE) == inf
    assert nodes_needed({}, NODE) == 0


def test_a_node_takes_no_more_pods_than_the_kubelet_allows_whatever_their_sizes() -> None:
    tiny = {Size(0, 0.001, 0): 60, Size(0, 0.002, 0): 60}
    assert nodes_needed(tiny, pool("p", 1.0, gpus=0)) == 2


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(st.sampled_from([1, 2, 4, 8]), st.integers(1, 30), min_size=1), st.sampled_from([4, 6, 8]))
def test_counting_slots_is_exact_for_dividing_sizes(counts: dict[int, int], gpus: int) -> None:
    node = pool("p", 1.0, gpus=gpus)
    fitting = {size: n for size, n in counts.items() if size <= gpus}
    slots = [-(-sum(n * (s // slot) for s, n in fitting.items() if s >= slot) // (gpus // slot)) for slot in fitting]
    assert nodes_needed({Size(s, 0, 0): n for s, n in fitting.items()}, node) == max(slots, default=0)
