"""Is an object still as our last apply of a manifest left it? Told from the object alone, so that an operator that was
just started need not apply everything anew. Where in doubt the answer is no: applying once more does no harm."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from motley_operator.labels import APPLIED

Json = Mapping[str, Any]


def stamped(manifest: Json) -> dict[str, Any]:
    """The manifest with its own fingerprint as an annotation: what an older manifest had more of must go too."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED: digest}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def fingerprint(stamped: Json) -> str:
    found: str = stamped["metadata"]["annotations"][APPLIED]
    return found


def untouched(found: Json, wanted: Json) -> bool:
    """`wanted`, a stamped manifest, was applied last, and every value of it still stands in the object."""
    # lists leave out kind and apiVersion of their items
    return all(_holds(found.get(key), value) for key, value in wanted.items() if key not in ("kind", "apiVersion"))


def _holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return all(_holds(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list | tuple) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_holds, found, wanted))
    return bool(found == wanted) or (found is None and not wanted)  # what is empty is left out
