"""compose.yaml: valid, bound to loopback, and in step with the service."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from app.db.bootstrap import DATABASE_NAME, Roles
from tests.shipping.service_facts import ROOT, parse_command, project_version, require_settings, setting_variables

TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}

_VARIABLE = re.compile(r"\$\{([A-Z_]+)(:[-?][^}]*)?\}")
_OF_BOOTSTRAP = {"SUPERUSER_DATABASE_URL", "GATE_OWNER_PASSWORD", "GATE_SERVING_PASSWORD", "GATE_GOVERNANCE_PASSWORD"}


def _filled_in(text: str) -> str:
    """As compose fills in variables: the default where there is one, else a password."""
    return _VARIABLE.sub(lambda m: m[2][2:] if (m[2] or "").startswith(":-") else "secret", text)


def test_the_file_follows_the_compose_specification() -> None:
    # Merge keys are YAML's, not the specification's, so they are resolved first.
    plain = yaml.safe_dump(yaml.safe_load(_filled_in(TEXT)))
    assert set(PyCompose.from_yaml(plain).service_names()) == set(SERVICES)
    broken = yaml.safe_load(plain)
    broken["services"]["gate"]["comand"] = ["serve"]
    with pytest.raises(ValueError, match="comand"):
        PyCompose.from_yaml(yaml.safe_dump(broken))


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_commands_that_exist(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = OURS[name]
    for variable, value in service["environment"].items():
        monkeypatch.setenv(variable, _filled_in(value))
    assert parse_command(service["command"]) == f"channel-gate {' '.join(service['command'])}"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_set_only_what_the_service_reads(name: str) -> None:
    environment = {variable: _filled_in(value) for variable, value in OURS[name]["environment"].items()}
    unknown = set(environment) - set(setting_variables())
    assert unknown == (_OF_BOOTSTRAP if name == "bootstrap" else set())
    # What is empty counts as unset.
    require_settings({variable: value for variable, value in environment.items() if value and variable not in unknown})


@pytest.mark.parametrize("name", OURS)
def test_our_containers_are_confined(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["image"] == f"channel-gate:{project_version()}"


def test_each_container_gets_the_logins_that_its_work_needs() -> None:
    def urls(name: str) -> set[str]:
        return {variable for variable in OURS[name]["environment"] if variable.endswith("DATABASE_URL")}

    assert urls("bootstrap") == {"SUPERUSER_DATABASE_URL"}
    assert urls("migrate") == {"OWNER_DATABASE_URL"}
    assert urls("gate") == {"DATABASE_URL", "GOVERNANCE_DATABASE_URL"}


def test_urls_name_the_logins_and_the_database_that_bootstrap_makes() -> None:
    roles = Roles()
    logins = {
        "OWNER_DATABASE_URL": roles.owner,
        "DATABASE_URL": roles.serving,
        "GOVERNANCE_DATABASE_URL": roles.governance,
    }
    for service in OURS.values():
        for variable, login in logins.items():
            if variable in service["environment"]:
                url = service["environment"][variable]
                assert url.startswith(f"postgresql://{login}:")
                assert url.endswith(f"@database:5432/{DATABASE_NAME}")


def test_services_start_in_the_order_that_the_schema_needs() -> None:
    def needs(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in SERVICES[name]["depends_on"].items()}

    assert needs("bootstrap") == {"database": "service_healthy"}
    assert needs("migrate") == {"bootstrap": "service_completed_successfully"}
    assert needs("gate") == {"migrate": "service_completed_successfully"}


def test_every_published_port_is_bound_to_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"gate", "prometheus", "grafana"}
    for ports in published.values():
        for port in ports:
            assert port.startswith("127.0.0.1:"), port
    assert SERVICES["gate"]["ports"][0].endswith(f":{SERVICES['gate']['environment']['PORT']}")


def test_no_password_is_in_the_file_and_the_example_names_every_variable() -> None:
    example = (ROOT / "deploy" / "compose" / "env.example").read_text(encoding="utf-8")
    named = dict(re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE))
    used = {match[1] for match in _VARIABLE.finditer(TEXT)}
    assert used == set(named)
    for variable, value in named.items():
        if variable.endswith("PASSWORD"):
            assert value == "", "a password in the repository would be used"
            assert f"${{{variable}:?" in TEXT, "an empty password must stop compose"
    for literal in re.findall(r"^\s+\w*PASSWORD: (.*)$", TEXT, re.MULTILINE):
        assert literal.startswith("${")
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_files_that_are_mounted_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source
            else:
                assert source in COMPOSE["volumes"]


def test_prometheus_scrapes_the_port_that_the_gate_serves_metrics_on() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    [scrape] = config["scrape_configs"]
    port = SERVICES["gate"]["environment"]["GATE_METRICS_PORT"]
    assert scrape["static_configs"] == [{"targets": [f"gate:{port}"]}]
    assert scrape["job_name"] == "channel-gate", "the alerts look for this job"
    mounted = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert set(config["rule_files"]) <= mounted


def test_grafana_finds_its_data_source_and_its_dashboard() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    [provider] = yaml.safe_load((folder / "dashboards" / "channel-gate.yml").read_text(encoding="utf-8"))["providers"]
    assert source["url"] == "http://prometheus:9090"
    mounts = dict(volume.split(":")[1::-1] for volume in SERVICES["grafana"]["volumes"])
    dashboards = ROOT / mounts[provider["options"]["path"]]
    assert [path.name for path in dashboards.glob("*.json")] == ["channel-gate.json"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/channel-gate.json"
