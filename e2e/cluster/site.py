"""One cluster's place: its folders, addresses, ports and clients, from which every part's settings are made."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import certificates, kubeconfig
from .build import binary
from .network import Network
from .programs import PROGRAMS
from .state import State, folder_of

# Who the parts are towards the API server: certificate name → subject.
CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
}


@dataclass(frozen=True)
class Site:
    state: State

    @cached_property
    def network(self) -> Network:
        return Network(self.state.slot, self.state.root)

    @property
    def folder(self) -> Path:
        return folder_of(self.state.name)

    @property
    def certificates(self) -> Path:
        return self.folder / "pki"

    @property
    def node_name(self) -> str:
        return f"motley-{self.state.name}-node"

    @property
    def server(self) -> str:
        return f"https://{self.network.address}:{self.port('kube-apiserver')}"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def port(self, name: str) -> int:
        return self.state.ports[name]

    def program(self, name: str) -> str:
        return str(binary(PROGRAMS[name]))

    def log(self, part: str) -> Path:
        return self.folder / "logs" / f"{part}.log"

    def client(self, user: str) -> Path:
        return self.kubeconfig if user == "admin" else self.folder / "clients" / user

    def issue(self) -> None:
        """Makes the certificates and kubeconfigs that are not there yet."""
        certificates.authority(self.certificates)
        names = ["127.0.0.1", self.network.address, self.network.first_service, "localhost"]
        services = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        certificates.issue(self.certificates, "server", "/CN=kube-apiserver", [*names, *services])
        kubelet = {"kubelet": f"/O=system:nodes/CN=system:node:{self.node_name}"}
        (self.folder / "clients").mkdir(exist_ok=True)
        for user, subject in {**CLIENTS, **kubelet}.items():
            certificates.issue(self.certificates, user, subject)
            path = self.client(user)
            path.write_text(kubeconfig.render(f"motley-{self.state.name}", self.server, self.certificates, user))
            path.chmod(0o600)
