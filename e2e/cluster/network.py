"""Where a cluster stands on the machine: its addresses, and the namespaces that its processes run in.

As root a cluster has a network namespace, joined to the machine by a pair of virtual interfaces, and a mount
namespace. Interfaces, iptables rules and mounts of the node live in them and vanish with them: two clusters
never meet, and nothing can be left behind. The machine reaches pods and services over a route of its own.
Without root everything listens on the loopback address, at ports that were free.
"""

import ipaddress
import json
import socket
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import packages
from .console import ClusterError, tail
from .state import State, folder_of

LINKS, PODS, SERVICES, FAKE_PODS = "10.201", "10.202", "10.203", "10.204"
SLOTS = range(1, 250)

PORTS = {
    "etcd": 2379,
    "etcd-peer": 2380,
    "etcd-health": 2381,
    "kube-apiserver": 6443,
    "kube-controller-manager": 10257,
    "kube-scheduler": 10259,
    "kwok": 10247,
    "karpenter": 8085,
    "karpenter-health": 8086,
    "dns-health": 8087,
}

# Folders of the machine that containerd, CNI and the kubelet write to wherever their own state is configured.
PRIVATE_FOLDERS = (
    "/run/containerd",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/pods",
    "/var/log/containers",
)


@dataclass(frozen=True)
class Network:
    slot: int
    root: bool

    @property
    def address(self) -> str:
        """Where the API server is, for the machine and for pods; also the address of the real node."""
        return f"{LINKS}.{self.slot}.2" if self.root else "127.0.0.1"

    @property
    def host_address(self) -> str:
        """The machine as pods see it: what a test serves there, pods reach."""
        return f"{LINKS}.{self.slot}.1" if self.root else "127.0.0.1"

    @property
    def pods(self) -> str:
        return f"{PODS}.{self.slot}.0/24"

    @property
    def services(self) -> str:
        return f"{SERVICES}.{self.slot}.0/24"

    @property
    def first_service(self) -> str:
        return f"{SERVICES}.{self.slot}.1"

    @property
    def interface(self) -> str:
        return f"motley{self.slot}"


def free_slot(taken: Iterable[int]) -> int:
    """A slot that no other cluster has and whose addresses the machine does not route already."""
    routed = _routes()
    for slot in SLOTS:
        link = ipaddress.ip_network(f"{LINKS}.{slot}.0/24")
        if slot not in set(taken) and not any(link.overlaps(route) for route in routed):
            return slot
    raise ClusterError("no free address range is left for another cluster: `down` one of them")


def free_ports() -> dict[str, int]:
    """Ports that are free on the loopback address, for a cluster without a network of its own."""
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in PORTS}
    found = {name: opened.getsockname()[1] for name, opened in sockets.items()}
    for opened in sockets.values():
        opened.close()
    return found


def namespace_name(state: State) -> str:
    return f"motley-{state.name}"


def network_namespace(state: State) -> Path:
    return Path("/run/netns") / namespace_name(state)


def mount_namespace(state: State) -> Path:
    return folder_of(state.name) / "namespace" / "mount"


def entered(state: State, command: Sequence[str]) -> list[str]:
    """The command, run in the cluster's namespaces (nsenter becomes the program: the process id stays)."""
    if not state.root:
        return list(command)
    spaces = [f"--net={network_namespace(state)}", f"--mount={mount_namespace(state)}"]
    return ["nsenter", *spaces, "--", *command]


def stands(state: State) -> bool:
    """Whether everything is there that create() makes."""
    made = network_namespace(state).exists() and is_mounted(mount_namespace(state))
    return not state.root or (made and _complete(state).exists())


def create(state: State) -> None:
    """Makes the namespaces, the interfaces and the routes."""
    network, name = Network(state.slot, state.root), namespace_name(state)
    ip("netns", "add", name)
    ip("link", "add", network.interface, "type", "veth", "peer", "name", "eth0", "netns", name)
    ip("addr", "add", f"{network.host_address}/24", "dev", network.interface)
    ip("link", "set", network.interface, "up")
    ip("-n", name, "addr", "add", f"{network.address}/24", "dev", "eth0")
    ip("-n", name, "link", "set", "lo", "up")
    ip("-n", name, "link", "set", "eth0", "up")
    ip("-n", name, "route", "add", "default", "via", network.host_address)
    # A fake pod's address leads nowhere: refused at once, not after a time-out.
    ip("-n", name, "route", "add", "unreachable", f"{FAKE_PODS}.0.0/16")
    for destination in (network.pods, network.services):
        ip("route", "add", destination, "via", network.address)
    _create_mount_namespace(state)
    run(entered(state, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))
    _complete(state).touch()


def delete(state: State) -> None:
    """Removes what create() made, as far as it is there."""
    interface = Network(state.slot, state.root).interface
    if Path("/sys/class/net", interface).exists():
        ip("link", "delete", interface)
    if network_namespace(state).exists():
        ip("netns", "delete", namespace_name(state))
    for mount in (mount_namespace(state), mount_namespace(state).parent):
        if is_mounted(mount):
            run(["umount", "--lazy", str(mount)])


def is_mounted(path: Path, mounts: str | None = None) -> bool:
    """Whether something is mounted there. (os.path.ismount does not see bind mounts.)"""
    lines = (mounts or Path("/proc/self/mountinfo").read_text()).splitlines()
    return str(path).replace(" ", "\\040") in (line.split(" ")[4] for line in lines)


def _complete(state: State) -> Path:
    """Exists when create() came to its end."""
    return mount_namespace(state).with_name("complete")


def _create_mount_namespace(state: State) -> None:
    kept = mount_namespace(state)
    kept.parent.mkdir(parents=True, exist_ok=True)
    # The file that keeps a mount namespace must itself lie on a mount that is not shared with others.
    run(["mount", "--bind", str(kept.parent), str(kept.parent)])
    run(["mount", "--make-private", str(kept.parent)])
    kept.touch()
    run(["unshare", f"--mount={kept}", "--propagation=slave", "true"])
    for folder in PRIVATE_FOLDERS:
        own = folder_of(state.name) / "node" / folder.strip("/").replace("/", "-")
        own.mkdir(parents=True, exist_ok=True)
        Path(folder).mkdir(parents=True, exist_ok=True)
        run(entered(state, ["mount", "--bind", str(own), folder]))


def _routes() -> list[ipaddress.IPv4Network]:
    try:
        listed = json.loads(run(["ip", "-json", "-4", "route"]) or "[]")
    except FileNotFoundError:
        return []
    return [ipaddress.IPv4Network(route["dst"]) for route in listed if route["dst"] != "default"]


def ip(*arguments: str) -> str:
    return run(["ip", *arguments])


def run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=packages.environment())
    if done.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed:\n{tail(done.stderr)}")
    return done.stdout
