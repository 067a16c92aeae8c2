"""The real node: settings of containerd, CNI and kubelet, its cgroup, and its end."""

import json
import os
import subprocess
import time
from pathlib import Path

from . import network, packages, processes
from .site import Site

LABEL = "motley.dev/pool=cpu"
HEALTH_PORT = 10248
PAUSE_IMAGE = "localhost/pause:1"
SOCKET = "/run/containerd/containerd.sock"  # in the cluster's own mount namespace
CGROUPS = Path("/sys/fs/cgroup")


def containerd_config(site: Site) -> str:
    cni = site.folder / "node" / "cni"
    return f"""\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE (a container, some virtual machines) runc could not lower the score, and would fail.
  restrict_oom_score_adj = true
  disable_tcp_service = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_plugins()}"
    conf_dir = "{cni}"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def cni_plugins() -> str:
    """Debian's package puts the plugins in one folder, everybody else in the other."""
    return next((folder for folder in ("/usr/lib/cni", "/opt/cni/bin") if Path(folder, "ptp").exists()), "/usr/lib/cni")


def cni_files(site: Site) -> dict[str, str]:
    """Pods are joined point to point: every packet is routed, so services work without bridge netfilter."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": site.network.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    content = {
        "cniVersion": "1.0.0",
        "name": network.namespace_name(site.state),
        "plugins": [{"type": "ptp", "ipMasq": False, "ipam": ipam}],
    }
    return {str(site.folder / "node" / "cni" / "10-motley.conflist"): json.dumps(content, indent=2)}


def kubelet_config(site: Site) -> str:
    content = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": site.network.address,
        "healthzBindAddress": site.network.address,
        "healthzPort": HEALTH_PORT,
        "authentication": {"x509": {"clientCAFile": str(site.certificates / "ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup(site)}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        # Names resolve when CoreDNS runs there; otherwise a look-up is refused at once.
        "clusterDNS": [site.network.address],
        "clusterDomain": "cluster.local",
        "resolvConf": str(site.folder / "node" / "resolv.conf"),
        # A full disk of the developer must not evict pods, nor delete images that no registry has.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
    }
    return json.dumps(content, indent=2)


def cgroup(site: Site) -> str:
    return network.namespace_name(site.state)


def create_cgroup(site: Site) -> None:
    """Makes the cgroup that all pods are under, so that two kubelets do not see each other's."""
    for root in _cgroup_roots():
        (root / cgroup(site)).mkdir(exist_ok=True)
        if (root / "cgroup.controllers").exists():
            _delegate(root, cgroup(site))


def containerd_answers(site: Site) -> bool:
    return ctr(site, "version", check=False).returncode == 0


def ctr(site: Site, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    command = network.entered(site.state, ["ctr", "--address", SOCKET, "--namespace", "k8s.io", *arguments])
    if check:
        return subprocess.CompletedProcess(command, 0, network.run(command), "")
    return subprocess.run(command, capture_output=True, text=True, env=packages.environment())


def end_containers(site: Site) -> None:
    """Kills whatever still runs in the cluster's cgroup and namespaces, and removes the cgroup."""
    spaces = network.network_namespace(site.state)
    pids = set(processes.in_network_namespace(spaces)) if spaces.exists() else set()
    groups = [root / cgroup(site) for root in _cgroup_roots() if (root / cgroup(site)).exists()]
    for group in groups:
        for members in group.rglob("cgroup.procs"):
            pids |= {int(line) for line in members.read_text().split()}
    processes.end_all(sorted(pids - {os.getpid()}))
    for group in groups:
        _remove_cgroup(group)


def _cgroup_roots() -> list[Path]:
    """Version 2 has one hierarchy, version 1 one for each controller."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]


def _delegate(root: Path, name: str) -> None:
    """Version 2: lets the cgroup's children have every controller there is."""
    for folder in (root, root / name):
        for controller in (folder / "cgroup.controllers").read_text().split():
            try:
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")
            except OSError:
                continue  # held by a process of the machine itself; the kubelet says when it misses one


def _remove_cgroup(group: Path) -> None:
    until = time.monotonic() + 10
    folders = sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
    for folder in [*folders, group]:
        while folder.exists() and time.monotonic() < until:
            try:
                folder.rmdir()
            except OSError:  # its last process is still on the way out
                time.sleep(0.05)
