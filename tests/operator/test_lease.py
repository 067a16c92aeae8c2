"""Who acts: takeover only when stale, no right to write after two thirds, conflicts, giving back. The clock is the
test's own, and the API an object in memory."""

import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from clocks import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from motley_operator.errors import ApiError, Conflict, LeaseLost, NotFound, Unreachable
from motley_operator.lease import NAME, Lease


class FakeLeaseApi:
    """One Lease with optimistic concurrency; `trouble` is raised by the next calls, `lost` after having acted."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.trouble: ApiError | None = None
        self.lost: ApiError | None = None

    def get(self, kind: str, namespace: str | None, name: str) -> dict[str, Any]:
        assert (kind, name) == ("Lease", NAME)
        if self.trouble:
            raise self.trouble
        if self.lease is None:
            raise NotFound("no lease")
        return deepcopy(self.lease)

    def create_unguarded(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.trouble:
            raise self.trouble
        if self.lease is not None:
            raise Conflict("exists")
        return self._written(manifest)

    def replace(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.trouble:
            raise self.trouble
        if self.lease is None:
            raise NotFound("gone")
        if manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("somebody was faster")
        return self._written(manifest)

    def _written(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        if self.lost:
            raise self.lost
        return deepcopy(self.lease)

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        found: dict[str, Any] = self.lease["spec"]
        return found


@pytest.fixture
def api() -> FakeLeaseApi:
    return FakeLeaseApi()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def replica(api: FakeLeaseApi, clock: Clock) -> Callable[[str], Lease]:
    return lambda name: Lease(api, "motley-system", name, 12.0, clock=clock)


Replica = Callable[[str], Lease]


def test_the_first_one_makes_the_lease_and_holds_it(replica: Replica, api: FakeLeaseApi) -> None:
    one = replica("one")
    assert not one.held()
    one.step()
    assert one.held()
    one.require()
    assert (api.spec["holderIdentity"], api.spec["leaseDurationSeconds"]) == ("one", 12)
    assert api.lease is not None and api.lease["metadata"]["namespace"] == "motley-system"


def test_who_does_not_hold_it_may_not_write(replica: Replica) -> None:
    one, other = replica("one"), replica("other")
    one.step()
    other.step()
    assert not other.held()
    with pytest.raises(LeaseLost):
        other.require()


def test_the_right_to_write_ends_after_two_thirds_without_a_renewal(replica: Replica, clock: Clock) -> None:
    one = replica("one")
    one.step()
    clock.now += 7.99
    one.require()
    clock.now += 0.02
    with pytest.raises(LeaseLost):
        one.require()


def test_a_renewal_extends_it(replica: Replica, clock: Clock, api: FakeLeaseApi) -> None:
    one = replica("one")
    for _ in range(20):
        one.step()
        clock.now += 7
        assert one.held()
    assert api.spec["leaseTransitions"] == 1, "renewing is no transition"


def test_a_renewal_counts_from_before_it_was_sent(replica: Replica, clock: Clock, api: FakeLeaseApi) -> None:
    """A slow answer must not lengthen the right to write: the others count from when it was written."""
    one = replica("one")
    one.step()
    real = api.replace

    def slow(manifest: dict[str, Any]) -> dict[str, Any]:
        clock.now += 7.5
        return real(manifest)

    api.replace = slow  # type: ignore[method-assign]
    one.step()
    clock.now += 1
    assert not one.held()


def test_another_takes_over_only_when_it_is_stale(replica: Replica, clock: Clock) -> None:
    one, other = replica("one"), replica("other")
    one.step()
    other.step()
    clock.now += 11.9
    other.step()
    assert not other.held()
    clock.now += 0.2
    other.step()
    assert other.held() and not one.held()


def test_staleness_counts_from_the_last_change_that_was_seen(replica: Replica, clock: Clock) -> None:
    one, other = replica("one"), replica("other")
    one.step()
    other.step()
    clock.now += 6
    one.step()
    clock.now += 1
    other.step()  # sees the renewal only now
    clock.now += 11.9
    other.step()
    assert not other.held()
    clock.now += 0.2
    other.step()
    assert other.held()


def test_who_sees_an_old_lease_for_the_first_time_waits_its_whole_time(replica: Replica, clock: Clock) -> None:
    """Clocks need not agree: the time in the Lease is not looked at."""
    replica("one").step()
    clock.now += 1_000_000
    other = replica("other")
    other.step()
    assert not other.held()
    clock.now += 12
    other.step()
    assert other.held()


def test_the_former_holder_finds_out_and_writes_nothing_more(replica: Replica, clock: Clock) -> None:
    one, other = replica("one"), replica("other")
    one.step()
    other.step()
    clock.now += 12
    other.step()
    one.step()
    assert other.held() and not one.held()


def test_who_comes_back_in_time_goes_on(replica: Replica, clock: Clock, api: FakeLeaseApi) -> None:
    one = replica("one")
    one.step()
    clock.now += 9  # longer than two thirds, and nobody took it
    assert not one.held()
    one.step()
    assert one.held() and api.spec["leaseTransitions"] == 1


def test_a_restarted_holder_with_its_old_name_need_not_wait(replica: Replica) -> None:
    replica("one").step()
    again = replica("one")
    again.step()
    assert again.held()


def test_a_conflict_ends_the_right_to_write_at_once(replica: Replica, api: FakeLeaseApi) -> None:
    one = replica("one")
    one.step()
    real = api.get

    def overtaken(kind: str, namespace: str | None, name: str) -> dict[str, Any]:
        found = real(kind, namespace, name)
        assert api.lease is not None
        api.lease["metadata"]["resourceVersion"] = "else"
        return found

    api.get = overtaken  # type: ignore[method-assign]
    one.step()
    assert not one.held()


def test_of_two_that_make_the_lease_at_once_one_holds_it(replica: Replica, api: FakeLeaseApi) -> None:
    one, other = replica("one"), replica("other")
    real = api.get
    turn = iter([NotFound("none"), NotFound("none")])

    def not_yet(kind: str, namespace: str | None, name: str) -> dict[str, Any]:
        for error in turn:
            raise error
        return real(kind, namespace, name)

    api.get = not_yet  # type: ignore[method-assign]
    one.step()
    with pytest.raises(Conflict):
        other.step()
    assert one.held() and not other.held()


def test_while_the_api_server_is_away_the_right_runs_out(replica: Replica, api: FakeLeaseApi, clock: Clock) -> None:
    one = replica("one")
    one.step()
    api.trouble = Unreachable("away")
    for _ in range(4):
        clock.now += 2
        with pytest.raises(Unreachable):
            one.step()
    assert not one.held()
    api.trouble = None
    one.step()
    assert one.held()


def test_a_renewal_whose_answer_is_lost_gives_no_right(replica: Replica, api: FakeLeaseApi, clock: Clock) -> None:
    one = replica("one")
    one.step()
    clock.now += 7
    api.lost = Unreachable("the answer is lost")
    with pytest.raises(Unreachable):
        one.step()
    clock.now += 1.1
    assert not one.held()


def test_a_lease_that_somebody_deleted_is_made_again(replica: Replica, api: FakeLeaseApi, clock: Clock) -> None:
    one = replica("one")
    one.step()
    api.lease = None
    clock.now += 1
    one.step()
    assert one.held() and api.spec["holderIdentity"] == "one"


@pytest.mark.parametrize("spec", [{}, {"holderIdentity": ""}, {"holderIdentity": None, "leaseTransitions": None}])
def test_a_lease_without_a_holder_is_taken_at_once(replica: Replica, api: FakeLeaseApi, spec: dict[str, Any]) -> None:
    api.lease = {"metadata": {"name": NAME, "namespace": "motley-system", "resourceVersion": "0"}, "spec": spec}
    one = replica("one")
    one.step()
    assert one.held() and api.spec["leaseTransitions"] == 1


def test_a_holder_that_gives_it_back_is_followed_at_once(api: FakeLeaseApi, clock: Clock) -> None:
    changed = threading.Event()
    one = Lease(api, "motley-system", "one", 0.5, clock=clock, on_change=changed.set)
    one.start()
    assert changed.wait(10) and one.held()
    one.stop()
    assert not one.held() and api.spec["holderIdentity"] == ""
    other = Lease(api, "motley-system", "other", 12.0, clock=clock)
    other.step()
    assert other.held()


def test_who_no_longer_has_it_gives_nothing_back(api: FakeLeaseApi, clock: Clock) -> None:
    changed = threading.Event()
    one = Lease(api, "motley-system", "one", 0.5, clock=clock, on_change=changed.set)
    one.start()
    assert changed.wait(10)
    api.spec["holderIdentity"] = "other"
    one.stop()
    assert api.spec["holderIdentity"] == "other"


def test_stopping_while_the_api_server_is_away_ends_all_the_same(api: FakeLeaseApi, clock: Clock) -> None:
    changed = threading.Event()
    one = Lease(api, "motley-system", "one", 0.5, clock=clock, on_change=changed.set)
    one.start()
    assert changed.wait(10)
    api.trouble = Unreachable("away")
    one.stop()
    assert not one.held()


def test_trouble_does_not_end_the_thread_that_renews(api: FakeLeaseApi) -> None:
    changed = threading.Event()
    api.trouble = Unreachable("away")
    one = Lease(api, "motley-system", "one", 0.6, on_change=changed.set)
    one.start()
    api.trouble = None
    assert changed.wait(10) and one.held()
    one.stop()


_STEPS = st.lists(st.tuples(st.sampled_from(["one", "other", "api", "wait"]), st.floats(0, 6)), max_size=60)


@settings(max_examples=200, deadline=None)
@given(_STEPS)
def test_two_never_hold_it_at_once(steps: list[tuple[str, float]]) -> None:
    api, clock = FakeLeaseApi(), Clock()
    replicas = {name: Lease(api, "n", name, 12.0, clock=clock) for name in ("one", "other")}
    for who, seconds in steps:
        if who == "api":
            api.trouble = None if api.trouble else Unreachable("away")
        elif who in replicas:
            try:
                replicas[who].step()
            except ApiError:
                pass
        clock.now += seconds
        assert not all(one.held() for one in replicas.values())
