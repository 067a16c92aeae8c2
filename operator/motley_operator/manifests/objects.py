"""The objects round the engines: Deployment and Service of a group; NetworkPolicy, budget, routing table of a Model."""

from collections.abc import Iterator, Sequence

from motley_operator.api import Metadata, Model, Plan, RoutingTable, RoutingTableSpec
from motley_operator.api.plan import PlannedBucket
from motley_operator.api.quantities import seconds
from motley_operator.api.routingtable import Backend, RouteSize, RouteSlo
from motley_operator.labels import COMPONENT, MANAGED, MODEL
from motley_operator.manifests.engine import HEALTH_PORT, HTTP_PORT, Group
from motley_operator.manifests.pods import Manifest, owner_of
from motley_operator.settings import Settings


def deployment(group: Group, replicas: int) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(group.model, group.name, group.labels),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": 3600,
            "selector": {"matchLabels": group.selector},
            "template": dict(group.template),
        },
    }


def service(group: Group) -> Manifest:
    """Headless: its EndpointSlices tell the router the replicas of exactly this group."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(group.model, group.name, group.labels),
        "spec": {
            "clusterIP": "None",
            "selector": group.selector,
            "ports": [{"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def model_objects(model: Model, settings: Settings) -> tuple[Manifest, ...]:
    """What a Model has once, however many groups it has."""
    name = f"motley-model-{model.metadata.name}"
    labels = {**MANAGED, MODEL: model.metadata.name}
    selector = {"matchLabels": {MODEL: model.metadata.name, COMPONENT: "engine"}}
    routers = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}},
        "podSelector": {"matchLabels": dict(settings.router_labels)},
    }
    ingress: list[Manifest] = [{"from": [routers], "ports": [{"protocol": "TCP", "port": HTTP_PORT}]}]
    if settings.scrape_namespaces:
        scrapers = [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
            for namespace in settings.scrape_namespaces
        ]
        ports = [{"protocol": "TCP", "port": port} for port in (HTTP_PORT, HEALTH_PORT)]
        ingress.append({"from": scrapers, "ports": ports})
    return (
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": _metadata(model, name, labels),
            "spec": {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": _metadata(model, name, labels),
            "spec": {"maxUnavailable": 1, "selector": selector},
        },
    )


def _metadata(model: Model, name: str, labels: dict[str, str]) -> Manifest:
    return {
        "name": name,
        "namespace": model.metadata.namespace,
        "labels": labels,
        "ownerReferences": [owner_of(model)],
    }


def routing_table(model: Model, groups: Sequence[Group], leaving: Sequence[str], plan: Plan) -> Manifest:
    """The plan's assignment by Service. Groups that are leaving stay listed with no share: until the others are
    ready they serve, since a router without a live endpoint of its choice takes any."""
    backends = [Backend(service=group.name) for group in groups] + [Backend(service=name) for name in leaving]
    assigned = next((one.buckets for one in plan.spec.assignment if one.model == model.key), ())
    per_thousand = model.spec.slo.ttft_per_thousand_input_tokens
    table = RoutingTable(
        metadata=Metadata(name=model.metadata.name, namespace=model.metadata.namespace),
        spec=RoutingTableSpec(
            served_name=model.served_name,
            model=model.metadata.name,
            slo=RouteSlo(
                ttft_seconds=seconds(model.spec.slo.ttft),
                ttft_seconds_per_thousand_input_tokens=seconds(per_thousand) if per_thousand else 0.0,
                tpot_seconds=seconds(model.spec.slo.tpot),
            ),
            backends=tuple(backends),
            sizes=tuple(_sizes(assigned, groups, len(leaving))) if groups else (),
        ),
    ).to_json()
    table["metadata"] = _metadata(model, model.metadata.name, {**MANAGED, MODEL: model.metadata.name})
    return table


def _sizes(assigned: Sequence[PlannedBucket], groups: Sequence[Group], leaving: int) -> Iterator[RouteSize]:
    """What the plan leaves unserved is tried all the same: like the other sizes of its input, which the router cannot
    tell from it, or else by numbers of replicas."""
    planned = {one: _weights(one, groups) for one in assigned}
    alike = {one.input_tokens: weights for one, weights in planned.items() if any(weights)}
    replicas = [float(group.allocation.replicas) for group in groups]
    for one, weights in planned.items():
        found = weights if any(weights) else alike.get(one.input_tokens, replicas)
        shares = (round(weight / sum(found), 6) for weight in found)
        sizes = {"input_tokens": one.input_tokens, "output_tokens": one.output_tokens}
        yield RouteSize(**sizes, shares=(*shares, *(0.0 for _ in range(leaving))))


def _weights(bucket: PlannedBucket, groups: Sequence[Group]) -> list[float]:
    planned = {(share.pool, share.tensor_parallel): share.share for share in bucket.shares}
    return [planned.get((g.allocation.pool, g.allocation.tensor_parallel), 0.0) for g in groups]
