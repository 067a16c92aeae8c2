"""What engine pods and inspection pods share: the worker's configuration, weights, mounts, security."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from motley_operator.api import GPUPool, Model
from motley_operator.api.plan import EngineSettings
from motley_operator.settings import Settings

Manifest = dict[str, Any]

_USER = 65532
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
_POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "runAsGroup": _USER,
    "fsGroup": _USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def owner_of(model: Model) -> Manifest:
    """Deleting the Model deletes what it owns, the operator running or not."""
    return {
        "apiVersion": model.api_version,
        "kind": model.kind,
        "name": model.metadata.name,
        "uid": model.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def worker_config(
    model: Model, engine: EngineSettings, tensor_parallel: int, device: str, drain_seconds: int
) -> dict[str, Any]:
    """What `motley_worker.config.WorkerConfig` reads."""
    spec = model.spec
    return {
        "model": model.key,
        "servedName": model.served_name,
        "source": spec.source.uri,
        "revision": spec.source.revision,
        "dtype": spec.dtype,
        "quantization": spec.quantization,
        "kvDtype": spec.kv_dtype,
        "maxModelLen": engine.max_model_len,
        "tensorParallel": tensor_parallel,
        "maxNumBatchedTokens": engine.max_num_batched_tokens,
        "maxNumSeqs": engine.max_num_seqs,
        "device": device,
        "extraArgs": list(spec.engine.args),
        "drainSeconds": drain_seconds,
    }


def pod_spec(
    name: str,
    module: str,
    model: Model,
    pools: Iterable[GPUPool],
    settings: Settings,
    config: Mapping[str, Any],
    container: Manifest,
) -> Manifest:
    """Of a pod on nodes of the pools that runs a module of the worker without any rights; `container` is what else its
    container has."""
    volumes, mounts = _storage(model, settings)
    own = {
        "name": name,
        "image": model.spec.engine.image or settings.engine_image,
        "imagePullPolicy": settings.engine_image_pull_policy,
        "command": [settings.engine_python, "-m", f"motley_worker.{module}"],
        "env": _env(model, settings, config),
        "envFrom": [{"secretRef": {"name": secret}}] if (secret := model.spec.source.secret_name) else [],
        "volumeMounts": mounts,
        "securityContext": _CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [toleration.to_json() for pool in pools for toleration in pool.spec.tolerations],
        "securityContext": _POD_SECURITY,
        "imagePullSecrets": [{"name": secret} for secret in model.spec.image_pull_secrets],
        "containers": [own | container],
        "volumes": volumes,
    }


def _env(model: Model, settings: Settings, worker_config: Mapping[str, Any]) -> list[Manifest]:
    """The operator's defaults, then the Model's, then what no Model may change."""
    found: dict[str, Manifest] = {name: {"name": name, "value": value} for name, value in settings.engine_env.items()}
    for variable in model.spec.engine.env:
        if variable.secret_key:
            reference = {"name": variable.secret_key.name, "key": variable.secret_key.key}
            found[variable.name] = {"name": variable.name, "valueFrom": {"secretKeyRef": reference}}
        else:
            found[variable.name] = {"name": variable.name, "value": variable.value or ""}
    fixed = {
        "HOME": "/home/motley",
        "USER": "motley",  # the user id has no entry in /etc/passwd, and libraries ask
        # the kubelet would put other variables' values in place of $(NAME), past every rule about arguments
        "MOTLEY_WORKER_CONFIG": json.dumps(worker_config, sort_keys=True).replace("$", "\\u0024"),
    }
    return [*(found | {name: {"name": name, "value": value} for name, value in fixed.items()}).values()]


def _storage(model: Model, settings: Settings) -> tuple[list[Manifest], list[Manifest]]:
    """(volumes, mounts): weights, their cache, and the writable folders of a read-only root file system."""
    spec = model.spec
    volumes: list[Manifest] = [
        {"name": "home", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        {"name": "cache", **_cache(model)},
    ]
    mounts: list[Manifest] = [
        {"name": "home", "mountPath": "/home/motley"},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "cache", "mountPath": "/cache"},
    ]
    scheme, _, path = spec.source.uri.partition("://")
    if scheme == "pvc":
        claim = {"claimName": path.split("/", 1)[0], "readOnly": True}
        volumes.append({"name": "weights", "persistentVolumeClaim": claim})
        mounts.append({"name": "weights", "mountPath": "/weights", "readOnly": True})
    host_paths = [*settings.engine_host_paths, *([path] if scheme == "file" else [])]
    for number, host_path in enumerate(dict.fromkeys(host_paths)):
        volumes.append({"name": f"host-{number}", "hostPath": {"path": host_path, "type": "Directory"}})
        mounts.append({"name": f"host-{number}", "mountPath": host_path, "readOnly": True})
    return volumes, mounts


def _cache(model: Model) -> Manifest:
    cache = model.spec.cache
    if cache.persistent_volume_claim:
        return {"persistentVolumeClaim": {"claimName": cache.persistent_volume_claim}}
    if cache.host_path:
        return {"hostPath": {"path": cache.host_path, "type": "DirectoryOrCreate"}}
    return {"emptyDir": {}}
