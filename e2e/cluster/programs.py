"""The list of programs that the cluster is made of: which Go module and version each one comes from."""

from dataclasses import dataclass

KUBERNETES = "v1.34.4"


@dataclass(frozen=True)
class Program:
    name: str
    module: str
    version: str
    package: str
    ldflags: str = ""
    files: tuple[str, ...] = ()  # of the module, which the program needs beside it


def _kubernetes(name: str) -> Program:
    _, minor, _ = KUBERNETES.split(".")
    stamp = {"gitVersion": KUBERNETES, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamp.items())
    return Program(name, "k8s.io/kubernetes", KUBERNETES, f"k8s.io/kubernetes/cmd/{name}", flags)


_ALL = (
    Program("etcd", "go.etcd.io/etcd/server/v3", "v3.6.8", "go.etcd.io/etcd/server/v3"),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubectl"),
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Program("kwok", "sigs.k8s.io/kwok", "v0.7.0", "sigs.k8s.io/kwok/cmd/kwok"),
    Program("helm", "helm.sh/helm/v3", "v3.22.0", "helm.sh/helm/v3/cmd/helm"),
    Program("coredns", "github.com/coredns/coredns", "v1.14.1", "github.com/coredns/coredns"),
    Program(
        "karpenter",
        "sigs.k8s.io/karpenter",
        "v1.14.1",
        "sigs.k8s.io/karpenter/kwok",
        files=("pkg/apis/crds/*.yaml", "kwok/apis/crds/*.yaml"),
    ),
)
PROGRAMS = {program.name: program for program in _ALL}

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE = ("kubelet", "kube-proxy")
TOOLS = ("kwok", "helm")
EXTRAS = ("coredns", "karpenter")
