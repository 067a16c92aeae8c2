"""An object that is as the last apply left it is told from one that somebody changed."""

from copy import deepcopy
from typing import Any

import pytest

from motley_operator.drift import fingerprint, stamped, untouched

MANIFEST: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "chat", "namespace": "team", "labels": {"app": "motley"}},
    "spec": {
        "replicas": 2,
        "shares": [0.5, 0.5],
        "tolerations": [],
        "containers": [{"name": "engine", "args": ["-v"]}],
    },
}


def in_cluster(manifest: dict[str, Any]) -> dict[str, Any]:
    """As a list shows it: without kind and what is empty, with what others added."""
    found = deepcopy(stamped(manifest))
    del found["kind"], found["apiVersion"], found["spec"]["tolerations"]
    found["metadata"] |= {"uid": "1", "generation": 3}
    found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    found["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    return found | {"status": {"readyReplicas": 2}}


def test_defaults_and_additions_of_others_are_no_change() -> None:
    assert untouched(in_cluster(MANIFEST), stamped(MANIFEST))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["spec"].update(replicas=3),
        lambda found: found["spec"].pop("containers"),
        lambda found: found["spec"]["containers"][0].update(args=["-q"]),
        lambda found: found["spec"]["containers"].append({"name": "sidecar"}),
        lambda found: found["metadata"]["labels"].update(app="other"),
        lambda found: found["metadata"].pop("annotations"),
    ],
    ids=["value", "missing", "nested", "longer", "label", "annotations"],
)
def test_what_somebody_changed_is_seen(change: Any) -> None:
    found = in_cluster(MANIFEST)
    change(found)
    assert not untouched(found, stamped(MANIFEST))


def test_an_object_of_an_older_manifest_that_said_more_is_applied_anew() -> None:
    older = deepcopy(MANIFEST)
    older["spec"]["paused"] = True
    assert not untouched(in_cluster(older), stamped(MANIFEST))


def test_a_stamp_follows_from_the_manifest_and_leaves_it_alone() -> None:
    before = deepcopy(MANIFEST)
    noted = stamped(MANIFEST | {"metadata": MANIFEST["metadata"] | {"annotations": {"source": "hf://x"}}})
    assert fingerprint(stamped(MANIFEST)) == fingerprint(stamped(MANIFEST)) != fingerprint(noted)
    assert noted["metadata"]["annotations"]["source"] == "hf://x"
    assert before == MANIFEST
