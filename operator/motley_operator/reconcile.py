"""One pass: observe → decide → act → report. I/O at both ends, pure functions between; what it needs of the outside is
said here as small protocols, so that it runs against anything of that shape."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from motley_operator import drift, events, metrics, planning, reasons, status
from motley_operator.api import KINDS, Resource
from motley_operator.desired import Desired, Reference, desired, reference
from motley_operator.errors import ApiError, Conflict, NotFound
from motley_operator.fleet import OWNED, FleetView, TrafficView, fleet_view
from motley_operator.formulation import formulated
from motley_operator.labels import COMPONENT, DRAIN_FINALIZER, MANAGED_BY
from motley_operator.planning import Decision, Solve
from motley_operator.reasons import Finding
from motley_operator.settings import Settings

log = logging.getLogger(__name__)
Json = dict[str, Any]

OURS = f"{MANAGED_BY}=motley"
SOON_SECONDS = 3.0
"""Until the next pass while something is on its way."""
RETRY_SECONDS = 10.0
"""Until the next pass after an object was refused: a quota, say, does not change every moment."""


class KubeApi(Protocol):
    def listed(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Json]: ...
    def apply(self, manifest: Mapping[str, Any]) -> Json: ...
    def apply_status(self, manifest: Mapping[str, Any]) -> Json: ...
    def create(self, manifest: Mapping[str, Any]) -> Json: ...
    def set_finalizers(self, kind: str, obj: Mapping[str, Any], finalizers: list[str]) -> Json: ...
    def scale(self, kind: str, namespace: str, name: str, replicas: int) -> Json: ...
    def delete(self, kind: str, namespace: str | None, name: str) -> None: ...


ObserveTraffic = Callable[[Iterable[str]], Mapping[str, TrafficView]]


@dataclass(frozen=True)
class _Applied:
    digest: str
    version: object
    """What the object's generation (or resourceVersion) was right after."""


class Reconciler:
    """Holds no decision: what it keeps between passes only saves work, and is rebuilt after a restart."""

    def __init__(
        self, kube: KubeApi, traffic: ObserveTraffic, settings: Settings, solve: Solve, clock: Callable[[], datetime]
    ) -> None:
        self._kube, self._traffic, self._settings, self._solve, self._clock = kube, traffic, settings, solve, clock
        self._applied: dict[Reference, _Applied] = {}

    def run_pass(self) -> float:
        """One pass; returns seconds after which the next one should come at the latest."""
        began = time.monotonic()
        raw = self._observe()
        view = fleet_view(self._clock(), raw, self._traffic(self._routers(raw)))
        for one in view.unreadable:
            log.error("reading %s %s: %s", one.kind, one.key, one.message)
        if any(one.kind == "Fleet" for one in view.unreadable):
            return self._settings.resync_seconds  # what is allowed is not known: nothing is touched
        formulation = formulated(view)
        decision = self._stored(planning.decision(view, formulation, self._solve), view)
        wanted = desired(view, formulation, decision, self._settings)
        failures = self._act(raw, decision, wanted)
        self._report(raw, status.Outcome(view, formulation, decision, wanted.groups, failures))
        self._measure(view, decision, wanted)
        metrics.PASS_SECONDS.observe(time.monotonic() - began)
        if failures:
            return min(RETRY_SECONDS, self._settings.resync_seconds)
        return SOON_SECONDS if not wanted.settled or decision.new else self._settings.resync_seconds

    def _observe(self) -> dict[str, list[Json]]:
        raw = {kind.crd.plural: self._kube.listed(kind.__name__) for kind in KINDS}
        for plural, kind in OWNED.items():
            if plural not in raw:
                raw[plural] = self._kube.listed(kind, selector=OURS)
        raw["pods"] = self._kube.listed("Pod", selector=f"{OURS},{COMPONENT}")
        selectors = {
            ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
            for pool in raw["gpupools"]
            if (selector := pool["spec"].get("nodeSelector"))
        }
        nodes = [node for selector in sorted(selectors) for node in self._kube.listed("Node", selector=selector)]
        raw["nodes"] = list({node["metadata"]["name"]: node for node in nodes}.values())
        service = f"kubernetes.io/service-name={self._settings.router_service}"
        raw["endpointslices"] = self._kube.listed("EndpointSlice", self._settings.namespace, service)
        return raw

    def _routers(self, raw: Mapping[str, list[Json]]) -> list[str]:
        return sorted(
            f"{address}:{port['port']}"
            for endpoints in raw["endpointslices"]
            for port in endpoints.get("ports") or ()
            for endpoint in endpoints.get("endpoints") or ()
            if endpoint.get("conditions", {}).get("ready")
            for address in endpoint["addresses"]
        )

    def _stored(self, decision: Decision, view: FleetView) -> Decision:
        """A plan that cannot be stored is not followed: the one before stays in force, and it is said why."""
        if decision.new is None:
            return decision
        try:
            self._kube.create(decision.new.to_json())
        except ApiError as error:
            log.warning("storing a plan: %s", error, extra={"plan": decision.new.metadata.name})
            trouble = Finding(reasons.APPLY_FAILED, f"storing {decision.new.metadata.name}: {error}")
            return replace(decision, active=planning.applicable(view), new=None, trouble=trouble)
        log.info("new plan: %s", decision.new.spec.reason, extra={"plan": decision.new.metadata.name})
        return decision

    def _act(self, raw: Mapping[str, list[Json]], decision: Decision, wanted: Desired) -> dict[str, str]:
        """Applies everything; one object's failure is collected and never hides another's."""
        self._set_drains(raw["gpupools"], wanted)
        present = {reference(_with_kind(one, kind)): one for plural, kind in OWNED.items() for one in raw[plural]}
        actions: list[tuple[str, Callable[[], object]]] = [
            *((key, partial(self._apply, manifest, present)) for key, manifest in wanted.manifests),
            *(
                (
                    f"Model {one.namespace}/{one.model}",
                    partial(self._kube.scale, "Deployment", one.namespace, one.name, n),
                )
                for one, n in wanted.scales
            ),
            *((f"{one[0]} {one[1]}/{one[2]}", partial(self._kube.delete, *one)) for one in wanted.gone),
            *((f"Plan {name}", partial(self._kube.delete, "Plan", None, name)) for name in decision.obsolete),
        ]
        failures: dict[str, str] = {}
        for key, act in actions:
            try:
                act()
            except ApiError as error:
                log.warning("%s", error, extra=_named(key))
                failures.setdefault(key, str(error))
        return failures

    def _apply(self, manifest: Mapping[str, Any], present: Mapping[Reference, Json]) -> None:
        """Skipped while the object is as our last apply of the same manifest left it."""
        key, wanted = reference(manifest), drift.stamped(manifest)
        found = present.get(key)
        if found is not None and self._applied.get(key) == _Applied(drift.fingerprint(wanted), _version(found)):
            return
        after = found if found is not None and drift.untouched(found, wanted) else self._kube.apply(wanted)
        self._applied[key] = _Applied(drift.fingerprint(wanted), _version(after))

    def _set_drains(self, pools: Iterable[Json], wanted: Desired) -> None:
        for raw in pools:
            metadata = raw["metadata"]
            if metadata["name"] not in wanted.drains:
                continue  # it could not be read: it stays as it is
            before = metadata.get("finalizers") or []
            others = [one for one in before if one != DRAIN_FINALIZER]
            after = [*others, DRAIN_FINALIZER] if wanted.drains[metadata["name"]] else others
            if set(after) != set(before):
                try:
                    self._kube.set_finalizers("GPUPool", raw, after)
                except ApiError as error:
                    log.warning("%s", error, extra={"pool": metadata["name"]})

    def _report(self, raw: Mapping[str, list[Json]], outcome: status.Outcome) -> None:
        """Statuses that changed, and an event for each condition whose reason did."""
        for resource, wanted in status.statuses(outcome):
            before = resource.status  # type: ignore[attr-defined]
            if before == wanted:
                continue
            try:
                self._kube.apply_status(_status_manifest(resource, wanted.to_json()))
                for event in events.changes(resource, before.conditions, wanted.conditions):  # type: ignore[attr-defined]
                    self._kube.create(events.manifest(event, outcome.view.now))
            except (NotFound, Conflict):
                pass  # the object was deleted meanwhile; the event is there already
            except ApiError as error:
                log.warning("%s", error, extra=_named(f"{resource.kind} {resource.key}"))

    def _measure(self, view: FleetView, decision: Decision, wanted: Desired) -> None:
        if decision.new and decision.trigger:
            metrics.REPLANS.labels(decision.trigger.reason).inc()
        metrics.PLAN_COST.set(decision.active.spec.cost_per_hour if decision.active else 0.0)
        metrics.PLAN_BOUND.set(decision.active.spec.lower_bound if decision.active else 0.0)
        ready = {(one.namespace, one.name): one.ready for one in view.deployments}
        counts: dict[tuple[str, str], tuple[int, int]] = {}
        for group in wanted.groups:
            key = (group.model.key, group.allocation.pool)
            had = counts.get(key, (0, 0))
            up = ready.get((group.model.metadata.namespace or "", group.name), 0)
            counts[key] = (had[0] + group.allocation.replicas, had[1] + up)
        metrics.set_replicas((model, pool, *count) for (model, pool), count in counts.items())


def _named(key: str) -> dict[str, str]:
    """Fields of a log line about the object `Model default/chat`."""
    kind, _, name = key.partition(" ")
    return {"model": name} if kind == "Model" else {"object": key}


def _with_kind(raw: Json, kind: str) -> Json:
    """Lists leave out the kind of their items."""
    return {"kind": kind, "metadata": raw["metadata"]}


def _version(obj: Json) -> object:
    """Changes when the spec does; a Service has no generation."""
    metadata = obj["metadata"]
    return metadata.get("generation") or metadata["resourceVersion"]


def _status_manifest(resource: Resource, wanted: Json) -> Json:
    metadata = {"name": resource.metadata.name, "namespace": resource.metadata.namespace}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {key: value for key, value in metadata.items() if value},
        "status": wanted,
    }
