"""Do these replicas fit on so many nodes? The check's own packing, independent of the optimisation's: first-fit
decreasing in several orders, then a bounded search. It knows sizes only."""

from collections import Counter
from collections.abc import Iterator
from math import ceil

Need = tuple[float, float, float, float]  # GPUs, CPUs, GiB, pods

_STEPS = 20_000
_SEARCHED_NODES = 200


def times_in(need: Need, room: Need) -> int:
    """How many such replicas the room holds."""
    return min((int((have + 1e-9) / take) for take, have in zip(need, room, strict=True) if take > 0), default=0)


def packs(needs: Counter[Need], room: Need, nodes: int) -> bool:
    """`needs`: replicas by size; `room`: one empty node. False also where the bounded search gives up."""
    orders = (
        lambda need: need,
        lambda need: (need[1], need),
        lambda need: (need[2], need),
        lambda need: max(take / have if have else 0.0 for take, have in zip(need, room, strict=True)),
    )
    kinds = [sorted(needs, key=order, reverse=True) for order in orders]
    return any(_first_fit(needs, kind, room, nodes) for kind in kinds) or _search(needs, kinds[0], room, nodes)


def _minus(room: Need, need: Need, times: int) -> Need:
    gpus, cpus, memory, pods = room
    return gpus - need[0] * times, cpus - need[1] * times, memory - need[2] * times, pods - need[3] * times


def _first_fit(needs: Counter[Need], kinds: list[Need], room: Need, nodes: int) -> bool:
    rooms: list[tuple[Need, int]] = [(room, nodes)]  # equal nodes are kept as one entry with a count
    for kind in kinds:
        left = needs[kind]
        after: list[tuple[Need, int]] = []
        for free, count in rooms:
            times = min(times_in(kind, free), left)
            filled = min(count, left // times) if times else 0
            left -= filled * times
            after.append((_minus(free, kind, times), filled))
            rest = count - filled
            if times and rest and left:  # the last one is filled in part
                after.append((_minus(free, kind, left), 1))
                left, rest = 0, rest - 1
            after.append((free, rest))
        if left:
            return False
        rooms = sorted(((free, count) for free, count in after if count), key=lambda entry: entry[0])
    return True


def _fillings(left: tuple[int, ...], kinds: list[Need], free: Need) -> Iterator[tuple[int, ...]]:
    """Ways to fill one node from what is left, fullest first."""
    if not kinds:
        yield ()
        return
    for times in range(min(left[0], times_in(kinds[0], free)), -1, -1):
        for rest in _fillings(left[1:], kinds[1:], _minus(free, kinds[0], times)):
            yield (times, *rest)


def _search(needs: Counter[Need], kinds: list[Need], room: Need, nodes: int) -> bool:
    """Node by node; gives up (False) after a bounded number of steps."""
    steps = 0
    dead: set[tuple[tuple[int, ...], int]] = set()

    def place(left: tuple[int, ...], nodes_left: int) -> bool:
        nonlocal steps
        if not any(left):
            return True
        least = max(ceil(n / max(1, times_in(kind, room))) for n, kind in zip(left, kinds, strict=True))
        if nodes_left < least or (left, nodes_left) in dead:
            return False
        for filling in _fillings(left, kinds, room):
            steps += 1
            if steps > _STEPS:
                return False
            rest = tuple(n - times for n, times in zip(left, filling, strict=True))
            if rest != left and place(rest, nodes_left - 1):
                return True
        dead.add((left, nodes_left))
        return False

    return nodes <= _SEARCHED_NODES and place(tuple(needs[kind] for kind in kinds), nodes)
