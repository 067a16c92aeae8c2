"""One embedded cluster: up, down, and what demo and tests do with it."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from . import build, images, network, node, packages, processes, programs, state
from .console import ClusterError, say, step, tail
from .parts import Part, parts
from .site import Site
from .state import Process, State

PATIENCE = 120.0  # seconds until a part that was started must be ready
STUCK_AFTER = 20.0  # seconds without an answer after which `up` starts a running part anew


class Cluster:
    """A cluster by its name; several stand side by side. Every method may be called again at any time."""

    def __init__(self, name: str = "demo") -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", name):
            raise ClusterError(f"cluster name {name!r}: use up to 20 of a-z, 0-9 and '-', a letter first")
        self.name = name

    # What it is made of and where it is

    @property
    def site(self) -> Site:
        recorded = state.load(self.name)
        if recorded is None:
            raise ClusterError(f"cluster {self.name} is not up: run `python -m e2e.cluster up --name {self.name}`")
        return Site(recorded)

    @property
    def kubeconfig(self) -> Path:
        return self.site.kubeconfig

    @property
    def node_name(self) -> str:
        """The real node; a cluster without root has none."""
        return self.site.node_name

    @property
    def has_node(self) -> bool:
        return self.site.state.node

    @property
    def host_address(self) -> str:
        """The machine as pods see it."""
        return self.site.network.host_address

    def bin(self, name: str) -> Path:
        """The program, built if it is not in the cache yet."""
        path = build.binary(programs.PROGRAMS[name])
        if not path.exists():
            build.build([name])
        return path

    def log(self, part: str) -> Path:
        return self.site.log(part)

    # Up and down

    def up(self, *, without_node: bool = False, extras: Sequence[str] = ()) -> None:
        """Starts what is not running, and everything anew where the machine was restarted or a namespace lost.

        Parts that run as they should are left alone. Without root there is no real node, and it is said why.
        """
        root = packages.is_root()
        if not root and not without_node:
            say("  ! not root: control plane and fake nodes only; containers, and so real pods, need root")
        with_node = root and not without_node
        unknown = set(extras) - set(programs.EXTRAS)
        if unknown:
            raise ClusterError(f"unknown extra {', '.join(sorted(unknown))}: there are {', '.join(programs.EXTRAS)}")
        self._prepare(root, with_node, extras)
        with build.locked(f"cluster-{self.name}"):
            self._settle(root, with_node, extras)
            for part in parts(self.site):
                if part.name == "karpenter":
                    self.kubectl("apply", "--server-side", "-f", str(self.bin("karpenter").parent / "files"))
                self._ensure(part)
                if part.name == "containerd":
                    images.import_pause(self.site)
            if with_node:
                self._await_node()
        say(f"  ✓ cluster {self.name} is up: export KUBECONFIG={self.kubeconfig}")

    def down(self) -> None:
        """Ends everything and deletes the cluster's folder; what is built stays in the cache."""
        with build.locked(f"cluster-{self.name}"):
            recorded = state.load(self.name)
            if recorded is None:
                say(f"  ✓ cluster {self.name} is not there")
                return
            with step(f"cluster {self.name} down"):
                _tear_down(recorded)

    def status(self) -> Mapping[str, str]:
        """What each part is at this moment."""
        site = self.site
        return {part.name: self._condition(site.state, part) for part in parts(site)}

    # Single parts, for tests of failure

    def start(self, name: str) -> None:
        self._ensure(self._part(name))

    def stop(self, name: str) -> None:
        """Ends the part with SIGTERM."""
        self._end(name, signal.SIGTERM)

    def kill(self, name: str) -> None:
        """Ends the part with SIGKILL."""
        self._end(name, signal.SIGKILL)

    def spawn(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """A process of this machine beside the parts, with this cluster's kubeconfig; anew where one runs. It ends with
        the cluster."""
        with build.locked(f"cluster-{self.name}"):
            site = self.site
            if known := site.state.processes.get(name):
                processes.end(known)
            everything = {**self._environment, **environment, "KUBECONFIG": str(site.kubeconfig)}
            process = processes.spawn(command, site.log(name), everything, fingerprint="")
            state.save(self.site.state.with_process(name, process))

    # Talking to it

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        return self._run([str(self.bin("kubectl")), *arguments], input)

    def helm(self, *arguments: str) -> str:
        return self._run([str(self.bin("helm")), *arguments])

    def apply(self, manifests: Iterable[Mapping[str, Any]]) -> None:
        """Applies manifests; the status too of those that have one, such as fake nodes."""
        items = list(manifests)
        listed = {"apiVersion": "v1", "kind": "List", "items": items}
        self.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(listed))

    def build_images(self) -> None:
        """Builds the project's images, without a cluster."""
        packages.install(packages.IMAGES)
        images.build_all()

    def import_images(self) -> None:
        """Builds the project's images as the checkout is now and gives them to the real node."""
        if not self.has_node:
            raise ClusterError(f"cluster {self.name} has no real node (it needs root), so nothing that runs images")
        self.build_images()
        images.import_all(self.site)

    def import_base(self) -> str:
        """Gives the node the minimal image that the project's are based on; returns its name."""
        return images.import_base(self.site)

    # Inside

    @cached_property
    def _environment(self) -> Mapping[str, str]:
        """Parts talk to addresses of this machine only: a proxy of the user's would be in the way."""
        everything = packages.environment()
        return {key: value for key, value in everything.items() if not key.lower().endswith("_proxy")}

    def _prepare(self, root: bool, with_node: bool, extras: Sequence[str]) -> None:
        packages.install(
            packages.CONTROL_PLANE, *([packages.NETWORK] if root else []), *([packages.NODE] if with_node else [])
        )
        wanted = [*programs.CONTROL_PLANE, *programs.TOOLS, *(programs.NODE if with_node else ()), *extras]
        build.build(wanted)

    def _settle(self, root: bool, with_node: bool, extras: Sequence[str]) -> None:
        """Records what the cluster is to be and makes its place; clears away what cannot be gone on with."""
        recorded = state.load(self.name)
        if recorded and not _usable(recorded, root):
            with step("clear away what a restart or a crash left"):
                _tear_down(recorded)
            recorded = None
        if recorded is None:
            recorded = _new_state(self.name, root)
            state.save(recorded)
        if root and not network.stands(recorded):
            with step("namespaces and routes"):
                network.create(recorded)
        wanted = tuple(sorted({*recorded.extras, *extras}))
        state.save(replace(recorded, node=recorded.node or with_node, extras=wanted))
        site = self.site
        site.issue()
        if site.state.node:
            node.create_cgroup(site)

    def _ensure(self, part: Part) -> None:
        site = self.site
        known = site.state.processes.get(part.name)
        if known and known.fingerprint == part.fingerprint and _proves_ready(known, part):
            say(f"  ✓ {part.name} runs")
            return
        with step(f"start {part.name}"):
            if known:
                processes.end(known)
            for path, content in part.files.items():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_text(content)
            command = network.entered(site.state, part.command)
            process = processes.spawn(command, site.log(part.name), self._environment, part.fingerprint)
            state.save(self.site.state.with_process(part.name, process))
            self._await(part.name, part.ready, lambda: processes.alive(process))

    def _await(self, name: str, ready: Callable[[], bool], alive: Callable[[], bool] = lambda: True) -> None:
        until = time.monotonic() + PATIENCE
        while not ready():
            if not alive() or time.monotonic() > until:
                reason = "not ready in time" if alive() else "ended"
                log = self.log(name)
                raise ClusterError(f"{name}: {reason}. The end of {log}:\n{tail(log.read_text(errors='replace'))}")
            time.sleep(0.1)

    def _await_node(self) -> None:
        path = "{.status.conditions[?(@.type=='Ready')].status}"

        def ready() -> bool:
            return self.kubectl("get", "node", self.node_name, "--ignore-not-found", "-o", f"jsonpath={path}") == "True"

        if not ready():
            with step(f"node {self.node_name} ready"):
                self._await("kubelet", ready)

    def _part(self, name: str) -> Part:
        found = {part.name: part for part in parts(self.site)}
        if name not in found:
            raise ClusterError(f"cluster {self.name} has no part {name!r}: it has {', '.join(found)}")
        return found[name]

    def _end(self, name: str, with_signal: signal.Signals) -> None:
        known = self.site.state.processes.get(self._part(name).name)
        if known:
            processes.end(known, with_signal)
            state.save(self.site.state.with_process(name, None))

    def _condition(self, recorded: State, part: Part) -> str:
        known = recorded.processes.get(part.name)
        if not processes.alive(known):
            return "not running"
        return "ready" if part.ready() else "running, not ready"

    def _run(self, command: Sequence[str], input: str | None = None) -> str:
        environment = {**self._environment, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(command, capture_output=True, text=True, input=input, env=environment)
        if done.returncode:
            shown = " ".join([Path(command[0]).name, *command[1:]])
            raise ClusterError(f"`{shown}` failed:\n{tail(done.stderr, 30)}")
        return done.stdout


def _proves_ready(process: Process, part: Part) -> bool:
    """Whether a part that runs answers: on a busy machine it is given time before it is thought to be stuck."""
    until = time.monotonic() + STUCK_AFTER
    while processes.alive(process):
        if part.ready():
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return False


def _usable(recorded: State, root: bool) -> bool:
    return recorded.boot == state.boot_id() and recorded.root == root and network.stands(recorded)


def _new_state(name: str, root: bool) -> State:
    with build.locked("slots"):
        others = [known for other in state.names() if other != name and (known := state.load(other))]
        slot = network.free_slot(other.slot for other in others)
        ports = network.PORTS if root else network.free_ports()
        fresh = State(name=name, boot=state.boot_id(), slot=slot, root=root, ports=ports)
        state.save(fresh)
    return fresh


def _tear_down(recorded: State) -> None:
    """Ends the parts in the reverse order, whatever else runs in the cluster's place, and the place itself."""
    if recorded.boot == state.boot_id():  # otherwise the numbers belong to others by now
        for process in reversed(list(recorded.processes.values())):
            processes.end(process, signal.SIGKILL)
    site = Site(recorded)
    if recorded.root:
        node.end_containers(site)
        network.delete(recorded)
    state.remove(recorded)
