"""`make demo` on a cluster that is there already (MOTLEY_CLUSTER=current), as its user has it: a kubeconfig, kubectl,
helm, a values file. The embedded way is what every run of these scenarios starts with."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from e2e import stack
from e2e.cluster import Cluster


def demo(cluster: Cluster, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    for program in ("kubectl", "helm"):
        (folder / program).symlink_to(cluster.bin(program))
    values = folder / "values.json"
    values.write_text(json.dumps(stack.values()))
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{folder}:{os.environ['PATH']}",
        "MOTLEY_CLUSTER": "current",
        "MOTLEY_VALUES": str(values),
        **changes,
    }
    command = [sys.executable, "-m", "e2e.demo", "up"]
    return subprocess.run(command, cwd=stack.CHECKOUT, env=environment, capture_output=True, text=True, timeout=600)


def test_the_demo_serves_a_completion_on_the_cluster_of_a_kubeconfig(
    tiny: str, motley: Cluster, tmp_path: Path
) -> None:
    done = demo(motley, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing under" in done.stderr, "what was decided, and how near it is to the bound"
    answer = re.search(r"^tiny: (.+)$", done.stderr, re.MULTILINE)
    assert answer and answer[1].strip(), done.stderr


def test_the_demo_says_what_it_needs_for_the_cluster_of_a_kubeconfig(motley: Cluster, tmp_path: Path) -> None:
    done = demo(motley, tmp_path, MOTLEY_VALUES="")
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "MOTLEY_CLUSTER=current needs MOTLEY_VALUES: a values file with images that it can pull"
    )
