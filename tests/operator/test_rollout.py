"""Roll-outs simulated to their end: nothing is taken away before its successor is up where there is room for both; and
single steps."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from fleets import deployed, plan
from rollouts import Cluster, Want, old, plan_for, roll_out, rolled_out, running

from motley_operator.rollout import PATIENCE, Step, crowded_pools, next_step

# Whole roll-outs


def test_a_first_roll_out_starts_everything() -> None:
    history = roll_out({"p": (4, 1)}, [], [Want("a", "p", 1, 3)])
    assert history.ready["a"][-1] == 3


def test_where_there_is_room_the_new_are_up_before_the_old_go() -> None:
    history = roll_out({"p": (8, 1)}, [old("a", "p", 1, 4)], [Want("a", "p", 1, 4)])
    assert min(history.ready["a"]) == 4 and max(history.ready["a"]) == 8


def test_on_a_full_pool_a_quarter_makes_room_at_a_time() -> None:
    history = roll_out({"p": (8, 1)}, [old("a", "p", 1, 8)], [Want("a", "p", 1, 8)])
    assert min(history.ready["a"]) == 6


def test_a_single_replica_on_a_full_pool_is_replaced_with_a_gap() -> None:
    history = roll_out({"p": (1, 1)}, [old("a", "p", 1, 1)], [Want("a", "p", 1, 1)])
    assert min(history.ready["a"]) == 0 and history.ready["a"][-1] == 1


def test_two_models_change_places_without_waiting_for_each_other_for_ever() -> None:
    history = roll_out(
        {"p": (2, 1), "q": (2, 1)},
        [old("a", "p", 1, 2), old("b", "q", 1, 2)],
        [Want("a", "q", 1, 2), Want("b", "p", 1, 2)],
    )
    assert history.ready["a"][-1] == history.ready["b"][-1] == 2


def test_a_swap_between_one_large_and_many_small_replicas_ends() -> None:
    roll_out(
        {"p": (2, 4), "q": (8, 1)},
        [old("a", "p", 4, 2), old("b", "q", 1, 8)],
        [Want("a", "q", 1, 8), Want("b", "p", 4, 2)],
    )


def test_few_large_replicas_give_way_to_many_small_ones() -> None:
    history = roll_out({"p": (2, 4)}, [old("a", "p", 4, 2)], [Want("a", "p", 1, 8)])
    assert min(history.ready["a"]) >= 1


def test_many_small_replicas_give_way_to_few_large_ones() -> None:
    roll_out({"p": (3, 4)}, [old("a", "p", 2, 6)], [Want("a", "p", 4, 3)])


def test_two_leaving_groups_on_a_full_pool_both_make_room() -> None:
    """As after a change in the middle of a roll-out."""
    roll_out({"p": (4, 1)}, [old("a", "p", 1, 2, "old"), old("a", "p", 1, 2, "older")], [Want("a", "p", 1, 4)])


def test_what_serves_stays_longer_than_what_never_started() -> None:
    cluster = running(Cluster({"p": (4, 1)}), [old("a", "p", 1, 4, "serves")])
    cluster.put(deployed(old("a", "p", 1, 4, "broken").group), 4)  # a change that found no room
    history = rolled_out(cluster, [Want("a", "p", 1, 4)])
    assert min(history.ready["a"]) >= 2


def test_a_model_moves_to_another_pool_whose_nodes_come_late() -> None:
    cluster = running(Cluster({"p": (2, 1), "q": (0, 1)}), [old("a", "p", 1, 2)])
    new = [Want("a", "q", 1, 2)]
    groups, wanted = [want.group for want in new], plan_for(new, cluster.pools)
    for _ in range(50):
        cluster.apply(groups, next_step(groups, cluster.view(), wanted))
        cluster.tick()
        assert cluster.ready("a") == 2, "nothing is taken away while the nodes are not there"
    cluster.pools = {"p": (2, 1), "q": (2, 1)}
    assert min(rolled_out(cluster, new).ready["a"]) == 2


def test_growing_and_shrinking_one_group_needs_no_other() -> None:
    assert min(roll_out({"p": (8, 1)}, [old("a", "p", 1, 2)], [old("a", "p", 1, 6)]).ready["a"]) == 2
    assert min(roll_out({"p": (8, 1)}, [old("a", "p", 1, 6)], [old("a", "p", 1, 2)]).ready["a"]) == 2


def test_a_group_that_shrinks_waits_for_the_one_that_takes_over() -> None:
    new = [old("a", "p", 1, 1), Want("a", "q", 1, 3)]
    assert min(roll_out({"p": (4, 1), "q": (3, 1)}, [old("a", "p", 1, 4)], new).ready["a"]) == 4


def test_another_models_roll_out_is_not_waited_for() -> None:
    new = [Want("a", "p", 1, 2), old("b", "q", 1, 2)]
    history = roll_out({"p": (2, 1), "q": (2, 1)}, [old("a", "p", 1, 2), old("b", "q", 1, 2)], new)
    assert min(history.ready["b"]) == 2


def test_the_end_of_a_model_takes_everything_away() -> None:
    cluster = running(Cluster({"p": (2, 1)}), [old("a", "p", 1, 2)])
    step = next_step([], cluster.view(), plan(1))
    assert [one.name for one in step.gone] == ["a-p-tp1-old"] and not step.shrinking


# Single steps


def step_of(cluster: Cluster, new: Sequence[Want], held: Iterable[str] = ()) -> Step:
    return next_step([want.group for want in new], cluster.view(), plan_for(new, cluster.pools), held)


def test_a_held_model_is_left_alone() -> None:
    cluster = running(Cluster({"p": (4, 1)}), [old("a", "p", 1, 2), old("b", "p", 1, 2)])
    step = step_of(cluster, [Want("a", "p", 1, 2)], held=["team/b"])
    assert [one.model for one, _ in step.shrinking] == ["a"] and not step.gone


def test_a_pool_is_crowded_only_after_some_patience_and_with_all_its_nodes() -> None:
    cluster = running(Cluster({"p": (2, 1)}), [old("a", "p", 1, 2)])
    new = [Want("a", "p", 1, 2)]
    cluster.apply([want.group for want in new], step_of(cluster, new))
    cluster.tick()
    wanted = plan_for(new, cluster.pools)
    assert not crowded_pools(cluster.view(), wanted), "it has only just been tried"
    cluster.now += PATIENCE
    assert crowded_pools(cluster.view(), wanted) == {"p"}
    missing = replace(cluster.view(), nodes=cluster.view().nodes[:1])
    assert not crowded_pools(missing, wanted), "the second node may still come"


def test_a_step_is_the_same_for_everyone_who_looks() -> None:
    cluster = running(Cluster({"p": (4, 1)}), [old("a", "p", 1, 4)])
    new = [Want("a", "p", 1, 4), Want("b", "p", 1, 1)]
    assert step_of(cluster, new) == step_of(cluster, list(reversed(new)))


@pytest.mark.parametrize("replicas", [0, 3])
def test_a_leaving_group_without_replicas_goes_at_once(replicas: int) -> None:
    cluster = Cluster({"p": (4, 1)})
    cluster.put(deployed(old("a", "p", 1, 1).group), replicas)
    step = step_of(cluster, [Want("a", "p", 1, 1)])
    assert (len(step.gone), len(step.shrinking)) == ((1, 0) if not replicas else (0, 1))
