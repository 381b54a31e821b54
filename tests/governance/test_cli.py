"""The commands as persons at a terminal use them, from the registration of both to the active policy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import build_app
from app.cli.errors import CommandError
from tests.governance.people import document
from tests.support.cluster import Database


class Terminal:
    """One database, and a secret where a command signs."""

    def __init__(self, database: Database) -> None:
        self._environment = database.environment()

    def __call__(self, *arguments: object, secret: str | None = None) -> str:
        environment = self._environment | ({} if secret is None else {"APPROVAL_SECRET": secret})
        result = CliRunner().invoke(build_app(), [str(each) for each in arguments], env=environment)
        if isinstance(result.exception, CommandError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout


@pytest.fixture
def terminal(seeded_database: Database) -> Terminal:
    return Terminal(seeded_database)


@pytest.fixture
def secrets(terminal: Terminal) -> dict[str, str]:
    """Of the author and of the approver; from then on nobody changes anything alone."""
    given = {
        "ada": terminal("persons", "add", "ada", "--role", "policy-author", "--role", "admin").strip(),
        "ben": terminal("persons", "add", "ben", "--role", "policy-approver", "--role", "admin").strip(),
    }
    terminal("governance", "set", "--two-persons", "--no-report-required", "--reason", "tests")
    return given


def _policy(folder: Path) -> Path:
    file = folder / "policy.json"
    file.write_text(json.dumps(document(610)), encoding="utf-8")
    return file


def test_two_persons_put_a_policy_into_effect(terminal: Terminal, secrets: dict[str, str], tmp_path: Path) -> None:
    assert "draft 1" in terminal("drafts", "create", _policy(tmp_path), "--comment", "looser")
    shown = terminal("drafts", "submit", 1, "--person", "ada", secret=secrets["ada"])
    warnings = set(re.findall(r"^warning (\S+) ", shown, re.MULTILINE))
    found = terminal("drafts", "show", 1)
    assert "BU03 bureau.score for general: 620 -> 610" in found
    digest = re.findall(r"^document ([0-9a-f]{64})$", found, re.MULTILINE)[0]
    acknowledged = [part for code in warnings for part in ("--acknowledge", code)]
    approve = ("drafts", "approve", 1, "--document", digest, *acknowledged, "--person")
    with pytest.raises(CommandError, match="wrote a draft"):
        terminal(*approve, "ada", secret=secrets["ada"])
    with pytest.raises(CommandError, match="not that of a person"):
        terminal(*approve, "ben", secret=secrets["ada"])
    assert "version 2" in terminal(*approve, "ben", secret=secrets["ben"])


def test_the_document_of_a_draft_is_written_for_who_approves_it(
    terminal: Terminal, secrets: dict[str, str], tmp_path: Path
) -> None:
    terminal("drafts", "create", _policy(tmp_path))
    file = tmp_path / "draft.yaml"
    terminal("drafts", "export", 1, "--output", file)
    assert terminal("policy", "diff", "active", file) == "BU03 bureau.score for general: 620 -> 610\n"
    assert json.loads(terminal("drafts", "export", 1, "--format", "json"))["name"] == document()["name"]


def test_an_approval_names_the_report_that_the_command_stored(
    terminal: Terminal, secrets: dict[str, str], tmp_path: Path
) -> None:
    terminal("governance", "set", "--report-required", "--reason", "tests")
    terminal("drafts", "create", _policy(tmp_path))
    submitted = terminal("drafts", "submit", 1, "--person", "ada", secret=secrets["ada"])
    told = terminal("drafts", "what-if", 1, "--extract", tmp_path / "extract", "--reviewers", 2)
    assert "stored as report 1 of draft 1" in told
    report = re.findall(r"^report ([0-9a-f]{64})$", told, re.MULTILINE)[0]
    shown = terminal("drafts", "show", 1)
    assert f"report   {report}\n" in shown
    digest = re.findall(r"^document ([0-9a-f]{64})$", shown, re.MULTILINE)[0]
    warnings = set(re.findall(r"^warning (\S+) ", submitted, re.MULTILINE))
    acknowledged = [part for code in warnings for part in ("--acknowledge", code)]
    approve = ("drafts", "approve", 1, "--document", digest, *acknowledged, "--person", "ben")
    with pytest.raises(CommandError, match="names a what-if report"):
        terminal(*approve, secret=secrets["ben"])
    assert "version 2" in terminal(*approve, "--report", report, secret=secrets["ben"])


def test_two_persons_put_the_first_policy_into_effect(database: Database, tmp_path: Path) -> None:
    """As docs/operations.md has it for production: there is no log yet, and nobody ever could publish alone."""
    terminal = Terminal(database)
    ada = terminal("persons", "add", "ada", "--role", "policy-author", "--role", "admin").strip()
    ben = terminal("persons", "add", "ben", "--role", "policy-approver", "--role", "admin").strip()
    terminal("governance", "set", "--two-persons", "--reason", "production")
    with pytest.raises(CommandError, match="one person cannot publish"):
        terminal("policy", "publish", "app/policies/defaults/cny.json")
    terminal("drafts", "create", "app/policies/defaults/cny.json", "--comment", "first policy")
    told = terminal("drafts", "what-if", 1, "--extract", tmp_path / "extract")
    assert "0 decisions decided again" in told
    terminal("drafts", "submit", 1, "--person", "ada", secret=ada)
    shown = terminal("drafts", "show", 1)
    document, report = (
        re.findall(rf"^{what} +([0-9a-f]{{64}})$", shown, re.MULTILINE)[0] for what in ("document", "report")
    )
    approve = ("drafts", "approve", 1, "--document", document, "--report", report, "--person", "ben")
    assert "version 1" in terminal(*approve, secret=ben)


def test_one_command_brings_a_version_back(terminal: Terminal, tmp_path: Path) -> None:
    terminal("policy", "publish", _policy(tmp_path), "--comment", "looser")
    told = terminal("policy", "rollback", 1, "--comment", "too loose")
    assert "version 3 is published and active" in told
    assert "BU03 bureau.score for general: 610 -> 620" in told
    with pytest.raises(CommandError, match="there is no version 9"):
        terminal("policy", "rollback", 9, "--comment", "x")


def test_a_rollback_by_two_persons_is_one_command_of_each(
    terminal: Terminal, secrets: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match="one person cannot publish"):
        terminal("policy", "publish", _policy(tmp_path))
    told = terminal("drafts", "rollback", 1, "--comment", "x", "--person", "ada", secret=secrets["ada"])
    assert "draft 1 repeats version 1 and is in review" in told


def test_a_secret_is_printed_once_and_rotates(terminal: Terminal, secrets: dict[str, str]) -> None:
    assert secrets["ada"] not in terminal("persons", "list")
    assert terminal("persons", "rotate", "ada").strip() not in secrets.values()
    with pytest.raises(CommandError, match="not that of a person"):
        terminal(
            "changes",
            "tier",
            "search-ads",
            "prime",
            "--until",
            "2099-01-01",
            "--reason",
            "x",
            "--person",
            "ada",
            secret=secrets["ada"],
        )


def test_a_disabled_person_signs_nothing(terminal: Terminal, secrets: dict[str, str]) -> None:
    terminal("persons", "disable", "ada", "--reason", "left")
    with pytest.raises(CommandError, match="who may sign"):
        terminal("break-glass", "open", "--version", 1, "--reason", "x", "--person", "ada", secret=secrets["ada"])


def test_a_tier_goes_up_for_a_time_by_two_persons(terminal: Terminal, secrets: dict[str, str]) -> None:
    asked = terminal(
        "changes",
        "tier",
        "loan-market",
        "prime",
        "--until",
        "2099-01-01",
        "--reason",
        "trial",
        "--person",
        "ada",
        secret=secrets["ada"],
    )
    digest = re.findall(r"\(([0-9a-f]{64})\)", asked)[0]
    approved = terminal("changes", "approve", 1, "--payload", digest, "--person", "ben", secret=secrets["ben"])
    assert "applied" in approved
    assert terminal("channels", "tier", "loan-market").startswith("prime")


def test_migrating_with_the_mode_off_ends_it_in_the_database(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(terminal("governance", "show"))["single_person"] is True
    monkeypatch.setenv("GATE_SINGLE_PERSON_MODE", "false")
    terminal("migrate")
    monkeypatch.delenv("GATE_SINGLE_PERSON_MODE")
    terminal("migrate")
    assert json.loads(terminal("governance", "show"))["single_person"] is False
