"""Who acts: a coordination.k8s.io Lease.

Whoever lost it writes nothing more; the one who waits takes over when it is stale.

A holder stops after two thirds of the Lease's duration without a renewal; the others wait for the whole of it, measured
on their own clock from the last change they saw, so that clocks need not agree."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from motley_operator import metrics
from motley_operator.errors import ApiError, Conflict, LeaseLost, NotFound

log = logging.getLogger(__name__)
NAME = "motley-operator"


class LeaseApi(Protocol):
    def get(self, kind: str, namespace: str | None, name: str) -> dict[str, Any]: ...
    def create_unguarded(self, manifest: dict[str, Any]) -> dict[str, Any]: ...
    def replace(self, manifest: dict[str, Any]) -> dict[str, Any]: ...


@dataclass
class _Seen:
    version: str = ""
    at: float = 0.0


class Lease:
    def __init__(
        self,
        api: LeaseApi,
        namespace: str,
        identity: str,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._api, self._namespace, self._identity, self._seconds = api, namespace, identity, seconds
        self._clock, self._on_change = clock, on_change
        self._held_until = float("-inf")
        self._seen = _Seen()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def held(self) -> bool:
        return self._clock() < self._held_until

    def require(self) -> None:
        if not self.held():
            raise LeaseLost("writing: another replica holds the Lease, or it could not be renewed")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Gives the Lease back, so that the other replica need not wait for it to go stale."""
        self._stop.set()
        self._thread.join(timeout=self._seconds)
        if self.held():
            self._held_until = float("-inf")
            try:
                lease = self._api.get("Lease", self._namespace, NAME)
                if lease["spec"].get("holderIdentity") == self._identity:
                    self._api.replace(self._written(lease, holder=""))
            except ApiError as error:
                log.warning("giving the Lease back: %s", error)

    def _run(self) -> None:
        while not self._stop.is_set():
            before = self.held()
            try:
                self.step()
            except ApiError as error:
                log.warning("renewing the Lease: %s", error)
            if self.held() != before:
                log.info("%s the Lease", "holding" if self.held() else "without")
                self._on_change()
            metrics.LEADER.set(self.held())
            self._stop.wait(self._seconds / 6)

    def step(self) -> None:
        """Renews, takes a free or stale Lease, or notes who has it."""
        now = self._clock()
        try:
            lease = self._api.get("Lease", self._namespace, NAME)
        except NotFound:
            lease = {"metadata": {"name": NAME, "namespace": self._namespace}, "spec": {}}
            self._api.create_unguarded(self._written(lease, self._identity))
            self._hold(now)
            return
        holder = lease.get("spec", {}).get("holderIdentity")
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen.version:
            self._seen = _Seen(version, now)
        stale = now - self._seen.at >= float(lease.get("spec", {}).get("leaseDurationSeconds") or self._seconds)
        if holder and holder != self._identity and not stale:
            self._held_until = float("-inf")
            return
        try:
            self._api.replace(self._written(lease, self._identity))
            self._hold(now)
        except Conflict:
            self._held_until = float("-inf")

    def _hold(self, since: float) -> None:
        self._held_until = since + self._seconds * 2 / 3

    def _written(self, lease: dict[str, Any], holder: str) -> dict[str, Any]:
        spec = lease.get("spec", {})
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        changed = holder != spec.get("holderIdentity")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": lease["metadata"],
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": round(self._seconds),
                "renewTime": now,
                "acquireTime": now if changed else spec.get("acquireTime", now),
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + int(changed and bool(holder)),
            },
        }
