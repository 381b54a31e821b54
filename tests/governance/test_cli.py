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
    warnings = re.findall(r"^warning  (\S+)$", shown, re.MULTILINE)
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
