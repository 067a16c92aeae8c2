"""Groups of engine replicas and inspection Jobs, made of the builders of `fleets`, and what to look at in them."""

from typing import Any

from fleets import Json, allocation, model, models_of, plan, pool, pools_of

from motley_operator.manifests import Group, groups_of, inspection_job
from motley_operator.settings import Settings


def group_of(
    spec: Json | None = None,
    name: str = "chat",
    on: str = "l4",
    pool_spec: Json | None = None,
    with_settings: Settings | None = None,
    namespace: str = "team",
    **changes: Any,
) -> Group:
    raw, raw_pool = model(name, spec or {}, namespace=namespace), pool(on, pool_spec or {})
    made = plan(1, allocation(f"{namespace}/{name}", on, **changes))
    (found,) = groups_of(made, models_of(raw), pools_of(raw_pool), with_settings or Settings())
    return found


def engine(group: Group) -> Json:
    (container,) = group.template["spec"]["containers"]
    found: Json = container
    return found


def job_of(spec: Json | None = None, *pools: Json, name: str = "chat", with_settings: Settings | None = None) -> Json:
    (found,) = models_of(model(name, spec or {})).values()
    return inspection_job(found, list(pools_of(*pools).values()), with_settings or Settings())


def environment(container: Json) -> dict[str, Json]:
    names = [one["name"] for one in container["env"]]
    assert len(names) == len(set(names)), "of two variables of one name the last wins, silently"
    return {one["name"]: one for one in container["env"]}
