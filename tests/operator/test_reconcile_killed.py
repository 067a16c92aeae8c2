"""An operator that is killed at any write, or loses its lease: the next one comes to the same end."""

from collections.abc import Callable
from copy import deepcopy

import pytest
from fake_kube import FakeKubeApi, Key, Killed
from fleets import model, node, pool
from passes import START, Operator, settled

from motley_operator.errors import LeaseLost


def killed_after(write: int) -> Callable[[str, Key], None]:
    left = [write]

    def check(verb: str, key: Key) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    return check


def comes_to_the_same_end(start: FakeKubeApi) -> int:
    """Killed right after every single write, once in each run; returns how many writes there were."""
    kube, done = deepcopy(start), list[tuple[str, Key]]()
    kube.after_write = lambda verb, key: done.append((verb, key))
    Operator(kube).settle()
    expected = kube.state()
    for write in range(1, len(done) + 1):
        kube = deepcopy(start)
        kube.after_write = killed_after(write)
        with pytest.raises(Killed):
            Operator(kube).settle()
        kube.after_write = lambda verb, key: None
        Operator(kube).settle()
        assert kube.state() == expected, f"killed after write {write}: {done[write - 1]}"
    return len(done)


def test_killed_after_any_write_of_a_first_installation_the_end_is_the_same() -> None:
    assert comes_to_the_same_end(FakeKubeApi(*START)) > 30


def test_killed_after_any_write_of_a_roll_out_the_end_is_the_same() -> None:
    kube, _ = settled()
    kube.put(model("chat", {"engine": {"args": ["--seed=1"]}, "traffic": {"rate": "8"}}))
    kube.remove(("Model", "other", "talk"))
    assert comes_to_the_same_end(kube) > 10


def test_killed_after_any_write_of_a_drain_the_end_is_the_same() -> None:
    kube, _ = settled(*START, pool("b", {"maxNodes": 12, "pricePerNodeHour": "0.9"}))
    kube.put(*(node(f"b{number}", "b") for number in range(12)))
    kube.remove(("GPUPool", None, "l4"))
    assert comes_to_the_same_end(kube) > 10


# The lease


def test_without_the_lease_nothing_more_is_written_from_that_moment_on() -> None:
    _, writes = settled()[0], len(settled()[0].writes)
    for number in range(0, writes, 3):
        kube = FakeKubeApi(*START)

        def lost(verb: str, key: Key, kube: FakeKubeApi = kube, number: int = number) -> None:
            if len(kube.writes) >= number:
                raise LeaseLost("another replica acts now")

        kube.before_write = lost
        operator = Operator(kube)
        with pytest.raises(LeaseLost):
            for _ in range(5):
                operator.run()
                kube.run_pods()
        assert len(kube.writes) == number


def test_the_replica_that_takes_over_comes_to_the_same_end() -> None:
    kube, _ = settled()
    expected = kube.state()
    kube = FakeKubeApi(*START)

    def lost(verb: str, key: Key) -> None:
        if len(kube.writes) >= 9:
            raise LeaseLost("another replica acts now")

    kube.before_write = lost
    with pytest.raises(LeaseLost):
        Operator(kube).run()
    kube.before_write = lambda verb, key: None
    Operator(kube).settle()
    assert kube.state() == expected
