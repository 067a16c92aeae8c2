"""The operator: custom resources and observations in, a plan and Kubernetes objects out."""


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # takes longer to import than `motley --help` to answer

    return version("motley-fleet")
