"""The environment that the chart gives is what operator and router read."""

import re
from typing import Any

import motley_worker.router.__main__ as router
from motley_operator.settings import Settings, from_env


def test_every_setting_of_the_operator_is_given_and_none_that_it_does_not_know(render: Any, value_set: str) -> None:
    given = set(render(value_set).environment("motley-operator"))
    assert given == {f"MOTLEY_{name.upper()}" for name in Settings.model_fields}


def test_what_is_given_is_valid(render: Any, value_set: str) -> None:
    settings = from_env(render(value_set).environment("motley-operator"))
    assert settings.namespace == "motley-system"
    assert settings.identity == "pod-0"


def test_the_charts_defaults_are_those_of_the_operator(render: Any) -> None:
    given = from_env(render().environment("motley-operator")).model_dump()
    own = Settings().model_dump()
    differing = {name for name in own if given[name] != own[name]}
    assert differing == {"identity", "engine_image", "router_labels"}


def test_engine_values_arrive_unharmed(render: Any) -> None:
    settings = from_env(render("production").environment("motley-operator"))
    assert settings.engine_image == "registry.example.com/motley/worker:0.1.0"
    assert settings.engine_image_pull_policy == "Always"
    assert dict(settings.engine_env) == {"HF_HUB_OFFLINE": "1", "QUOTED": 'a "b" <c> & ${d}'}
    assert settings.drain_seconds == 600
    assert settings.scrape_namespaces == ("monitoring",)
    assert settings.log_level == "DEBUG"
    embedded = from_env(render("embedded").environment("motley-operator"))
    assert embedded.engine_host_paths == ("/opt/motley-checkout/.venv",)
    assert embedded.engine_python == "/opt/motley-checkout/.venv/bin/python"


def test_large_and_fractional_numbers_arrive_as_numbers(render: Any) -> None:
    arguments = ("engine.drainSeconds=10000000", "operator.solveSeconds=0.5", "operator.leaseSeconds=1500000")
    settings = from_env(render("default", *arguments).environment("motley-operator"))
    assert settings.drain_seconds == 10_000_000
    assert settings.solve_seconds == 0.5
    assert settings.lease_seconds == 1_500_000


def test_the_operator_is_told_the_labels_and_the_service_of_the_routers(render: Any) -> None:
    for release in ("motley", "blue"):
        rendered = render(release=release)
        (operator,) = [name for name in rendered.kind("Deployment") if name.endswith("-operator")]
        (router,) = [name for name in rendered.kind("Deployment") if name.endswith("-router")]
        settings = from_env(rendered.environment(operator))
        labels = rendered.pods()[router]["metadata"]["labels"]
        assert settings.router_labels
        assert dict(settings.router_labels).items() <= labels.items()
        service = rendered.kind("Service")[settings.router_service]["spec"]
        assert service["clusterIP"] == "None"
        assert service["selector"] == dict(settings.router_labels)


def test_both_listen_where_their_ports_are(render: Any) -> None:
    rendered = render()
    ports = {
        name: str(pod["spec"]["containers"][0]["ports"][0]["containerPort"])
        for name, pod in rendered.pods().items()
        if name != "motley-uninstall"
    }
    assert rendered.environment("motley-operator")["MOTLEY_METRICS_PORT"] == ports["motley-operator"]
    assert rendered.environment("motley-router")["MOTLEY_ROUTER_PORT"] == ports["motley-router"]


def test_the_router_is_given_nothing_that_it_does_not_read(render: Any, value_set: str) -> None:
    read = set(re.findall(r"^MOTLEY_\w+", router.__doc__ or "", re.MULTILINE))
    assert set(render(value_set).environment("motley-router")) <= read
