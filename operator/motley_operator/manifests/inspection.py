"""The Job that reads a Model's config.json where only a pod can: in a PVC, behind a hub's token, on a node's disk."""

import hashlib
import json
from collections.abc import Sequence

from motley_operator.admission import source_of
from motley_operator.api import GPUPool, Model
from motley_operator.api.plan import EngineSettings
from motley_operator.labels import COMPONENT, MANAGED, MODEL, SOURCE
from motley_operator.manifests.pods import Manifest, owner_of, pod_spec, worker_config
from motley_operator.settings import Settings

RETRY_SECONDS = 60
"""A finished Job is removed after this long, and made again if the shape is still unknown: a Secret or a claim may have
been mended, and the operator may read neither."""

_GIVE_UP = {
    "action": "FailJob",
    "onExitCodes": {"containerName": "inspection", "operator": "In", "values": [64, 65]},
}
"""Of the worker: a bad configuration and a source that is not there do not get better by trying again at once."""


def inspection_job(model: Model, pools: Sequence[GPUPool], settings: Settings) -> Manifest:
    """Runs on any node of the pools that the Model may use: these can read its source."""
    labels = {**MANAGED, COMPONENT: "inspection", MODEL: model.metadata.name}
    settings_of_no_engine = EngineSettings(
        max_num_batched_tokens=1, max_num_seqs=1, max_model_len=model.spec.context_length
    )
    config = worker_config(model, settings_of_no_engine, 1, "cpu", 1)
    container = {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            **pod_spec("inspection", "inspect", model, pools, settings, config, container),
            **_on_nodes_of(pools),
            "restartPolicy": "Never",
        },
    }
    spec = {
        "backoffLimit": 2,
        "podFailurePolicy": {"rules": [_GIVE_UP]},
        "activeDeadlineSeconds": 600,
        "ttlSecondsAfterFinished": RETRY_SECONDS,
        "template": template,
    }
    # A Job cannot be changed: another template is another Job.
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:10]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"inspect-{model.metadata.name}"[:52].rstrip("-.") + f"-{digest}",
            "namespace": model.metadata.namespace,
            "labels": labels,
            "annotations": {SOURCE: source_of(model)},
            "ownerReferences": [owner_of(model)],
        },
        "spec": spec,
    }


def _on_nodes_of(pools: Sequence[GPUPool]) -> Manifest:
    terms = [
        {
            "matchExpressions": [
                {"key": key, "operator": "In", "values": [value]}
                for key, value in sorted(pool.spec.node_selector.items())
            ]
        }
        for pool in pools
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"affinity": {"nodeAffinity": required}} if terms else {}
