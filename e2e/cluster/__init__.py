"""A real Kubernetes cluster on one machine, for the demo and the tests; `python -m e2e.cluster --help`."""

from .cluster import Cluster
from .console import ClusterError
from .fake import fake_nodes

__all__ = ["Cluster", "ClusterError", "fake_nodes"]
