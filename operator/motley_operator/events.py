"""Events as values: one for every condition whose reason changed, in the condition's words."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from motley_operator.api import Condition, Resource

_NORMAL = {"True", "Unknown"}


@dataclass(frozen=True)
class Event:
    about: Resource
    reason: str
    message: str
    warning: bool


def changes(about: Resource, before: Iterable[Condition], after: Iterable[Condition]) -> Iterator[Event]:
    """Events for what is new to say; what several conditions say in the same words is said once."""
    said = {condition.type: condition.reason for condition in before}
    told = set()
    for condition in after:
        words = condition.reason, condition.message
        if said.get(condition.type) != condition.reason and words not in told:
            told.add(words)
            yield Event(about, *words, warning=condition.status not in _NORMAL)


def manifest(event: Event, now: datetime) -> dict[str, object]:
    """A core/v1 Event; those about cluster-scoped objects lie in namespace default."""
    about, metadata = event.about, event.about.metadata
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = hashlib.sha256(f"{metadata.uid} {event.reason} {event.message} {stamp}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata.name}.{digest}", "namespace": metadata.namespace or "default"},
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
        },
        "reason": event.reason,
        "message": event.message[:1024],
        "type": "Warning" if event.warning else "Normal",
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": "motley-operator"},
    }
