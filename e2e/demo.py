"""`make demo`: a cluster, Motley on it, a plan and a real completion. `python -m e2e.demo up|down`.

MOTLEY_CLUSTER=current uses the cluster that KUBECONFIG names instead of the embedded one; its values for the chart
(images that it can pull) then come from the file that MOTLEY_VALUES names.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from e2e import stack
from e2e.cluster import Cluster, ClusterError
from e2e.cluster.console import say, step
from e2e.waiting import WaitedInVain, wait_for

QUICKSTART = stack.CHECKOUT / "examples" / "quickstart"
PROMPT = "Hello, how are you today?"


class Tools(Protocol):
    def kubectl(self, *arguments: str, input: str | None = None) -> str: ...
    def helm(self, *arguments: str) -> str: ...


class CurrentCluster:
    """The cluster of the user's kubeconfig, by the kubectl and helm of this machine."""

    def __init__(self) -> None:
        for program in ("kubectl", "helm"):
            if not shutil.which(program):
                raise ClusterError(f"MOTLEY_CLUSTER=current needs {program} on the PATH")

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        return self._run("kubectl", *arguments, input=input)

    def helm(self, *arguments: str) -> str:
        return self._run("helm", *arguments)

    def _run(self, *command: str, input: str | None = None) -> str:
        done = subprocess.run(command, input=input, capture_output=True, text=True)
        if done.returncode:
            raise ClusterError(f"{' '.join(command[:4])} failed: {done.stderr.strip()}")
        return done.stdout


def up() -> None:
    began = time.monotonic()
    if os.environ.get("MOTLEY_CLUSTER") == "current":
        _on_current()
    else:
        _on_embedded()
    say(f"\ndone in {time.monotonic() - began:.0f} s")


def _on_embedded() -> None:
    cluster = Cluster("demo")
    heading("1. A Kubernetes cluster on this machine")
    cluster.up()
    stack.make_fake_nodes(cluster)
    if not cluster.has_node:
        _without_root(cluster)
        return
    stack.make_tiny_model()
    heading("2. Motley, by its Helm chart")
    stack.install(cluster)
    heading("3. Pools with prices, models with traffic and targets: examples/quickstart")
    _apply(cluster)
    with step("chat is planned onto the fake GPU nodes"):
        stack.await_model(cluster, "chat")
    with step("tiny really starts: vLLM on this machine's CPU"):
        stack.await_model(cluster, "tiny", seconds=600)
    _show(cluster)
    heading("5. A chat completion, streamed through the router to tiny's pod")
    _complete(stack.router_url(cluster))
    say(
        f"\nThe cluster stays up. Look round, and take it down when you are done:\n\n"
        f"    export KUBECONFIG={cluster.kubeconfig}\n    make demo-down\n\n"
        f"kubectl, if this machine has none: {cluster.bin('kubectl')}\n"
        f"The OpenAI endpoint: {stack.router_url(cluster)}/v1"
    )


def _without_root(cluster: Cluster) -> None:
    """Everything but real pods: the operator runs as a process of this machine, and ends with the cluster."""
    heading("2. Motley's operator, as a process on this machine (containers need root)")
    cluster.kubectl("apply", "--server-side", "-f", str(stack.CHECKOUT / "crds"))
    cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(_namespace()))
    cluster.spawn("motley-operator", [sys.executable, "-m", "motley_operator"], {"MOTLEY_METRICS_PORT": "0"})
    heading("3. Pools with prices, models with traffic and targets: examples/quickstart")
    _apply(cluster)
    with step("chat is planned onto the fake GPU nodes"):
        stack.await_model(cluster, "chat")
    _show(cluster)
    say(
        "\nWithout root there are no containers, so tiny's pods stay Pending and no completion is shown: "
        "run `make demo` as root for that.\n\n"
        f"    export KUBECONFIG={cluster.kubeconfig}\n    make demo-down"
    )


def _namespace() -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": stack.NAMESPACE}}


def _on_current() -> None:
    cluster = CurrentCluster()
    values = os.environ.get("MOTLEY_VALUES")
    if not values:
        raise ClusterError("MOTLEY_CLUSTER=current needs MOTLEY_VALUES: a values file with images that it can pull")
    heading("1. The cluster of your kubeconfig")
    say(cluster.kubectl("version").rstrip())
    heading("2. Motley, by its Helm chart")
    with step("helm upgrade --install motley"):
        known = ["--namespace", stack.NAMESPACE, "--create-namespace", "--wait", "--values", values]
        cluster.helm("upgrade", "--install", stack.RELEASE, str(stack.CHART), *known)
    heading("3. Pools with prices, models with traffic and targets: examples/quickstart")
    _apply(cluster)
    wait_for(lambda: cluster.kubectl("get", "plans", "-o", "name") or None, "a Plan", 60, lambda: stack.state(cluster))
    if not stack.objects(cluster, "nodes", "-l", "motley.dev/pool=cpu"):
        _show(cluster)
        say(
            "\nNodes that carry the pools' labels (motley.dev/pool=l4, …) get pods; label yours or change the pools.\n"
            "For a completion, label a node motley.dev/pool=cpu and make the tiny model on its disk:\n"
            f"    python -m e2e.tiny_model {stack.MODELS / 'tiny'}"
        )
        return
    with step("tiny really starts: vLLM on a CPU"):
        stack.await_model(cluster, "tiny", seconds=600)
    _show(cluster)
    heading("5. A chat completion, streamed through the router to tiny's pod")
    with _forwarded("service/motley-router", 80) as url:
        _complete(url)


@contextmanager
def _forwarded(target: str, port: int) -> Iterator[str]:
    """The address on this machine behind which kubectl forwards to a Service of the current cluster."""
    command = ["kubectl", "-n", stack.NAMESPACE, "port-forward", target, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        assert forward.stdout is not None
        try:
            said = forward.stdout.readline()  # Forwarding from 127.0.0.1:40123 -> 8000
            if "127.0.0.1:" not in said:
                raise ClusterError(f"{' '.join(command)} said: {said or 'nothing'}")
            yield f"http://127.0.0.1:{said.split('127.0.0.1:')[1].split()[0]}"
        finally:
            forward.terminate()


def _apply(cluster: Tools) -> None:
    for name in ("fleet", "pools", "models"):
        say(cluster.kubectl("apply", "-f", str(QUICKSTART / f"{name}.yaml")).rstrip())


def _show(cluster: Tools) -> None:
    heading("4. What was decided")
    say("kubectl get gpupools,models,plans\n")
    for kind in ("gpupools", "models", "plans"):
        say(cluster.kubectl("get", kind, "-A"))
    plan = next(
        one for one in stack.objects(cluster, "plans") if stack.condition(one, "Active").get("status") == "True"
    )
    for line in _explained(plan["spec"]):
        say(line)
    say("\nPods. Those on fake nodes show the decision, they serve nothing; the one on the real node serves.\n")
    fake = {
        node["metadata"]["name"]
        for node in stack.objects(cluster, "nodes")
        if "kwok.x-k8s.io/node" in (node["metadata"].get("annotations") or {})
    }
    for pod in stack.objects(cluster, "pods", "-l", "motley.dev/component=engine"):
        node = pod["spec"].get("nodeName", "")
        kind = "fake node" if node in fake else "real node" if node else "not placed"
        say(f"  {kind:11} {pod['metadata']['name']:48} on {node or '-'}")


def _explained(spec: dict[str, object]) -> Iterator[str]:
    cost, bound = float(str(spec["costPerHour"])), float(str(spec["lowerBound"]))
    yield f"The plan costs {cost:.2f} per hour; nothing under {bound:.2f} serves this load."
    yield "On a single GPU type (with the cpu pool as it is):"
    comparisons = spec["comparisons"]
    assert isinstance(comparisons, list)
    for one in comparisons:
        alone = one.get("costPerHour")
        said = f"{alone:6.2f} per hour, {alone / cost - 1:+.0%}" if alone is not None else one["reason"]
        yield f"  {one['gpu']:10} {said}"


def _complete(url: str) -> None:
    say(f"user: {PROMPT}")
    print("tiny: ", end="", flush=True, file=sys.stderr)
    body = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 48, "stream": True}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=120) as answer:
        for line in answer:
            data = line.decode().removeprefix("data: ").strip()
            if data and data != "[DONE]":
                delta = json.loads(data)["choices"][0]["delta"].get("content") or ""
                print(delta, end="", flush=True, file=sys.stderr)
    say("\n(tiny has random weights: words, not sense)")


def heading(text: str) -> None:
    say(f"\n{text}\n")


def down() -> None:
    Cluster("demo").down()
    stack.remove_tiny_model()


def main(arguments: list[str]) -> int:
    try:
        {"up": up, "down": down}[arguments[0] if arguments else "up"]()
    except KeyError:
        print("usage: python -m e2e.demo up|down", file=sys.stderr)
        return 2
    except (ClusterError, WaitedInVain) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
