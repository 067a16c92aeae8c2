"""What a running cluster consists of: every part with its command line, its files, and how it shows to be ready."""

import hashlib
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import extras, node
from .network import FAKE_PODS
from .site import Site


@dataclass(frozen=True)
class Part:
    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool]
    files: Mapping[str, str] = field(default_factory=dict)  # path → content, written before the start

    @property
    def fingerprint(self) -> str:
        """Changes when the part has to be restarted to become what is described here."""
        return hashlib.sha256(json.dumps([self.command, dict(self.files)]).encode()).hexdigest()[:16]


def parts(site: Site) -> list[Part]:
    """The parts in the order of their start."""
    listed = [etcd(site), api_server(site), controller_manager(site), scheduler(site), kwok(site)]
    if site.state.node:
        listed += [containerd(site), kubelet(site), kube_proxy(site)]
    if "coredns" in site.state.extras:
        listed.append(coredns(site))
    if "karpenter" in site.state.extras:
        listed.append(karpenter(site))
    return listed


def etcd(site: Site) -> Part:
    client, peer = f"http://127.0.0.1:{site.port('etcd')}", f"http://127.0.0.1:{site.port('etcd-peer')}"
    health = f"http://{site.network.address}:{site.port('etcd-health')}"
    command = (
        site.program("etcd"),
        f"--data-dir={site.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        f"--listen-metrics-urls={health}",
        "--unsafe-no-fsync",  # what a power cut would lose here nobody misses
        "--log-level=warn",
    )
    return Part("etcd", command, lambda: answers(f"{health}/health"))


def api_server(site: Site) -> Part:
    pki, network = site.certificates, site.network
    reachable = ("--endpoint-reconciler-type=none",)  # the loopback address cannot be an endpoint
    if network.root:
        reachable = (f"--advertise-address={network.address}",)
    command = (
        site.program("kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{site.port('etcd')}",
        f"--bind-address={network.address}",
        f"--secure-port={site.port('kube-apiserver')}",
        *reachable,
        f"--service-cluster-ip-range={network.services}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'server.crt'}",
        f"--tls-private-key-file={pki / 'server.key'}",
        f"--kubelet-client-certificate={pki / 'admin.crt'}",
        f"--kubelet-client-key={pki / 'admin.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'service-accounts.key'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
    )
    return Part("kube-apiserver", command, lambda: answers(f"{site.server}/readyz"))


def controller_manager(site: Site) -> Part:
    pki, port = site.certificates, site.port("kube-controller-manager")
    command = (
        site.program("kube-controller-manager"),
        f"--kubeconfig={site.client('kube-controller-manager')}",
        f"--bind-address={site.network.address}",
        f"--secure-port={port}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        f"--service-cluster-ip-range={site.network.services}",
    )
    url = f"https://{site.network.address}:{port}/healthz"
    return Part("kube-controller-manager", command, lambda: answers(url))


def scheduler(site: Site) -> Part:
    port = site.port("kube-scheduler")
    command = (
        site.program("kube-scheduler"),
        f"--kubeconfig={site.client('kube-scheduler')}",
        f"--bind-address={site.network.address}",
        f"--secure-port={port}",
        "--leader-elect=false",
    )
    return Part("kube-scheduler", command, lambda: answers(f"https://{site.network.address}:{port}/healthz"))


def kwok(site: Site) -> Part:
    server = f"{site.network.address}:{site.port('kwok')}"
    command = (
        site.program("kwok"),
        f"--kubeconfig={site.kubeconfig}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--cidr={FAKE_PODS}.0.1/16",
        "--node-lease-duration-seconds=40",
        f"--server-address={server}",
    )
    return Part("kwok", command, lambda: answers(f"http://{server}/healthz"))


def containerd(site: Site) -> Part:
    path = str(site.folder / "node" / "containerd.toml")
    files = {path: node.containerd_config(site), **node.cni_files(site)}
    return Part("containerd", ("containerd", f"--config={path}"), lambda: node.containerd_answers(site), files)


def kubelet(site: Site) -> Part:
    path = str(site.folder / "node" / "kubelet.json")
    command = (
        site.program("kubelet"),
        f"--config={path}",
        f"--kubeconfig={site.client('kubelet')}",
        f"--hostname-override={site.node_name}",
        f"--node-ip={site.network.address}",
        f"--node-labels={node.LABEL}",
    )
    url = f"http://{site.network.address}:{node.HEALTH_PORT}/healthz"
    files = {path: node.kubelet_config(site), str(site.folder / "node" / "resolv.conf"): ""}
    return Part("kubelet", command, lambda: answers(url), files)


def kube_proxy(site: Site) -> Part:
    command = (
        site.program("kube-proxy"),
        f"--kubeconfig={site.client('kube-proxy')}",
        f"--hostname-override={site.node_name}",
        "--proxy-mode=iptables",
        "--iptables-min-sync-period=100ms",  # default 1s, in which a service still refuses its ready pods
        f"--cluster-cidr={site.network.pods}",
        "--conntrack-max-per-core=0",  # the table's size belongs to the whole machine
        f"--healthz-bind-address={site.network.address}:10256",
    )
    return Part("kube-proxy", command, lambda: answers(f"http://{site.network.address}:10256/healthz"))


def coredns(site: Site) -> Part:
    path = str(site.folder / "Corefile")
    command = (site.program("coredns"), "-conf", path)
    url = f"http://{site.network.address}:{site.port('dns-health')}/health"
    return Part("coredns", command, lambda: answers(url), {path: extras.corefile(site)})


def karpenter(site: Site) -> Part:
    path = str(site.folder / "instance-types.json")
    command = (
        "env", f"KUBECONFIG={site.kubeconfig}",
        site.program("karpenter"),
        f"--instance-types-file-path={path}",
        "--disable-leader-election",
        f"--metrics-port={site.port('karpenter')}",
        f"--health-probe-port={site.port('karpenter-health')}",
    )  # fmt: skip
    url = f"http://{site.network.address}:{site.port('karpenter-health')}/healthz"
    return Part("karpenter", command, lambda: answers(url), {path: extras.instance_types()})


def answers(url: str) -> bool:
    """Whether the address answers 200. Certificates are not checked: a part is only asked for its health."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with direct.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
