"""Renders the chart with the real helm; needs no cluster."""

import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.cluster import Cluster

CHART = Path(__file__).parents[2] / "charts" / "motley"
VALUE_SETS = sorted(path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml"))
OLDEST = "1.30.0"

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Rendered:
    """The objects that one set of values gives."""

    objects: tuple[Object, ...]

    def kind(self, kind: str) -> dict[str, Object]:
        return {item["metadata"]["name"]: item for item in self.objects if item["kind"] == kind}

    def pods(self) -> dict[str, Object]:
        """Pod templates by the name of the object that holds them."""
        holders = [item for item in self.objects if item["kind"] in ("Deployment", "Job")]
        return {item["metadata"]["name"]: item["spec"]["template"] for item in holders}

    def environment(self, deployment: str) -> dict[str, str]:
        """What a container finds in its environment, in namespace motley-system and a pod named pod-0."""
        fields = {"metadata.name": "pod-0", "metadata.namespace": "motley-system"}
        (container,) = self.pods()[deployment]["spec"]["containers"]
        return {
            entry["name"]: entry.get("value") or fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
            for entry in container["env"]
        }


Helm = Callable[..., "subprocess.CompletedProcess[str]"]
Render = Callable[..., Rendered]


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs helm; it is built from its Go module where the cache has none."""
    program = Cluster().bin("helm")

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([program, *arguments], capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """Objects of a value set of charts/motley/ci, with further `--set` arguments."""

    @cache
    def rendered(values: str = "default", *settings: str, release: str = "motley") -> Rendered:
        done = helm(*template(values, settings, release))
        assert done.returncode == 0, done.stderr
        return Rendered(tuple(item for item in yaml.load_all(done.stdout, yaml.CSafeLoader) if item))

    return rendered


@pytest.fixture(scope="session")
def refusal(helm: Helm) -> Callable[..., str]:
    """What helm says to values that it must refuse."""

    def refused(*settings: str) -> str:
        done = helm(*template("default", settings, "motley"))
        assert done.returncode != 0, f"accepted: {settings}"
        return done.stderr

    return refused


@pytest.fixture(params=VALUE_SETS)
def value_set(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def template(values: str, settings: Iterable[str], release: str) -> list[str]:
    given = [part for setting in settings for part in ("--set-json", setting)]
    file = str(CHART / "ci" / f"{values}-values.yaml")
    where = ["--namespace", "motley-system", "--kube-version", OLDEST]
    return ["template", release, str(CHART), *where, "--values", file, *given]
