"""The service accounts may do in the cluster what their parts need, and nothing else."""

import pytest

from e2e import stack
from e2e.cluster import Cluster, ClusterError

OPERATOR = {
    "fleets.motley.dev": {"list", "watch"},
    "models.motley.dev": {"list", "watch"},
    "profiles.motley.dev": {"list", "watch"},
    "gpupools.motley.dev": {"list", "watch", "patch"},  # their finalizer
    "plans.motley.dev": {"list", "watch", "create", "patch", "delete"},
    "routingtables.motley.dev": {"list", "watch", "create", "patch", "delete"},
    "fleets.motley.dev/status": {"patch"},
    "gpupools.motley.dev/status": {"patch"},
    "models.motley.dev/status": {"patch"},
    "plans.motley.dev/status": {"patch"},
    "models.motley.dev/finalizers": {"update"},
    "deployments.apps": {"list", "watch", "create", "patch", "delete"},
    "services": {"list", "create", "patch", "delete"},
    "jobs.batch": {"list", "create", "patch", "delete"},
    "networkpolicies.networking.k8s.io": {"list", "create", "patch", "delete"},
    "poddisruptionbudgets.policy": {"list", "create", "patch", "delete"},
    "nodes": {"list"},
    "pods": {"list"},
    "events": {"create"},
}
AT_HOME = {
    "leases.coordination.k8s.io": {"create"},
    "leases.coordination.k8s.io motley-operator": {"get", "update"},
    "endpointslices.discovery.k8s.io": {"list"},
}
ROUTER = {
    "routingtables.motley.dev": {"get", "list", "watch"},
    "endpointslices.discovery.k8s.io": {"get", "list", "watch"},
}


def granted(cluster: Cluster, part: str, namespace: str) -> dict[str, set[str]]:
    """Verbs by resource (and name of an object, where only that one is meant), without what every account may do."""

    def listed(account: str) -> dict[str, set[str]]:
        text = cluster.kubectl("auth", "can-i", "--list", "--no-headers", f"--as={account}", "-n", namespace)
        found: dict[str, set[str]] = {}
        for line in text.splitlines():
            if not line.startswith(" "):  # these are paths without a resource, such as /healthz
                resource, _, names, verbs = (part.strip("] ") for part in line.replace(" [", "[").split("["))
                found.setdefault(f"{resource} {names}".strip(), set()).update(verbs.split())
        return found

    everybody = listed("system:serviceaccount:default:nobody")
    mine = listed(f"system:serviceaccount:{stack.NAMESPACE}:motley-{part}")
    return {resource: verbs for resource, verbs in mine.items() if resource not in everybody}


def test_the_operator_may_do_what_a_pass_does_and_nothing_with_secrets(motley: Cluster) -> None:
    assert granted(motley, "operator", "default") == OPERATOR
    assert granted(motley, "operator", stack.NAMESPACE) == OPERATOR | AT_HOME


def test_the_router_may_read_tables_and_endpoints(motley: Cluster) -> None:
    assert granted(motley, "router", "default") == ROUTER
    assert granted(motley, "router", stack.NAMESPACE) == ROUTER


@pytest.mark.parametrize("kind", ["secrets", "configmaps", "serviceaccounts", "clusterroles"])
def test_the_operator_is_refused_what_it_was_not_granted(motley: Cluster, kind: str) -> None:
    with pytest.raises(ClusterError, match="forbidden"):
        motley.kubectl("get", kind, f"--as=system:serviceaccount:{stack.NAMESPACE}:motley-operator")
