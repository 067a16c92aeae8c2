import dataclasses
import threading
from pathlib import Path

import pytest

from e2e.cluster import build, programs

GO_MOD = """\
module k8s.io/kubernetes

go 1.24.0

require (
\tk8s.io/api v0.0.0
\tk8s.io/klog/v2 v2.130.1
)

replace (
\tk8s.io/api => ./staging/src/k8s.io/api
\tk8s.io/kubelet => ./staging/src/k8s.io/kubelet
\tgithub.com/some/fork => github.com/other/fork v1.2.3
)

replace k8s.io/mount-utils => ./staging/src/k8s.io/mount-utils
"""


def test_the_staging_modules_of_kubernetes_are_found_in_both_forms_of_replace() -> None:
    assert build.staging_modules(GO_MOD) == ["k8s.io/api", "k8s.io/kubelet", "k8s.io/mount-utils"]


def test_staging_modules_are_replaced_by_the_release_that_belongs_to_the_program() -> None:
    program = dataclasses.replace(programs.PROGRAMS["kubelet"], version="v1.34.4")
    text = build.go_mod(program, "1.26.0", ["k8s.io/api"])
    assert "require k8s.io/kubernetes v1.34.4\n" in text
    assert "replace k8s.io/api => k8s.io/api v0.34.4\n" in text


def test_programs_are_named_as_go_names_them() -> None:
    assert build._output_name("go.etcd.io/etcd/server/v3") == "server"
    assert build._output_name("k8s.io/kubernetes/cmd/kubelet") == "kubelet"


def test_a_program_of_another_version_has_another_place_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTLEY_CACHE", str(tmp_path))
    now = programs.PROGRAMS["etcd"]
    later = dataclasses.replace(now, version="v3.7.0")
    assert build.binary(now) != build.binary(later)
    assert build.binary(now).is_relative_to(tmp_path)


def test_what_is_in_the_cache_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTLEY_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # no Go to be found: building would fail
    for name in programs.TOOLS:
        path = build.binary(programs.PROGRAMS[name])
        path.parent.mkdir(parents=True)
        path.touch()
    build.build(programs.TOOLS)


def test_every_program_that_a_group_names_is_in_the_list() -> None:
    groups = (*programs.CONTROL_PLANE, *programs.NODE, *programs.TOOLS, *programs.EXTRAS)
    assert set(groups) == set(programs.PROGRAMS)


def test_two_runs_do_not_hold_one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTLEY_CACHE", str(tmp_path))
    order: list[str] = []

    def second() -> None:
        with build.locked("build"):
            order.append("second")

    with build.locked("build"):
        other = threading.Thread(target=second)
        other.start()
        other.join(timeout=0.2)
        order.append("first")
    other.join(timeout=10)
    assert order == ["first", "second"]
