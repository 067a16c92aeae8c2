import ipaddress
import socket
from pathlib import Path

import pytest

from e2e.cluster import ClusterError, network
from e2e.cluster.network import Network

MOUNTS = """\
24 1 254:0 / / rw,relatime - ext4 /dev/vda rw
41 24 254:0 /home/me/a /home/me/a\\040b/namespace rw,relatime - ext4 /dev/vda rw
"""


def test_two_clusters_share_no_address() -> None:
    one, two = Network(1, root=True), Network(2, root=True)
    ranges = [ipaddress.ip_network(text) for each in (one, two) for text in (each.pods, each.services)]
    assert not any(a.overlaps(b) for a in ranges for b in ranges if a is not b)
    assert one.address != two.address and one.interface != two.interface


def test_the_name_of_an_interface_fits_the_kernels_limit() -> None:
    assert max(len(Network(slot, root=True).interface) for slot in network.SLOTS) <= 15


def test_a_slot_that_another_cluster_has_is_not_given_again() -> None:
    first = network.free_slot([])
    assert network.free_slot([first]) not in (first, None)


def test_no_slot_left_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ClusterError, match="down"):
        network.free_slot(network.SLOTS)


def test_a_cluster_without_root_gets_ports_of_its_own_that_are_free() -> None:
    ports = network.free_ports()
    assert set(ports) == set(network.PORTS)
    assert len(set(ports.values())) == len(ports)
    with socket.create_server(("127.0.0.1", ports["kube-apiserver"])):
        pass


def test_a_bind_mount_is_seen_also_where_the_path_has_a_space() -> None:
    assert network.is_mounted(Path("/home/me/a b/namespace"), MOUNTS)
    assert not network.is_mounted(Path("/home/me/a b"), MOUNTS)
