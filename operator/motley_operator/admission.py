"""Which pools and models take part in planning, and for the others what to change. Rules are functions that give a
Finding or nothing; what needs no other object is refused earlier, by the schema's CEL rules."""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from pathlib import PurePosixPath

from motley_operator import reasons
from motley_operator.api import GPUPool, Model, Shape
from motley_operator.fleet import FleetView, selects
from motley_operator.reasons import Finding
from motley_operator.shapes import shape_of
from motley_solver.hardware import gpu_named, gpu_type

ModelRule = Callable[[Model, FleetView], Finding | None]


def key_of(resource: GPUPool | Model) -> str:
    """`Model default/chat`: how findings name an object."""
    return f"{resource.kind} {resource.key}"


def admitted_pools(view: FleetView) -> tuple[tuple[GPUPool, ...], dict[str, Finding]]:
    """The pools to plan with, oldest first and with one name for one GPU type, and why the others are not."""
    findings: dict[str, Finding] = {}
    for pool in view.pools:
        if finding := _unknown_gpu(pool) or _empty_sheet(pool) or _draining(pool):
            findings[key_of(pool)] = finding
    for older, newer in combinations([pool for pool in view.pools if key_of(pool) not in findings], 2):
        if key_of(older) not in findings and (shared := _shared_nodes(older, newer, view)):
            findings[key_of(newer)] = shared
    return tuple(_typed(pool) for pool in view.pools if key_of(pool) not in findings), findings


def _typed(pool: GPUPool) -> GPUPool:
    return pool.model_copy(update={"spec": pool.spec.model_copy(update={"gpu": gpu_type(pool.spec.gpu)})})


def _unknown_gpu(pool: GPUPool) -> Finding | None:
    if pool.spec.sheet is not None:
        return None
    try:
        gpu_named(pool.spec.gpu)
    except ValueError as error:
        return Finding(reasons.UNKNOWN_GPU, f"spec.{error}; put it under spec.sheet")
    return None


def _empty_sheet(pool: GPUPool) -> Finding | None:
    sheet = pool.spec.sheet
    given = sheet.model_dump(by_alias=True, exclude_none=True, exclude={"memory", "bf16"}) if sheet else {}
    zeros = [f"spec.sheet.{name}" for name, value in given.items() if not float(value)]
    return Finding(reasons.UNKNOWN_GPU, f"{', '.join(zeros)}: must be above zero") if zeros else None


def _draining(pool: GPUPool) -> Finding | None:
    if pool.metadata.deletion_timestamp is None:
        return None
    return Finding(reasons.DRAINING, "is being deleted: the plan does without it, its replicas move away first")


def _shared_nodes(older: GPUPool, newer: GPUPool, view: FleetView) -> Finding | None:
    """Selectors overlap for certain if one is part of the other, or where a node matches both."""
    one, other = older.spec.node_selector, newer.spec.node_selector
    both = {node.name for node in view.nodes_of(older)} & {node.name for node in view.nodes_of(newer)}
    if not both and not selects(one, other) and not selects(other, one):
        return None
    example = f" (node {min(both)})" if both else ""
    return Finding(
        reasons.NODES_SHARED,
        f"spec.nodeSelector selects nodes of GPUPool {older.metadata.name} too{example}; "
        "select by a label that only this pool's nodes carry",
    )


def admitted_models(view: FleetView) -> tuple[tuple[Model, ...], dict[str, Finding]]:
    """The models to plan for, oldest first, and why the others are not."""
    alive = [model for model in view.models if model.metadata.deletion_timestamp is None]
    findings: dict[str, Finding] = {}
    owner = owners(alive)
    for model in alive:
        taken = _served_name_taken(model, owner[model.served_name])
        if finding := taken or next(filter(None, (rule(model, view) for rule in MODEL_RULES)), None):
            findings[key_of(model)] = finding
    return tuple(model for model in alive if key_of(model) not in findings), findings


def owners(models: Iterable[Model]) -> Mapping[str, Model]:
    """Who has each served name: the oldest Model (models come oldest first)."""
    found: dict[str, Model] = {}
    for model in models:
        found.setdefault(model.served_name, model)
    return found


def _served_name_taken(model: Model, owner: Model) -> Finding | None:
    """The router could not tell the two apart."""
    if owner.key == model.key:
        return None
    return Finding(
        reasons.SERVED_NAME_TAKEN,
        f"spec.servedName: {model.served_name!r} belongs to the older Model {owner.key}; choose another name",
    )


def _unknown_pool(model: Model, view: FleetView) -> Finding | None:
    wanted = set(model.spec.placement.pools)
    present = {pool.metadata.name for pool in view.pools}
    if not view.pools:
        return Finding(reasons.NO_POOL, "there is no GPUPool; create one that says which nodes may be used")
    if wanted and not wanted & present:
        return Finding(
            reasons.NO_POOL,
            f"spec.placement.pools names {', '.join(sorted(wanted))}; there are {', '.join(sorted(present))}",
        )
    return None


def host_paths(model: Model) -> tuple[str, ...]:
    """Folders of the node that this Model would mount."""
    source = model.spec.source.uri
    paths = [source.removeprefix("file://")] if source.startswith("file://") else []
    if model.spec.cache.host_path:
        paths.append(model.spec.cache.host_path)
    return tuple(paths)


def _host_path_not_allowed(model: Model, view: FleetView) -> Finding | None:
    allowed = [PurePosixPath(path) for path in view.fleet.spec.allowed_host_paths]
    for path in map(PurePosixPath, host_paths(model)):
        inside = any(path.is_relative_to(prefix) for prefix in allowed)
        if not path.is_absolute() or ".." in path.parts or not inside:
            return Finding(
                reasons.HOST_PATH_NOT_ALLOWED,
                f"{path} on the node may not be mounted; list a folder that holds it under "
                "spec.allowedHostPaths of Fleet default, or use a pvc:// source",
            )
    return None


def _image_not_allowed(model: Model, view: FleetView) -> Finding | None:
    image, allowed = model.spec.engine.image, view.fleet.spec.allowed_images
    if image is None or allowed is None or any(_is_image_of(image, prefix) for prefix in allowed):
        return None
    return Finding(
        reasons.IMAGE_NOT_ALLOWED,
        f"spec.engine.image {image} is not under spec.allowedImages of Fleet default ({', '.join(allowed) or 'none'})",
    )


def _is_image_of(image: str, prefix: str) -> bool:
    """Whole path components only: `reg/vllm` allows `reg/vllm:v1` and `reg/vllm/x`, not `reg/vllm-evil`; `reg` does
    not allow `reg:5000/x`, which is another registry."""
    rest = image.removeprefix(prefix)
    tag = rest[:1] in (":", "@") and "/" not in rest
    return image.startswith(prefix) and (not rest or prefix.endswith("/") or rest[0] == "/" or tag)


_ENGINE_VARIABLES = ("VLLM_", "PYTHON", "LD_")
"""Variables that change the engine as arguments do."""


def _argument_not_allowed(model: Model, view: FleetView) -> Finding | None:
    allowed = view.fleet.spec.allowed_arguments
    for variable in model.spec.engine.env:
        if allowed is not None and variable.name.startswith(_ENGINE_VARIABLES) and variable.name not in allowed:
            return Finding(
                reasons.ARGUMENT_NOT_ALLOWED,
                f"spec.engine.env: {variable.name} is not under spec.allowedArguments of Fleet default",
            )
    for argument in model.spec.engine.args:
        flag = argument.split("=", 1)[0]
        if allowed is not None and flag.startswith("-") and flag not in allowed:
            return Finding(
                reasons.ARGUMENT_NOT_ALLOWED,
                f"spec.engine.args: {flag} is not under spec.allowedArguments of Fleet default",
            )
    return None


def inspected(model: Model, view: FleetView) -> Shape | Finding | None:
    """What the inspection of the Model's present source found; None while it is not over."""
    wanted = (model.metadata.namespace, model.metadata.name, source_of(model))
    for job in view.inspections:
        if (job.namespace, job.model, job.source) != wanted:
            continue  # what an older source had is of no interest
        if job.failed:
            return _inspection_failed(model, job.message or "the Job failed")
        if job.succeeded:
            try:
                return shape_of(json.loads(job.message)["config"])
            except (ValueError, TypeError, LookupError, RecursionError) as error:  # it may hold anything
                return _inspection_failed(model, str(error))
        if job.waits_for:
            return _inspection_failed(model, f"its pod cannot start: {job.waits_for}")
    return None


def _inspection_failed(model: Model, why: str) -> Finding:
    message = f"reading config.json from {source_of(model)}: {why}; mend spec.source, or give spec.shape"
    return Finding(reasons.INSPECTION_FAILED, message)


def source_of(model: Model) -> str:
    """What a shape is read from: another source or revision is another shape."""
    source = model.spec.source
    return f"{source.uri}@{source.revision}" if source.revision else source.uri


def needs_inspection(model: Model) -> bool:
    """The shape is not given and was not read from the present source. An older shape serves meanwhile."""
    return model.spec.shape is None and (model.status.shape is None or model.status.shape_source != source_of(model))


def _shape_unknown(model: Model, view: FleetView) -> Finding | None:
    if model.spec.shape is not None or model.status.shape is not None:
        return None
    found = inspected(model, view)
    if isinstance(found, Finding):
        return found
    return Finding(reasons.INSPECTING, f"reading config.json from {source_of(model)}")


MODEL_RULES: tuple[ModelRule, ...] = (
    _host_path_not_allowed,  # whoever creates a Model must not read the node's disk
    _image_not_allowed,
    _argument_not_allowed,
    _unknown_pool,  # nothing to plan on
    _shape_unknown,  # last: an inspection Job runs only for what is allowed
)
