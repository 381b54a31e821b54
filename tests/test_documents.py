"""Documents that list what the code has are complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from app.settings import Settings, settings_reference, variable_name

_ROOT = Path(__file__).resolve().parents[1]


def _direct_dependencies() -> set[str]:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"].values()
    lists = [project["project"]["dependencies"], *extras, *groups]
    found = {re.match(r"[A-Za-z0-9._-]+", entry) for entries in lists for entry in entries if isinstance(entry, str)}
    return {match[0].lower() for match in found if match}


def test_the_settings_document_is_what_the_code_says() -> None:
    assert settings_reference() in (_ROOT / "docs/settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is_for(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert description.rstrip().endswith((".", ")"))
    assert f"`{variable_name(name)}`" in settings_reference()


def test_every_direct_dependency_is_named_with_its_reason() -> None:
    rows = re.findall(
        r"^\| ([a-z0-9-]+) \| (.+) \|$", (_ROOT / "docs/dependencies.md").read_text("utf-8"), re.MULTILINE
    )
    assert {name for name, _ in rows} == _direct_dependencies()
    assert all(len(reason) > 10 for _, reason in rows)


@pytest.mark.parametrize("name", ["production", "demo", "dev", "build"])
def test_every_locked_package_has_a_hash(name: str) -> None:
    lock = (_ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert blocks
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)


def _locked_versions(name: str) -> dict[str, set[str]]:
    """Package -> versions; more than one where they differ by Python version."""
    lock = (_ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    versions: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==([^\s;]+)", lock, re.MULTILINE):
        versions.setdefault(package, set()).add(version)
    return versions


@pytest.mark.parametrize("name", ["production", "demo", "build"])
def test_the_development_lock_agrees_with_the_others(name: str) -> None:
    development = _locked_versions("dev")
    assert {package: development.get(package) for package in _locked_versions(name)} == _locked_versions(name)


@pytest.mark.parametrize("name", ["production", "demo"])
def test_what_serves_has_every_extra_that_a_setting_or_a_command_asks_for(name: str) -> None:
    extras = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    needed = {re.split(r"[^a-z-]", entry)[0] for extra in ("tracing", "whatif", "parquet") for entry in extras[extra]}
    assert needed <= set(_locked_versions(name))


def test_the_development_lock_holds_every_direct_dependency() -> None:
    assert _direct_dependencies() <= set(_locked_versions("dev"))
