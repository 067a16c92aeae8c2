"""A fake of the operator's door to the Kubernetes API: objects in memory, with generations, resource versions,
finalizers, server-side apply and garbage collection as far as a pass can see them. It fails on command."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

from motley_operator.api import KINDS
from motley_operator.errors import ApiError, Conflict, NotFound

Json = dict[str, Any]
Key = tuple[str, str | None, str]
_OWN = {kind.__name__: kind for kind in KINDS}


class Killed(BaseException):
    """The operator's process ends here, as with kill -9."""


def key_of(manifest: Mapping[str, Any]) -> Key:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace"), metadata["name"]


class FakeKubeApi:
    """`before_write(verb, key)` may raise instead of the write, `after_write` after it."""

    def __init__(self, *objects: Json) -> None:
        self.objects: dict[Key, Json] = {}
        self.writes: list[tuple[str, Key]] = []
        """What changed something, or was asked to."""
        self.events: list[Json] = []
        self.before_write: Callable[[str, Key], None] = lambda verb, key: None
        self.after_write: Callable[[str, Key], None] = lambda verb, key: None
        self.before_read: Callable[[str], None] = lambda kind: None
        self._version = 100
        for one in objects:
            self.objects[key_of(one)] = deepcopy(one)

    # What the operator does

    def listed(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Json]:
        self.before_read(kind)
        found = []
        for (its_kind, its_namespace, _), one in sorted(self.objects.items(), key=lambda item: str(item[0])):
            if its_kind == kind and namespace in (None, its_namespace) and _selected(one, selector):
                found.append({key: deepcopy(value) for key, value in one.items() if key not in ("kind", "apiVersion")})
        return found

    def apply(self, manifest: Mapping[str, Any]) -> Json:
        key = self._write("apply", manifest)
        wanted: Json = deepcopy({**manifest})
        if manifest["kind"] in _OWN:
            _OWN[manifest["kind"]].model_validate(manifest)
        before = self.objects.get(key)
        after = self._created(wanted) if before is None else _merged(before, wanted)
        return self._stored(key, "apply", before, after)

    def apply_status(self, manifest: Mapping[str, Any]) -> Json:
        key = self._write("apply_status", manifest)
        before = self._existing(key)
        return self._stored(key, "apply_status", before, {**before, "status": deepcopy(manifest["status"])})

    def create(self, manifest: Mapping[str, Any]) -> Json:
        key = self._write("create", manifest)
        if manifest["kind"] == "Event":
            if any(key_of(one) == key for one in self.events):
                raise Conflict(f"create {key}: exists")
            self.events.append(deepcopy({**manifest}))
            self.after_write("create", key)
            return {}
        if key in self.objects:
            raise Conflict(f"create {key}: exists")
        return self._stored(key, "create", None, self._created(deepcopy({**manifest})))

    def set_finalizers(self, kind: str, obj: Mapping[str, Any], finalizers: list[str]) -> Json:
        key = self._write("set_finalizers", {"kind": kind, **obj})
        before = self._existing(key)
        if obj["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
            raise Conflict(f"patch {key}: the object has been modified")
        after = deepcopy(before)
        after["metadata"]["finalizers"] = list(finalizers)
        self._store(key, before, after)
        if not finalizers and before["metadata"].get("deletionTimestamp"):
            self.remove(key)
        self.after_write("set_finalizers", key)
        return deepcopy(after)

    def scale(self, kind: str, namespace: str, name: str, replicas: int) -> Json:
        key = self._write("scale", {"kind": kind, "metadata": {"namespace": namespace, "name": name}})
        before = self._existing(key)
        after = deepcopy(before)
        after["spec"]["replicas"] = replicas
        return self._stored(key, "scale", before, after)

    def delete(self, kind: str, namespace: str | None, name: str) -> None:
        key = self._write("delete", {"kind": kind, "metadata": {"namespace": namespace, "name": name}})
        self.remove(key)
        self.after_write("delete", key)

    # What others do

    def put(self, *objects: Json) -> None:
        """As a person with kubectl: the spec is replaced, the generation counts up, the status stays."""
        for one in objects:
            key = key_of(one)
            before = self.objects.get(key)
            if before is None:
                self.objects[key] = self._created(deepcopy(one))
                self.objects[key]["metadata"] |= deepcopy(one["metadata"])
            else:
                self._store(key, before, {**before, "spec": deepcopy(one["spec"])})

    def remove(self, key: Key) -> None:
        """Deletes, or marks as being deleted what a finalizer holds back; what it owns goes with it."""
        found = self.objects.get(key)
        if found is None:
            return
        if found["metadata"].get("finalizers"):
            found["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
            self._bump(found)
            return
        del self.objects[key]
        uid = found["metadata"].get("uid")
        for child, one in list(self.objects.items()):
            if uid and any(owner["uid"] == uid for owner in one["metadata"].get("ownerReferences", ())):
                self.remove(child)

    def run_pods(self) -> bool:
        """Every Deployment has its replicas ready; whether that is news."""
        before = self._version
        for (kind, _, _), one in self.objects.items():
            if kind == "Deployment":
                status = {"replicas": one["spec"]["replicas"], "readyReplicas": one["spec"]["replicas"]}
                if one.get("status") != status:
                    one["status"] = status
                    self._bump(one)
        return self._version > before

    def of(self, kind: str) -> dict[str, Json]:
        """By name."""
        return {name: one for (its_kind, _, name), one in self.objects.items() if its_kind == kind}

    def state(self) -> dict[Key, Json]:
        """All that stands in the cluster but for versions, times and how long something took."""
        return {key: _lasting(one) for key, one in self.objects.items()}

    def _write(self, verb: str, manifest: Mapping[str, Any]) -> Key:
        key = key_of(manifest)
        self.before_write(verb, key)
        self.writes.append((verb, key))
        return key

    def _existing(self, key: Key) -> Json:
        if key not in self.objects:
            raise NotFound(f"{key}: not found")
        return self.objects[key]

    def _created(self, one: Json) -> Json:
        kind, namespace, name = key_of(one)
        made = {"uid": f"uid-{kind}-{namespace}-{name}", "generation": 1, "creationTimestamp": "2026-03-01T12:00:00Z"}
        one["metadata"] = {**one["metadata"], **made}
        return one

    def _stored(self, key: Key, verb: str, before: Json | None, after: Json) -> Json:
        self._store(key, before, after)
        self.after_write(verb, key)
        return deepcopy(self.objects[key])

    def _store(self, key: Key, before: Json | None, after: Json) -> None:
        if before is not None and before == after:
            return
        if before is not None and before.get("spec") != after.get("spec"):
            after["metadata"] = {**after["metadata"], "generation": after["metadata"].get("generation", 1) + 1}
        self._bump(after)
        self.objects[key] = after

    def _bump(self, one: Json) -> None:
        self._version += 1
        one["metadata"]["resourceVersion"] = str(self._version)


def _selected(one: Json, selector: str) -> bool:
    labels = one["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        name, equals, value = part.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True


def _merged(before: Json, wanted: Json) -> Json:
    """Everything in a spec that the operator applies is its own."""
    metadata = {**before["metadata"], **wanted["metadata"]}
    return {**before, **({"spec": wanted["spec"]} if "spec" in wanted else {}), "metadata": metadata}


_PASSING = {"resourceVersion", "generation", "creationTimestamp", "lastTransitionTime", "solveSeconds"}
_PASSING |= {"observedGeneration"}


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(inner) for key, inner in value.items() if key not in _PASSING}
    return [_lasting(inner) for inner in value] if isinstance(value, list) else value


def failing(error: ApiError, about: Iterable[Key | str]) -> Callable[[str, Key], None]:
    """For `before_write`: writes of these kinds or keys fail."""
    about = set(about)

    def check(verb: str, key: Key) -> None:
        if key in about or key[0] in about:
            raise error

    return check
