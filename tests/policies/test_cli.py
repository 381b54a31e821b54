"""`channel-gate policy` as a person at a terminal sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from app.cli import build_app
from app.cli.errors import CommandError
from app.policies.defaults import default_policy
from app.policies.document_text import parse_yaml
from tests.support.cluster import Database


@pytest.fixture
def environment(seeded_database: Database) -> dict[str, str]:
    return seeded_database.environment()


def _run(environment: dict[str, str], *arguments: str | Path) -> Result:
    return CliRunner().invoke(build_app(), ["policy", *map(str, arguments)], env=environment)


def _write(folder: Path, name: str, document: Any) -> Path:
    file = folder / name
    text = json.dumps(document) if name.endswith(".json") else yaml.safe_dump(document, allow_unicode=True)
    file.write_text(text, encoding="utf-8")
    return file


def _changed() -> dict[str, Any]:
    document = default_policy()
    next(rule for rule in document["rules"] if rule["code"] == "BU03")["thresholds"]["general"] = 610
    return document


def test_a_sound_policy_is_valid_in_both_forms_without_a_database(tmp_path: Path) -> None:
    for name in ("p.json", "p.yaml", "p.yml"):
        result = _run({}, "validate", _write(tmp_path, name, default_policy()))
        assert result.exit_code == 0, result.output
        assert "valid; default-cny has" in result.output
        assert "tiers prime, general, risk" in result.output


def test_every_fault_is_a_line_on_standard_error(tmp_path: Path) -> None:
    document = _changed()
    rules = {rule["code"]: rule for rule in document["rules"]}
    rules["BU03"]["thresholds"]["general"] = "high"
    rules["BU04"]["field"] = "bureau.mood"
    result = _run({}, "validate", _write(tmp_path, "p.yaml", document))
    assert result.exit_code == 1
    assert result.stdout == ""
    told = sorted(line.split(": ")[1] for line in result.stderr.splitlines())
    assert told == ["BU03, thresholds.general", "BU04, field"]


def test_a_policy_that_decides_its_own_cases_otherwise_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    document = _changed()
    document["cases"][0]["expected"]["prime"]["outcome"] = "reject"
    file = _write(tmp_path, "p.json", document)
    for command in ("validate", "publish"):
        refused = _run(environment, command, file)
        assert refused.exit_code == 1
        assert refused.stderr == f"{file}: cases[0], expected.prime.outcome: expected reject, decided accept\n"
    assert "version 1," in _run(environment, "show").output


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"a": 1, "a": 2}', encoding="utf-8")
    for file, said in (
        (tmp_path / "absent.json", "No such file"),
        (tmp_path / "p.txt", "ends in .json, .yaml or .yml"),
        (broken, "names a key twice"),
    ):
        result = _run({}, "validate", file)
        assert result.exit_code == 1
        assert isinstance(result.exception, CommandError)
        assert said in str(result.exception)


def test_show_prints_the_table_or_a_document_to_edit(environment: dict[str, str], tmp_path: Path) -> None:
    table = _run(environment, "show").output
    assert "default-cny, version 1, amounts in CNY" in table
    for cell in ("BU03", "580", "620", "680", "200,000", "where bureau.hit is yes", "unsecured_consumer"):
        assert cell in table
    as_yaml = _run(environment, "show", "1", "--format", "yaml").output
    as_json = _run(environment, "show", "--active", "--format", "json").output
    assert parse_yaml(as_yaml) == json.loads(as_json)
    edited = tmp_path / "edited.yaml"
    edited.write_text(as_yaml, encoding="utf-8")
    assert _run(environment, "diff", "active", edited).output == "no differences\n"


def test_a_policy_is_published_once_and_its_differences_are_told(environment: dict[str, str], tmp_path: Path) -> None:
    file = _write(tmp_path, "p.json", _changed())
    change = "BU03 bureau.score for general: 620 -> 610\n"
    assert _run(environment, "diff", "1", file).output == change
    assert _run(environment, "diff", "1", file, "--exit-code").exit_code == 1
    stale = _run(environment, "publish", file, "--if-active", "7")
    assert (stale.exit_code, str(stale.exception)) == (1, "another policy version has been published since")
    published = _run(environment, "publish", file, "--if-active", "1", "--comment", "looser", "--wait", "5")
    assert published.exit_code == 0, published.output
    assert published.output == f"version 2 is published and active (single-person mode)\n  {change}"
    assert "nothing was published" in _run(environment, "publish", file).output
    assert _run(environment, "diff", "1", "2").output == change
    absent = _run(environment, "diff", "1", "3")
    assert (absent.exit_code, str(absent.exception)) == (1, "there is no version 3")


def test_where_single_person_mode_is_off_the_command_publishes_nothing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = _write(tmp_path, "p.json", _changed())
    refused = _run(environment | {"GATE_SINGLE_PERSON_MODE": "false"}, "publish", file)
    assert refused.exit_code == 1
    assert "one person cannot publish" in str(refused.exception)
