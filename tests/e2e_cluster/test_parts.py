import json
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.cluster import certificates, fake_nodes, kubeconfig, network, node, parts
from e2e.cluster.site import Site
from e2e.cluster.state import State


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("MOTLEY_CACHE", str(tmp_path))
    return Site(State("mine", boot="b", slot=3, root=True, node=True, ports=network.PORTS))


def names(site: Site) -> list[str]:
    return [part.name for part in parts.parts(site)]


def test_extras_are_there_only_when_asked_for(site: Site) -> None:
    assert "coredns" not in names(site)
    asked = Site(replace(site.state, extras=("coredns", "karpenter")))
    assert names(asked) == [*names(site), "coredns", "karpenter"]


def test_without_a_node_only_the_control_plane_and_kwok_run(site: Site) -> None:
    bare = Site(replace(site.state, node=False))
    assert names(bare) == ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"]


def test_a_part_with_other_settings_has_another_fingerprint(site: Site) -> None:
    kubelet = parts.kubelet(site)
    assert kubelet.fingerprint == parts.kubelet(site).fingerprint
    assert replace(kubelet, files={"/x": "y"}).fingerprint != kubelet.fingerprint
    assert replace(kubelet, command=("kubelet",)).fingerprint != kubelet.fingerprint


def test_without_root_everything_stays_on_the_loopback_address(site: Site) -> None:
    bare = Site(replace(site.state, root=False, node=False))
    addresses = [word for part in parts.parts(bare) for word in part.command if "10.201" in word]
    assert addresses == []
    assert bare.server.startswith("https://127.0.0.1:")


def test_pods_of_two_clusters_are_under_different_cgroups_and_networks(site: Site) -> None:
    other = Site(replace(site.state, name="other", slot=4))
    one, two = (json.loads(node.kubelet_config(each)) for each in (site, other))
    assert one["cgroupRoot"] != two["cgroupRoot"]
    assert list(node.cni_files(site).values()) != list(node.cni_files(other).values())


def test_the_kubeconfig_holds_everything_and_names_the_server(site: Site) -> None:
    site.folder.mkdir(parents=True)
    site.issue()
    content = json.loads(site.kubeconfig.read_text())
    (cluster,) = content["clusters"]
    assert cluster["cluster"]["server"] == "https://10.201.3.2:6443"
    assert cluster["cluster"]["certificate-authority-data"]
    assert site.kubeconfig.stat().st_mode & 0o077 == 0
    assert content["current-context"] == content["contexts"][0]["name"] == "motley-mine"
    assert kubeconfig.render("motley-mine", site.server, site.certificates, "admin") == site.kubeconfig.read_text()


def test_the_servers_certificate_is_valid_for_the_addresses_that_pods_and_users_take(site: Site) -> None:
    site.folder.mkdir(parents=True)
    site.issue()
    pki = site.certificates
    for address in ("10.201.3.2", "10.203.3.1", "127.0.0.1"):
        subprocess.run(
            ["openssl", "verify", "-CAfile", pki / "ca.crt", "-verify_ip", address, pki / "server.crt"],
            check=True,
            capture_output=True,
        )
    ssl.create_default_context(cafile=str(pki / "ca.crt")).load_cert_chain(pki / "admin.crt", pki / "admin.key")


def test_certificates_are_made_once(site: Site) -> None:
    site.folder.mkdir(parents=True)
    certificates.authority(site.certificates)
    before = (site.certificates / "ca.crt").read_bytes()
    site.issue()
    assert (site.certificates / "ca.crt").read_bytes() == before


def test_fake_nodes_have_gpus_and_a_taint_that_keeps_real_pods_away() -> None:
    manifests = fake_nodes("h100", 2, labels={"motley.dev/pool": "h100"}, gpus=8)
    assert [manifest["metadata"]["name"] for manifest in manifests] == ["h100-0", "h100-1"]
    for manifest in manifests:
        assert manifest["status"]["allocatable"]["nvidia.com/gpu"] == "8"
        assert manifest["metadata"]["labels"]["motley.dev/pool"] == "h100"
        assert manifest["metadata"]["annotations"]["kwok.x-k8s.io/node"] == "fake"
        assert manifest["spec"]["taints"][0]["effect"] == "NoSchedule"


def test_a_fake_node_without_gpus_offers_none() -> None:
    (manifest,) = fake_nodes("cpu", 1, labels={}, gpus=0, tainted=False)
    assert "nvidia.com/gpu" not in manifest["status"]["capacity"]
    assert manifest["spec"]["taints"] == []
