"""Builds container images without a daemon or a registry, and gives them to a cluster's containerd.

A minimal Debian made by debootstrap is the base; the project's Containerfiles, which also make the production
images, are built on it with buildah. Nothing is built or copied twice: an image is keyed by what goes into it,
and containerd is given only the layers it lacks.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import node, packages
from .build import build_pause, cache, locked
from .console import ClusterError, say, step, tail
from .site import Site

CHECKOUT = Path(__file__).parents[2]
RECIPES = CHECKOUT / "e2e" / "images"
PROJECT = ("operator", "router", "worker")
CODE = ("pyproject.toml", "README.md", "LICENSE", "operator", "solver", "worker")
REQUIREMENTS = ("e2e/images/build.txt", "e2e/requirements/operator.txt", "e2e/requirements/router.txt")

DEBIAN = "bookworm"
MIRROR = os.environ.get("MOTLEY_DEBIAN_MIRROR", "http://deb.debian.org/debian")
BASE_PACKAGES = ("ca-certificates", "libgomp1", "libnuma1", "python3", "python3-venv")
# A change of what the base holds is a new base.
_BASE_INPUTS = repr((DEBIAN, BASE_PACKAGES, (RECIPES / "base.Containerfile").read_text()))
BASE = f"localhost/motley-base:{hashlib.sha256(_BASE_INPUTS.encode()).hexdigest()[:8]}"
LEFT_OUT = ("./dev/*", "./proc/*", "./sys/*", "./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*")

# Files in an image's context get one time, so that equal content is recognised in every checkout.
EPOCH = 1577836800  # 2020-01-01; a wheel, being a zip file, cannot be older than 1980


def tag(name: str) -> str:
    return f"localhost/motley-{name}:dev"


def build_all() -> None:
    """Builds the images of the project as the checkout is now."""
    _build_base()
    with tempfile.TemporaryDirectory() as context:
        write_context(CHECKOUT, Path(context))  # once: the three are of one state of the code
        for name in PROJECT:
            _build(tag(name), RECIPES / f"{name}.Containerfile", Path(context), {"BASE": BASE})


def import_all(site: Site) -> None:
    for name in PROJECT:
        _import(site, tag(name))


def import_base(site: Site) -> str:
    """The base alone, for pods that need no more than a Python; returns its name."""
    packages.install(packages.IMAGES)
    _build_base()
    _import(site, BASE)
    return BASE


def import_pause(site: Site) -> None:
    """The one image that every pod needs."""
    packages.install(packages.IMAGES)
    with tempfile.TemporaryDirectory() as context:
        shutil.copy2(build_pause(RECIPES / "pause" / "main.go"), context)
        _build(node.PAUSE_IMAGE, RECIPES / "pause.Containerfile", Path(context))
    _import(site, node.PAUSE_IMAGE)


def content_key(folder: Path) -> str:
    """A hash of the names and contents of all files in the folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def write_context(checkout: Path, target: Path) -> None:
    """Copies what the project's Containerfiles use, without caches, with one time and plain modes."""
    for name in (*CODE, *REQUIREMENTS):
        source, copy = checkout / name, target / name
        if not source.exists():
            raise ClusterError(f"{source} is missing: the images are built from it")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".*"))
        else:
            shutil.copyfile(source, copy)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH, EPOCH))


def _build_base() -> None:
    with locked("image-base"), tempfile.TemporaryDirectory(dir=_folder()) as work:
        archive = Path(work) / "base.tar"
        if _key_of(BASE) is None:
            _debootstrap(Path(work) / "root", archive)
            _build(BASE, RECIPES / "base.Containerfile", Path(work))
        else:
            say(f"  ✓ image {BASE} from the cache")


def _debootstrap(root: Path, archive: Path) -> None:
    with step(f"debootstrap {DEBIAN} with {', '.join(BASE_PACKAGES)}"):
        _run(["debootstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}", DEBIAN, str(root), MIRROR])
        _run(["tar", "-C", str(root), *(f"--exclude={path}" for path in LEFT_OUT), "-cf", str(archive), "."])
        shutil.rmtree(root)  # or it would be sent to the build with the archive


def _build(image: str, recipe: Path, context: Path, arguments: Mapping[str, str] | None = None) -> None:
    """Builds the image unless it was built from the same recipe, context and base already."""
    arguments = arguments or {}
    parts = [recipe.read_text(), content_key(context), *(_key_of(base) or "" for base in arguments.values())]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    with locked(f"image-{_short(image)}"):
        if _key_of(image) == key:
            say(f"  ✓ image {image} from the cache")
            return
        _build_anew(image, recipe, context, arguments)
        _key_file(image).write_text(key)


def _build_anew(image: str, recipe: Path, context: Path, arguments: Mapping[str, str]) -> None:
    with step(f"build image {image}"), tempfile.TemporaryDirectory() as settings:
        given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        volumes = [part for volume in _pip_settings(Path(settings)) for part in ("--volume", volume)]
        command = ["bud", "--isolation", "chroot", "--layers", "--pull-never", *given, *volumes]
        _buildah(*command, "--format", "oci", "--tag", image, "--file", str(recipe), str(context))
        _export(image)


def _key_of(image: str) -> str | None:
    """What the image in the cache was built from."""
    path = _key_file(image)
    return path.read_text() if path.exists() else None


def _key_file(image: str) -> Path:
    return _folder() / f"{_short(image)}.key"


def _short(image: str) -> str:
    return image.replace("/", "-").replace(":", "-")


def _pip_settings(folder: Path) -> Iterator[str]:
    """The user's pip settings and certificates, mounted while an image is built and not kept in it."""
    lines = ["[global]"]
    for name in ("INDEX_URL", "EXTRA_INDEX_URL", "TRUSTED_HOST", "DEFAULT_TIMEOUT", "RETRIES"):
        if value := os.environ.get(f"PIP_{name}"):
            lines.append(f"{name.lower().replace('_', '-')} = {value}")
    bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if bundle and Path(bundle).exists():
        lines.append("cert = /run/host-certificates.crt")
        yield f"{bundle}:/run/host-certificates.crt:ro"
    settings = folder / "pip.conf"
    settings.write_text("\n".join(lines) + "\n")
    yield f"{settings}:/etc/pip.conf:ro"


def _import(site: Site, image: str) -> None:
    """Gives containerd the image: of its layers only those that it has not got."""
    manifest = _manifest(image)
    if manifest["digest"] in node.ctr(site, "images", "ls", f"name=={image}").stdout:
        return
    with step(f"import image {image}"), tempfile.TemporaryDirectory() as work:
        archive = Path(work) / "image.tar"
        present = set(node.ctr(site, "content", "ls", "--quiet").stdout.split())
        _write_archive(manifest, image, present, archive)
        node.ctr(site, "images", "import", str(archive))


def _manifest(image: str) -> dict[str, Any]:
    """The image's entry in the layout that all built images share."""
    listed = json.loads((_layout() / "index.json").read_text())["manifests"]
    name = "org.opencontainers.image.ref.name"
    return next(entry for entry in listed if entry.get("annotations", {}).get(name) == _short(image))


def _write_archive(manifest: Mapping[str, Any], image: str, present: set[str], archive: Path) -> None:
    named = {**manifest, "annotations": {"io.containerd.image.name": image}}
    index = archive.with_suffix(".index")
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    with tarfile.open(archive, "w") as tar:
        tar.add(_layout() / "oci-layout", "oci-layout")
        tar.add(index, "index.json")
        for digest in _blobs(manifest["digest"]):
            if digest not in present:
                name = f"blobs/{digest.replace(':', '/')}"
                tar.add(_layout() / name, name)


def _blobs(manifest: str) -> list[str]:
    content = json.loads((_layout() / "blobs" / manifest.replace(":", "/")).read_text())
    return [manifest, content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]


def _layout() -> Path:
    return _folder() / "oci"


def _folder() -> Path:
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _buildah(*arguments: str) -> None:
    where = ["--root", str(_storage()), "--runroot", str(_run_root()), "--storage-driver", "overlay"]
    _run(["nice", "-n", "5", "buildah", *where, *arguments])


def _export(image: str) -> None:
    """Adds the image to the layout. (buildah would compress every layer anew each time; skopeo need not.)"""
    target = f"oci:{_layout()}:{_short(image)}"
    with locked("images"):  # the layout's index is read, changed and written
        _run(["skopeo", "copy", "--dest-oci-accept-uncompressed-layers", stored(image), target])


def stored(image: str) -> str:
    """The image in buildah's storage, as skopeo names it. Without the option skopeo mounts the storage's folder on
    itself and leaves it so; buildah takes that mount away when it ends."""
    return f"containers-storage:[overlay@{_storage()}+{_run_root()}:overlay.skip_mount_home=true]{image}"


def _storage() -> Path:
    return _folder() / "storage"


def _run_root() -> Path:
    return _folder() / "run"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=packages.environment())
    if done.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed:\n{tail(done.stdout + done.stderr, 30)}")
