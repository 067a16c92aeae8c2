"""RBAC: what the parts may do, and above all what they may not."""

from pathlib import Path
from typing import Any

from motley_operator import lease
from motley_operator.api import GROUP, KINDS

TEMPLATES = Path(__file__).parents[2] / "charts" / "motley" / "templates"
READ = {"get", "list", "watch"}

Permissions = set[tuple[str, str, str]]


def permissions(role: Any) -> Permissions:
    """(group, resource, verb) of every rule."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def roles(rendered: Any) -> list[Any]:
    return [*rendered.kind("ClusterRole").values(), *rendered.kind("Role").values()]


def test_no_permission_is_a_wildcard_or_about_secrets_or_permissions(render: Any, value_set: str) -> None:
    for role in roles(render(value_set)):
        for group, resource, verb in permissions(role):
            assert "*" not in (group, resource, verb)
            assert resource.split("/")[0] not in {"secrets", "configmaps", "serviceaccounts"}
            assert "pods/" not in resource
            assert group != "rbac.authorization.k8s.io"
            assert verb not in {"escalate", "bind", "impersonate", "deletecollection"}


def test_every_role_is_bound_to_the_account_of_its_own_part(render: Any) -> None:
    rendered = render()
    accounts = rendered.kind("ServiceAccount")
    assert set(accounts) == {"motley-operator", "motley-router", "motley-uninstall"}
    for kind in ("ClusterRole", "Role"):
        bindings = rendered.kind(f"{kind}Binding")
        assert set(bindings) == set(rendered.kind(kind))
        for name, binding in bindings.items():
            assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "motley-system"}]
    assert {name: pod["spec"]["serviceAccountName"] for name, pod in rendered.pods().items()} == {
        name: name for name in accounts
    }


def test_the_router_only_reads_routing_tables_and_endpoints(render: Any) -> None:
    role = render().kind("ClusterRole")["motley-router"]
    assert permissions(role) == {
        *((GROUP, "routingtables", verb) for verb in READ),
        *(("discovery.k8s.io", "endpointslices", verb) for verb in READ),
    }
    assert set(render().kind("Role")) == {"motley-operator"}


def test_uninstalling_may_only_take_finalizers_off_pools(render: Any) -> None:
    role = render().kind("ClusterRole")["motley-uninstall"]
    assert permissions(role) == {(GROUP, "gpupools", "list"), (GROUP, "gpupools", "patch")}


def test_the_operator_watches_every_kind_and_writes_every_status(render: Any) -> None:
    allowed = permissions(render().kind("ClusterRole")["motley-operator"])
    for kind in KINDS:
        assert {(GROUP, kind.crd.plural, "list"), (GROUP, kind.crd.plural, "watch")} <= allowed
    with_status = {kind.crd.plural for kind in KINDS if "status" in kind.model_fields} - {"profiles"}
    written = {resource.split("/")[0] for group, resource, _ in allowed if resource.endswith("/status")}
    assert written == with_status


def test_the_operator_never_writes_what_people_write(render: Any) -> None:
    allowed = permissions(render().kind("ClusterRole")["motley-operator"])
    written = {(resource, verb) for group, resource, verb in allowed if group == GROUP and verb not in READ}
    people = {
        (resource, verb) for resource, verb in written if resource in {"fleets", "gpupools", "models", "profiles"}
    }
    assert people == {("gpupools", "patch")}  # its own finalizer


def test_nodes_and_pods_are_only_looked_at(render: Any) -> None:
    for role in roles(render()):
        for _, resource, verb in permissions(role):
            assert resource not in {"nodes", "pods"} or verb in READ


def test_what_is_applied_may_be_created_and_patched(render: Any) -> None:
    """Server-side apply is a patch that needs `create` too where the object is not there yet."""
    allowed = permissions(render().kind("ClusterRole")["motley-operator"])
    created = {(group, resource) for group, resource, verb in allowed if verb == "create"} - {("", "events")}
    assert {(group, resource, "patch") for group, resource in created} <= allowed


def test_the_lease_is_held_in_the_releases_namespace_only(render: Any) -> None:
    role = render("default", release="blue").kind("Role")["blue-motley-operator"]
    assert role["metadata"]["namespace"] == "motley-system"
    verbs = {
        tuple(rule.get("resourceNames", ())): rule["verbs"] for rule in role["rules"] if rule["resources"] == ["leases"]
    }
    assert verbs == {(lease.NAME,): ["get", "update"], (): ["create"]}
    for cluster_role in render().kind("ClusterRole").values():
        assert "leases" not in {resource for _, resource, _ in permissions(cluster_role)}


def test_every_rule_says_why() -> None:
    for path in TEMPLATES.glob("*.yaml"):
        lines = path.read_text().splitlines()
        rules = [number for number, line in enumerate(lines) if line.startswith("  - apiGroups:")]
        for number in rules:
            assert lines[number - 1].startswith("  # "), f"{path.name}:{number + 1}"
