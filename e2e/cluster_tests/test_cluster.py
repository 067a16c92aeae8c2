"""The embedded cluster itself: real pods and services, two clusters side by side, crashes, and nothing left."""

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster, ClusterError, fake_nodes, network, processes
from e2e.waiting import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")

ASKS_FOR_PODS = """
import json, os, ssl, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}/api/v1/namespaces/default/pods"
request = urllib.request.Request(url, headers={"Authorization": "Bearer " + open(folder + "token").read()})
trusted = ssl.create_default_context(cafile=folder + "ca.crt")
try:
    print(urllib.request.urlopen(request, context=trusted, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.fixture(scope="module")
def clusters() -> Iterator[tuple[Cluster, Cluster]]:
    pair = (Cluster("test-one"), Cluster("test-two"))
    try:
        for cluster in pair:
            cluster.up()
            image = cluster.import_base()
            cluster.apply([*web(image, cluster.name)])
        for cluster in pair:
            cluster.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
        yield pair
    finally:
        for cluster in pair:
            cluster.down()


@pytest.fixture
def one(clusters: tuple[Cluster, Cluster]) -> Cluster:
    return clusters[0]


def web(image: str, text: str) -> list[dict[str, Any]]:
    """Two pods that serve the text, and a service in front of them."""
    serve = f"mkdir /tmp/w; echo {text} > /tmp/w/index.html; exec python3 -m http.server -d /tmp/w 8000"
    container = {
        "name": "web",
        "image": image,
        "command": ["sh", "-c", serve],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
    }
    selector, pod = {"app": "web"}, {"containers": [container], "terminationGracePeriodSeconds": 1}
    template = {"metadata": {"labels": selector}, "spec": pod}
    spec = {"replicas": 2, "selector": {"matchLabels": selector}, "template": template}
    service = {"selector": selector, "ports": [{"port": 80, "targetPort": 8000}]}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service},
    ]


def service_address(cluster: Cluster) -> str:
    return cluster.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")


def pods(cluster: Cluster, selector: str = "app=web") -> list[dict[str, Any]]:
    found = json.loads(cluster.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def run_in(cluster: Cluster, pod: str, code: str) -> str:
    return cluster.kubectl("exec", pod, "--", "python3", "-c", code).strip()


def fetched(address: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=5) as response:
            return str(response.read().decode()).strip()
    except OSError:
        return None  # the service's rules are on their way


def test_each_of_two_clusters_answers_through_its_own_service_from_a_pod_and_from_the_machine(
    clusters: tuple[Cluster, Cluster],
) -> None:
    for cluster in clusters:
        address = service_address(cluster)
        assert wait_for(lambda a=address: fetched(a), "the service") == cluster.name  # type: ignore[misc]
        pod, other = pods(cluster)
        code = f"import urllib.request as u; print(u.urlopen('http://{address}', timeout=10).read().decode())"
        assert run_in(cluster, pod["metadata"]["name"], code) == cluster.name
        assert fetched(f"{other['status']['podIP']}:8000") == cluster.name
        assert pod["spec"]["nodeName"] == cluster.node_name


def test_the_real_node_can_be_selected_as_the_cpu_pool_and_has_the_machines_size(one: Cluster) -> None:
    (found,) = json.loads(one.kubectl("get", "nodes", "-l", "motley.dev/pool=cpu", "-o", "json"))["items"]
    assert found["metadata"]["name"] == one.node_name
    assert int(found["status"]["allocatable"]["cpu"]) == os.cpu_count()


def test_a_service_account_may_do_what_its_role_says_and_no_more(one: Cluster) -> None:
    pod = pods(one)[0]["metadata"]["name"]
    assert run_in(one, pod, ASKS_FOR_PODS) == "403"
    one.kubectl("create", "role", "reads-pods", "--verb=list", "--resource=pods")
    one.kubectl("create", "rolebinding", "reads-pods", "--role=reads-pods", "--serviceaccount=default:default")
    wait_for(lambda: run_in(one, pod, ASKS_FOR_PODS) == "200", "the role to be in force", 20)


def test_pods_are_scheduled_onto_fake_gpu_nodes_until_the_gpus_are_used_up(one: Cluster) -> None:
    one.apply(fake_nodes("h100", 1, labels={"motley.dev/pool": "h100"}, gpus=2))
    container = {"name": "c", "image": "fake", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    labels, tolerations = {"app": "gpu"}, [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    pod = {
        "containers": [container],
        "tolerations": tolerations,
        "nodeSelector": {"motley.dev/pool": "h100"},
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
    one.apply([{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gpu"}, "spec": spec}])

    def phases() -> list[str]:
        return sorted(pod["status"]["phase"] for pod in pods(one, "app=gpu"))

    wait_for(lambda: phases() == ["Pending", "Running", "Running"], "two pods on two GPUs", 60, lambda: str(phases()))


@pytest.mark.parametrize("part", ["etcd", "kube-apiserver", "kubelet", "containerd", "kube-proxy"])
def test_up_starts_only_the_part_that_was_killed_and_pods_go_on(one: Cluster, part: str) -> None:
    before, served = one.site.state.processes, pods(one)
    os.kill(before[part].pid, signal.SIGKILL)
    wait_for(lambda: one.status()[part] == "not running", f"{part} to be gone", 20)
    one.up()
    after = one.site.state.processes
    assert {name for name in before if before[name] != after[name]} == {part}
    assert set(one.status().values()) == {"ready"}
    assert [pod["metadata"]["uid"] for pod in pods(one)] == [pod["metadata"]["uid"] for pod in served]
    assert wait_for(lambda: fetched(service_address(one)), "the service", 20) == one.name


def test_up_after_everything_was_killed_brings_everything_back(one: Cluster) -> None:
    for process in one.site.state.processes.values():
        os.kill(process.pid, signal.SIGKILL)
    one.up()
    assert set(one.status().values()) == {"ready"}
    assert wait_for(lambda: fetched(service_address(one)), "the service", 60) == one.name


def test_a_part_that_does_not_start_is_reported_with_the_end_of_its_log(one: Cluster) -> None:
    path = one.site.client("kube-scheduler")
    one.stop("kube-scheduler")
    right = path.read_text()
    path.write_text("not: [a kubeconfig")
    with pytest.raises(ClusterError, match=rf"kube-scheduler: ended\. The end of {one.log('kube-scheduler')}:\n.+"):
        one.start("kube-scheduler")
    path.write_text(right)
    one.start("kube-scheduler")
    assert one.status()["kube-scheduler"] == "ready"


def test_a_cluster_whose_network_was_taken_away_is_made_anew() -> None:
    cluster = Cluster("test-lost")
    try:
        cluster.up(without_node=True)
        cluster.kubectl("create", "namespace", "of-the-first")
        subprocess.run(["ip", "netns", "delete", "motley-test-lost"], check=True)
        cluster.up(without_node=True)
        assert "of-the-first" not in cluster.kubectl("get", "namespaces")
    finally:
        cluster.down()


def test_down_leaves_no_process_mount_interface_namespace_or_cgroup() -> None:
    cluster = Cluster("test-gone")
    cluster.up()
    image = cluster.import_base()
    cluster.apply(web(image, "gone"))
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    site = cluster.site
    space = network.network_namespace(site.state)
    members = processes.in_network_namespace(space)
    assert len(members) > len(site.state.processes)  # the containers' keepers too
    cluster.down()
    assert [pid for pid in members if processes.start_time(pid) is not None] == []
    assert not space.exists() and not site.folder.exists()
    assert "test-gone" not in Path("/proc/self/mountinfo").read_text()
    assert not Path("/sys/class/net", site.network.interface).exists()
    assert list(Path("/sys/fs/cgroup").glob("**/motley-test-gone")) == []
    with pytest.raises(ClusterError, match="not up"):
        cluster.status()
