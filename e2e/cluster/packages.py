"""What the cluster needs from the machine itself: installed with apt as root, otherwise named with the command."""

import os
import shutil
import subprocess
from pathlib import Path

from .console import ClusterError, step, tail

# Debian package → a program of it (found in PATH, or a file).
CONTROL_PLANE = {"openssl": "openssl", "ca-certificates": "/etc/ssl/certs/ca-certificates.crt"}
NETWORK = {"iproute2": "ip", "util-linux": "nsenter", "mount": "mount"}
NODE = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "iptables": "iptables",
    "conntrack": "conntrack",
}
IMAGES = {
    "debootstrap": "debootstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "buildah": "buildah",
    "skopeo": "skopeo",
}
SYSTEM_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin")


def environment() -> dict[str, str]:
    """The environment with the system's own folders on the path, which some users' root lacks."""
    return {**os.environ, "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))}


def is_root() -> bool:
    return os.geteuid() == 0


def missing(packages: dict[str, str]) -> list[str]:
    return [package for package, program in packages.items() if not _there(program)]


def install(*groups: dict[str, str]) -> None:
    """Installs what is missing of the groups, or says in one line what to install."""
    needed = [package for group in groups for package in missing(group)]
    if not needed:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *needed]
    if not is_root() or not shutil.which("apt-get"):
        raise ClusterError(f"missing on this machine: {', '.join(needed)}. Install with: sudo {' '.join(command)}")
    with step(f"install {', '.join(needed)}"):
        _apt(["apt-get", "update"])
        _apt(command)


def _apt(command: list[str]) -> None:
    quiet = {**environment(), "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    if done.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed:\n{tail(done.stdout + done.stderr)}")


def _there(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program, path=environment()["PATH"]) is not None
