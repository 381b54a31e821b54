"""The commands about budgets, as a risk admin types them."""

from __future__ import annotations

import json
import re

import pytest

from app.cli.errors import CommandError
from tests.governance.test_cli import Terminal, secrets, terminal  # noqa: F401 - fixtures


def test_a_budget_is_set_listed_and_ended(terminal: Terminal) -> None:  # noqa: F811
    said = ("--reason", "spring", "--currency", "CNY", "--time-zone", "Asia/Shanghai", "--growth", 30, "--floor", 500)
    assert "app-store monthly, limit 9000" in terminal("budgets", "set", "app-store", "monthly", "amount", 9000, *said)
    rates = ("--loss-rate", "prime=20000", "--loss-rate", "risk=90000", "--currency", "CNY", "--reason", "r")
    terminal("budgets", "set", "*", "monthly", "expected_loss", 100, *rates)
    found = [json.loads(line) for line in terminal("budgets", "list", "app-store", "--json").splitlines()]
    assert [(each["channel"], each["measure"], each["cap"], each["left"]) for each in found] == [
        ("app-store", "amount", 500, 500),
        (None, "expected_loss", 100, 100),
    ]
    assert "app-store" in terminal("budgets", "list")
    number = found[0]["budget_id"]
    assert "has ended" in terminal("budgets", "end", number, "--reason", "r")
    assert len(terminal("budgets", "list", "app-store", "--json").splitlines()) == 1
    with pytest.raises(CommandError, match="no such open budget"):
        terminal("budgets", "end", number, "--reason", "r")


def test_two_persons_raise_a_limit_and_end_a_budget(terminal: Terminal, secrets: dict[str, str]) -> None:  # noqa: F811
    terminal("budgets", "set", "app-store", "daily", "count", 10, "--reason", "r")
    with pytest.raises(CommandError, match="second person"):
        terminal("budgets", "set", "app-store", "daily", "count", 20, "--reason", "r")
    by_ada = ("--reason", "good", "--person", "ada")
    asked = terminal("changes", "budget", "app-store", "daily", "count", 20, *by_ada, secret=secrets["ada"])
    _approve(terminal, asked, secrets["ben"])
    [found] = [json.loads(line) for line in terminal("budgets", "list", "app-store", "--json").splitlines()]
    assert found["limit"] == 20
    asked = terminal("changes", "budget-end", found["budget_id"], *by_ada, secret=secrets["ada"])
    _approve(terminal, asked, secrets["ben"])
    assert terminal("budgets", "list", "app-store", "--json") == ""


def _approve(terminal: Terminal, asked: str, secret: str) -> None:  # noqa: F811
    matched = re.search(r"change (\d+), .*\(([0-9a-f]{64})\)", asked)
    assert matched is not None
    number, digest = matched.groups()
    assert "applied" in terminal("changes", "approve", number, "--payload", digest, "--person", "ben", secret=secret)


def test_suspending_a_channel_says_what_became_of_its_offers(terminal: Terminal) -> None:  # noqa: F811
    said = terminal("channels", "state", "app-store", "suspended", "--void-open", "--reason", "fraud")
    assert said == "app-store is suspended; 0 open reservations voided\n"
