"""Settings from the environment, as the chart writes them."""

import pytest
from pydantic import ValidationError

from motley_operator.settings import Settings, from_env


def test_an_empty_environment_gives_the_defaults() -> None:
    assert from_env({}) == Settings()


def test_every_setting_has_its_variable() -> None:
    found = from_env(
        {
            "MOTLEY_NAMESPACE": "serving",
            "MOTLEY_DRAIN_SECONDS": "7",
            "MOTLEY_SOLVE_SECONDS": "2.5",
            "MOTLEY_ENGINE_HOST_PATHS": '["/opt/engine"]',
            "MOTLEY_ENGINE_ENV": '{"A": "1"}',
            "MOTLEY_ROUTER_LABELS": '{"app": "router"}',
            "MOTLEY_SCRAPE_NAMESPACES": '["monitoring"]',
            "MOTLEY_LEASE_SECONDS": "30",
        }
    )
    assert (found.namespace, found.drain_seconds, found.solve_seconds, found.lease_seconds) == ("serving", 7, 2.5, 30)
    assert found.engine_host_paths == ("/opt/engine",) and dict(found.engine_env) == {"A": "1"}
    assert dict(found.router_labels) == {"app": "router"} and found.scrape_namespaces == ("monitoring",)


def test_other_variables_are_not_ours() -> None:
    assert from_env({"MOTLEY_WINGS": "2", "NAMESPACE": "x", "motley_namespace": "y"}) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DRAIN_SECONDS", "0"),
        ("DRAIN_SECONDS", "soon"),
        ("SOLVE_SECONDS", "0"),
        ("SOLVE_SECONDS", "-1"),
        ("RESYNC_SECONDS", "0"),
        ("LEASE_SECONDS", "1"),
        ("METRICS_PORT", "eighty"),
        ("ENGINE_ENV", "A=1"),
        ("ENGINE_ENV", "[]"),
        ("ENGINE_ENV", '{"A": 1}'),
        ("ENGINE_ENV", ""),
        ("ENGINE_HOST_PATHS", "/opt"),
        ("ENGINE_HOST_PATHS", "{}"),
        ("ROUTER_LABELS", "7"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=name.lower()):
        from_env({f"MOTLEY_{name}": value})


def test_the_process_environment_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTLEY_NAMESPACE", "from-the-process")
    assert from_env().namespace == "from-the-process"
