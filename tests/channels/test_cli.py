"""`channel-gate channels` as a person at a terminal sees it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli import build_app
from app.cli.errors import CommandError
from tests.support.cluster import Database


@pytest.fixture
def environment(seeded_database: Database) -> dict[str, str]:
    return seeded_database.environment()


def _run(environment: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(build_app(), ["channels", *arguments], env=environment)


def _output(environment: dict[str, str], *arguments: str) -> str:
    result = _run(environment, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def _refusal(environment: dict[str, str], *arguments: str) -> str:
    result = _run(environment, *arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, CommandError)
    return str(result.exception)


def test_a_channel_is_added_moved_and_given_a_tier(environment: dict[str, str]) -> None:
    end = (datetime.now(UTC) + timedelta(days=5)).date().isoformat()
    _output(environment, "add", "tv", "--kind", "offline", "--owner", "growth", "--valid-to", end)
    assert _output(environment, "state", "tv", "probation", "--reason", "admitted") == "tv is probation\n"
    assert _output(environment, "tier", "tv") == "general (the default of policy version 1)\n"
    _output(environment, "tier", "tv", "risk", "--reason", "new partner")
    assert _output(environment, "tier", "tv").startswith("risk (assigned from ")
    assert _output(environment, "tier", "tv", "--at", "2020-01-01").startswith("none: ")
    listed = [json.loads(line) for line in _output(environment, "list", "--kind", "offline", "--json").splitlines()]
    (found,) = [channel for channel in listed if channel["code"] == "tv"]
    assert (found["state"], found["expires_within_days"], found["expired"]) == ("probation", 7, False)


def test_expiring_lists_who_ends_soon_and_ends_well(environment: dict[str, str]) -> None:
    lines = _output(environment, "expiring", "--within-days", "30", "--json").splitlines()
    assert [json.loads(line)["code"] for line in lines] == ["video-host", "broker-one"]
    table = _output(environment, "expiring")
    assert "loan-market" in table
    assert "within 60 days" in table
    assert "app-store" not in table


def test_a_refusal_is_one_line(environment: dict[str, str]) -> None:
    assert _refusal(environment, "state", "nobody", "active", "--reason", "x") == "no channel has this code"
    assert _refusal(environment, "tier", "nobody") == "no channel has this code"
    assert _refusal(environment, "tier", "app-store", "gold", "--reason", "x") == "the active policy has no such tier"
    added = _refusal(environment, "add", "a b", "--kind", "online", "--owner", "x")
    assert added == "a code is 1 to 64 letters, digits, dots, hyphens or underscores"
    move = _refusal(environment, "state", "campus-group", "active", "--reason", "x")
    assert move == "a channel cannot move from proposed to active"


def test_a_wrong_call_ends_with_2(environment: dict[str, str]) -> None:
    for wrong in (
        ("tier", "app-store", "risk"),
        ("tier", "app-store", "--at", "yesterday"),
        ("add", "x", "--kind", "pigeon", "--owner", "x"),
        ("state", "app-store", "asleep", "--reason", "x"),
    ):
        assert _run(environment, *wrong).exit_code == 2
