"""Settings: read once, checked at the edge, silent about values."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.settings import Settings, SettingsError, read_settings


def test_port_and_urls_have_no_prefix_and_the_rest_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9001")
    monkeypatch.setenv("DATABASE_URL", "postgresql://serving@db/gate")
    monkeypatch.setenv("GATE_WORKERS", "4")
    settings = read_settings()
    assert (settings.port, settings.serving_url(), settings.workers) == (9001, "postgresql://serving@db/gate", 4)


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_METRICS_PORT", "")
    assert read_settings().metrics_port is None


def test_a_missing_url_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^GOVERNANCE_DATABASE_URL is not set$"):
        Settings().governance_url()


def test_every_fault_is_told_by_its_variable_and_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://someone:hunter2@db/gate")
    monkeypatch.setenv("GATE_BODY_LIMIT_BYTES", "plenty")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    text = str(caught.value)
    assert "DATABASE_URL:" in text
    assert "GATE_BODY_LIMIT_BYTES:" in text
    assert "hunter2" not in text
    assert "plenty" not in text
    assert "\n" not in text


def test_urls_stay_out_of_repr() -> None:
    assert "hunter2" not in repr(Settings(database_url="postgresql://a:hunter2@db/gate"))


@pytest.mark.parametrize(
    ("poll", "lease", "registry"),
    [(2.0, 2.0, 15.0), (2.0, 15.0, 15.0), (2.0, 20.0, 15.0)],
)
def test_leases_that_do_not_nest_are_refused(poll: float, lease: float, registry: float) -> None:
    with pytest.raises(ValidationError, match="must hold"):
        Settings(snapshot_poll_seconds=poll, lease_seconds=lease, registry_lease_seconds=registry)


def test_half_an_identity_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_OIDC_ISSUER", "https://issuer.example")
    with pytest.raises(SettingsError, match="together or not at all"):
        read_settings()
