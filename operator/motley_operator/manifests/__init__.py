"""Plan → Kubernetes objects. Pure and deterministic: equal inputs give equal objects, byte by byte."""

from motley_operator.manifests.engine import Group, groups_of
from motley_operator.manifests.inspection import inspection_job
from motley_operator.manifests.objects import deployment, model_objects, routing_table, service

__all__ = ["Group", "deployment", "groups_of", "inspection_job", "model_objects", "routing_table", "service"]
