import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster, ClusterError, state
from e2e.cluster.state import Process, State

SAVED = State("mine", boot="b", slot=3, root=True, node=True, extras=("coredns",), ports={"etcd": 2379})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MOTLEY_CACHE", str(tmp_path))
    yield tmp_path


def test_what_is_saved_is_loaded() -> None:
    wanted = SAVED.with_process("etcd", Process(12, 345, "f"))
    state.save(wanted)
    assert state.load("mine") == wanted
    assert state.names() == ["mine"]


def test_a_cluster_that_was_never_up_has_no_state() -> None:
    assert state.load("mine") is None
    assert state.names() == []


def test_a_process_is_recorded_and_forgotten() -> None:
    running = SAVED.with_process("etcd", Process(1, 2, "f")).with_process("kwok", Process(3, 4, "g"))
    assert running.with_process("etcd", None).processes == {"kwok": Process(3, 4, "g")}


def test_a_clean_up_that_fails_half_way_keeps_the_state(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state.save(SAVED)
    (state.folder_of("mine") / "node").mkdir()

    def refuse(path: Path) -> None:
        raise OSError(f"{path} is busy")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(OSError, match="busy"):
        state.remove(SAVED)
    assert state.load("mine") == SAVED


def test_removing_leaves_nothing(cache: Path) -> None:
    state.save(SAVED)
    (state.folder_of("mine") / "logs").mkdir()
    (state.folder_of("mine") / "kubeconfig").touch()
    state.remove(SAVED)
    assert list(state.clusters_folder().iterdir()) == []


def test_a_cluster_that_is_not_up_says_how_to_start_it() -> None:
    with pytest.raises(ClusterError, match=r"not up: run `python -m e2e\.cluster up --name mine`"):
        _ = Cluster("mine").kubeconfig


@pytest.mark.parametrize("name", ["", "Upper", "9lives", "../etc", "a" * 21])
def test_a_name_that_cannot_be_a_folder_and_a_host_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="cluster name"):
        Cluster(name)
