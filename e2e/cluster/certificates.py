"""A throw-away certificate authority and the certificates of one cluster, made with openssl."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from .console import ClusterError, tail

DAYS = "3650"


def authority(folder: Path) -> None:
    """Makes the authority and the key that signs ServiceAccount tokens, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / "ca.crt").exists():
        _make(
            folder, "ca", "/CN=motley-cluster-ca", "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign", []
        )
    if not (folder / "service-accounts.key").exists():
        _openssl("genrsa", "-out", str(folder / "service-accounts.key"), "2048")


def issue(folder: Path, name: str, subject: str, addresses: Iterable[str] = ()) -> None:
    """Makes NAME.crt and NAME.key for a client, or with addresses for a server too."""
    if (folder / f"{name}.crt").exists():
        return
    extensions = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth,serverAuth"
    names = ",".join(("IP:" if part.replace(".", "").isdigit() else "DNS:") + part for part in addresses)
    if names:
        extensions += f"\nsubjectAltName={names}"
    _make(folder, name, subject, extensions, ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")])


def _make(folder: Path, name: str, subject: str, extensions: str, signer: list[str]) -> None:
    settings = folder / f"{name}.cnf"
    settings.write_text(f"[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n{extensions}\n")
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key)]
    _openssl(
        "req", "-x509", "-config", str(settings), "-subj", subject, "-days", DAYS,
        *new_key, *signer, "-out", str(certificate) + ".draft",
    )  # fmt: skip
    Path(f"{certificate}.draft").rename(certificate)


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"openssl {' '.join(arguments)} failed:\n{tail(done.stderr)}")
