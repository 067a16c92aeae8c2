"""What the chart installs, for every value set of charts/motley/ci."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from motley_worker.router.server import LINGER_SECONDS

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "motley"


def test_helm_lint_finds_nothing_to_complain_about(helm: Any, value_set: str) -> None:
    values = CHART / "ci" / f"{value_set}-values.yaml"
    done = helm("lint", "--strict", str(CHART), "--values", str(values), "--kube-version", "1.30.0")
    assert done.returncode == 0, done.stdout
    assert "0 chart(s) failed" in done.stdout


def test_a_cluster_older_than_1_30_is_refused(helm: Any) -> None:
    done = helm("template", "motley", str(CHART), "--kube-version", "1.29.9")
    assert done.returncode != 0
    assert "kubeVersion: >=1.30.0-0" in done.stderr


def test_no_two_objects_have_one_name_and_every_name_is_short_enough(render: Any, value_set: str) -> None:
    objects = [(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in render(value_set).objects]
    assert len(set(objects)) == len(objects)
    longest = render(value_set, release="a-release-with-the-longest-name-that-helm-takes-here1").objects
    own = [item["metadata"]["name"] for item in longest if item["kind"] != "CustomResourceDefinition"]
    assert max(map(len, own)) <= 63


def test_a_release_of_another_name_has_resources_of_another_name(render: Any) -> None:
    names = [item["metadata"]["name"] for item in render(release="blue").objects]
    assert {name for name in names if not name.startswith("blue-motley-") and not name.endswith(".motley.dev")} == set()


def test_every_container_runs_without_privileges(render: Any, value_set: str) -> None:
    pods = render(value_set).pods()
    assert set(pods) == {"motley-operator", "motley-router", "motley-uninstall"}
    for name, pod in pods.items():
        spec = pod["spec"]
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert not {"initContainers", "hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_nothing_but_an_empty_tmp_can_be_written(render: Any, value_set: str) -> None:
    for name, pod in render(value_set).pods().items():
        assert pod["spec"]["volumes"] == [{"name": "tmp", "emptyDir": {}}], name
        for container in pod["spec"]["containers"]:
            assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}], name


def test_every_container_says_what_memory_and_cpu_it_needs(render: Any, value_set: str) -> None:
    for pod in render(value_set).pods().values():
        for container in pod["spec"]["containers"]:
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_operator_and_router_are_two_probed_and_spread(render: Any) -> None:
    for name, deployment in render().kind("Deployment").items():
        assert deployment["spec"]["replicas"] == 2
        spec = deployment["spec"]["template"]["spec"]
        assert {item["topologyKey"] for item in spec["topologySpreadConstraints"]} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }
        assert {item["whenUnsatisfiable"] for item in spec["topologySpreadConstraints"]} == {"ScheduleAnyway"}
        (container,) = spec["containers"]
        ports = {port["name"] for port in container["ports"]}
        paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
        for probe, path in paths.items():
            assert container[probe]["httpGet"]["path"] == path, name
            assert container[probe]["httpGet"]["port"] in ports, name


def test_a_leaving_router_has_time_to_finish_its_streams(render: Any) -> None:
    for seconds in (20, 900):
        rendered = render("default", f"router.drainSeconds={seconds}")
        assert rendered.environment("motley-router")["MOTLEY_ROUTER_DRAIN_SECONDS"] == str(seconds)
        assert (
            rendered.pods()["motley-router"]["spec"]["terminationGracePeriodSeconds"] >= seconds + LINGER_SECONDS + 10
        )


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"])
def test_selectors_find_exactly_their_own_pods(render: Any, kind: str) -> None:
    rendered = render("production")
    pods = {name: pod["metadata"]["labels"] for name, pod in rendered.pods().items()}
    found = rendered.kind(kind)
    assert found
    for name, item in found.items():
        selector = item["spec"].get("podSelector") or item["spec"]["selector"]
        labels = selector.get("matchLabels", selector)
        selected = [pod for pod, has in pods.items() if labels.items() <= has.items()]
        assert selected == [name.removesuffix("-metrics")]


def test_every_port_that_is_named_exists(render: Any) -> None:
    rendered = render("production")
    pods = {
        name: {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0].get("ports", ())}
        for name, pod in rendered.pods().items()
    }
    assert pods["motley-operator"] == {"metrics": 8080}
    assert pods["motley-router"] == {"http": 8000}
    for name, service in rendered.kind("Service").items():
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in pods[name.removesuffix("-metrics")]
    for name, policy in rendered.kind("NetworkPolicy").items():
        for rule in policy["spec"]["ingress"]:
            assert {port["port"] for port in rule["ports"]} <= set(pods[name])


def test_the_openai_endpoint_is_one_service_on_port_80(render: Any) -> None:
    service = render().kind("Service")["motley-router"]["spec"]
    assert service["type"] == "ClusterIP"
    assert service["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]


def test_headless_services_list_every_pod_for_reading_metrics(render: Any) -> None:
    services = render().kind("Service")
    headless = {
        name: item["spec"]["ports"] for name, item in services.items() if item["spec"].get("clusterIP") == "None"
    }
    assert headless == {
        "motley-operator-metrics": [{"name": "metrics", "port": 8080, "targetPort": "metrics"}],
        "motley-router-metrics": [{"name": "http", "port": 8000, "targetPort": "http"}],
    }


def test_nobody_reaches_the_operator_unless_a_namespace_may_scrape(render: Any) -> None:
    closed = render().kind("NetworkPolicy")["motley-operator"]["spec"]
    assert closed["policyTypes"] == ["Ingress"]
    assert "ingress" not in closed
    (rule,) = render("production").kind("NetworkPolicy")["motley-operator"]["spec"]["ingress"]
    (peer,) = rule["from"]
    (expression,) = peer["namespaceSelector"]["matchExpressions"]
    assert expression == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["monitoring"]}


def test_the_router_is_open_on_its_one_port(render: Any) -> None:
    policy = render().kind("NetworkPolicy")["motley-router"]["spec"]
    assert policy["ingress"] == [{"ports": [{"port": "http"}]}]


def test_service_monitors_find_one_service_each(render: Any) -> None:
    assert render().kind("ServiceMonitor") == {}
    rendered = render("production")
    services = {name: item for name, item in rendered.kind("Service").items()}
    for name, monitor in rendered.kind("ServiceMonitor").items():
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        labels = monitor["spec"]["selector"]["matchLabels"].items()
        (found,) = [key for key, item in services.items() if labels <= item["metadata"]["labels"].items()]
        assert found == f"{name}-metrics"
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in services[found]["spec"]["ports"]}
    assert len(rendered.kind("ServiceMonitor")) == 2


def test_the_ingress_leads_to_the_openai_endpoint_alone(render: Any) -> None:
    assert render().kind("Ingress") == {}
    rendered = render("production")
    spec = rendered.kind("Ingress")["motley-router"]["spec"]
    (path,) = spec["rules"][0]["http"]["paths"]
    assert path["path"] == "/v1"
    backend = path["backend"]["service"]
    ports = rendered.kind("Service")[backend["name"]]["spec"]["ports"]
    assert backend["port"]["name"] in {port["name"] for port in ports}
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": ["llm.example.com"], "secretName": "llm-tls"}]
    assert spec["rules"][0]["host"] == "llm.example.com"


def test_definitions_are_those_of_the_api_and_stay_on_uninstall(render: Any) -> None:
    files = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    assert files == {path.name: path.read_text() for path in (CHART / "files" / "crds").glob("*.yaml")}
    definitions = {item["metadata"]["name"]: item for item in map(yaml.safe_load, files.values())}
    assert render().kind("CustomResourceDefinition") == definitions
    for definition in definitions.values():
        assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_definitions_can_be_left_to_somebody_else(render: Any) -> None:
    assert render("minimal").kind("CustomResourceDefinition") == {}


def test_finalizers_are_released_after_the_operator_has_lost_its_permissions(render: Any) -> None:
    hooks = [item for item in render().objects if "helm.sh/hook" in item["metadata"].get("annotations", {})]
    weights = {item["kind"]: int(item["metadata"]["annotations"].get("helm.sh/hook-weight", 0)) for item in hooks}
    assert set(weights) == {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"}
    assert max(weight for kind, weight in weights.items() if kind != "Job") < weights["Job"]
    for item in hooks:
        annotations = item["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "post-delete"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    (container,) = render().pods()["motley-uninstall"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "motley_operator.release"]
    assert container["image"] == render().pods()["motley-operator"]["spec"]["containers"][0]["image"]


def test_an_image_without_a_tag_has_the_charts_version_and_a_digest_is_one(render: Any) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    (container,) = render().pods()["motley-router"]["spec"]["containers"]
    assert container["image"] == f"motley-router:{version}"
    (container,) = render("production").pods()["motley-operator"]["spec"]["containers"]
    assert re.fullmatch(r"registry\.example\.com/motley/operator@sha256:[0-9a-f]{64}", container["image"])


def test_placement_and_pull_secrets_reach_the_pods(render: Any) -> None:
    pods = render("production").pods()
    for pod in pods.values():
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    operator = pods["motley-operator"]
    assert operator["metadata"]["annotations"] == {"example.com/owner": "platform"}
    assert operator["spec"]["priorityClassName"] == "system-cluster-critical"
    assert operator["spec"]["nodeSelector"] == {"example.com/role": "system"}
    assert operator["spec"]["tolerations"] == [
        {"key": "example.com/system", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert "podAntiAffinity" in pods["motley-router"]["spec"]["affinity"]


def test_the_chart_has_the_version_of_the_distribution() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project
    assert chart["version"] == chart["appVersion"] == project[1]
