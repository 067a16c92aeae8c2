"""The operator: custom resources and observations in, a plan and Kubernetes objects out."""

from importlib.metadata import version

__version__ = version("motley-fleet")
