"""The operator against a real API server: how soon a Model has Deployments, what a pass and idling cost.

    python bench/control_plane.py [--only latency|passes] [--keep]

An embedded cluster of its own (control plane, fake nodes) and the operator as a local process, all on this machine."""

import argparse
import os
import platform
import re
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kubernetes import client

from bench.control_plane_latency import latency_table
from bench.control_plane_passes import passes_table
from bench.control_plane_start import Bench, prepare
from bench.machine import load
from e2e.cluster import Cluster
from e2e.cluster.programs import KUBERNETES

TABLES = {"latency": latency_table, "passes": passes_table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TABLES)
    parser.add_argument("--name", default="bench", help="of the cluster")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    chosen = parser.parse_args()
    print(described(), flush=True)
    cluster = Cluster(chosen.name)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up then too
    with tempfile.TemporaryDirectory() as folder:
        try:
            cluster.down()  # what a killed run may have left
            cluster.up(without_node=True)
            bench = Bench(cluster, Path(folder))
            prepare(bench)
            for name in [chosen.only] if chosen.only else TABLES:
                TABLES[name](bench)
        finally:
            if not chosen.keep:
                cluster.down()


def described() -> str:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores {cpu[1] if cpu else platform.machine()}, "
        f"{memory:.0f} GiB, load {load()}, Python {platform.python_version()}, Kubernetes {KUBERNETES}, "
        f"kubernetes client {client.__version__}; API server, etcd and operator share the machine"
    )


if __name__ == "__main__":
    main()
