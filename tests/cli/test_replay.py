"""`channel-gate replay`: the stored log decided again, and every way in which it can fail to come out the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli import build_app
from app.cli.errors import CommandError
from app.db.changes import Change
from app.db.engine import make_engine
from app.domain.compiler import compile_policy
from app.policies import store
from app.policies.defaults import default_policy
from tests.support.cluster import Database
from tests.support.service import Service, running_service

APPLICATIONS: dict[str, dict[str, Any]] = {
    "accepted": {},
    "offered": {"channel_code": "broker-one"},
    "rejected": {"bureau__score": 480},
    "suspended": {"channel_code": "lead-seller"},
    "probation": {"channel_code": "shop-partner"},
    "unproven": {"applicant__monthly_income": None},
    "suspicious": {"device__ids_on_device_24h": 7},
    "fraction": {"all_in_apr_pct": 23.99},
    "unicode": {"purpose": "旅行 – Ünïcödé"},
}


async def replay(database: Database, *arguments: str) -> Result:
    """Run the command as the serving login, away from the test's own event loop."""
    environment = {"DATABASE_URL": database.serving, "COLUMNS": "200"}
    return await asyncio.to_thread(CliRunner().invoke, build_app(), ["replay", *arguments], env=environment)


@pytest.fixture
async def service(seeded_database: Database) -> AsyncIterator[Service]:
    async with running_service(seeded_database) as service:
        yield service


async def decide_all(service: Service) -> dict[str, str]:
    """A decision of every kind; their ids by the application's."""
    return {
        name: (await service.decide(name, **changes)).json()["decision_id"] for name, changes in APPLICATIONS.items()
    }


async def execute(database: Database, statement: str, *arguments: object) -> None:
    """Do what no login of the service may do."""
    connection = await asyncpg.connect(database.superuser)
    try:
        assert await connection.execute(statement, *arguments) == "UPDATE 1"
    finally:
        await connection.close()


async def test_every_kind_of_decision_comes_out_byte_for_byte_the_same(service: Service) -> None:
    await decide_all(service)
    result = await replay(service.database)
    assert result.exit_code == 0, result.output
    assert result.stdout == "9 decisions replayed: 9 identical, 0 different, 0 erased, 0 unreadable\n"


async def test_each_decision_is_replayed_under_its_own_policy_version(service: Service) -> None:
    await decide_all(service)
    document = default_policy()
    next(rule for rule in document["rules"] if rule["code"] == "BU03")["thresholds"]["prime"] = 800
    engine = make_engine(service.database.governance, pool_size=1)
    async with engine.begin() as connection:
        change = Change(actor="test", request_id="test")
        compiled = compile_policy(document)
        await store.publish(connection, compiled, expected_active=None, comment="stricter", change=change)
    await engine.dispose()
    later = (await service.decide("later")).json()
    assert (later["policy_version"], later["outcome"]) == (2, "reject")
    result = await replay(service.database, "--json")
    assert result.exit_code == 0, result.output
    assert (json.loads(result.stdout)["identical"], json.loads(result.stdout)["total"]) == (10, 10)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (
            "response = convert_to(replace(convert_from(response, 'UTF8'), '\"accept\"', '\"reject\"'), 'UTF8')",
            "response/outcome",
        ),
        ("response = response || ' '", "response (encoding)"),
        (
            "record = convert_to(replace(convert_from(record, 'UTF8'), 'tier_cap', 'legal_cap'), 'UTF8')",
            "record/ceiling/applied/2/cap",
        ),
        (
            "input = convert_to(replace(convert_from(input, 'UTF8'), '\"score\":715', '\"score\":400'), 'UTF8')",
            "response/next_action",
        ),
        ("outcome = 'reject', reason_codes = '{BU03}'", "column outcome"),
        ("reason_codes = '{BU03}'", "column reason_codes"),
        ("tier = 'risk'", "column tier"),
    ],
)
async def test_what_was_changed_afterwards_is_found_and_named(service: Service, change: str, detail: str) -> None:
    decided = await decide_all(service)
    await execute(service.database, f"UPDATE gate.decisions SET {change} WHERE application_id = 'accepted'")
    result = await replay(service.database, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["identical"], report["different"]) == (8, 1)
    assert report["findings"] == [{"decision_id": decided["accepted"], "verdict": "different", "detail": detail}]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (
            "record = convert_to(replace(convert_from(record, 'UTF8'), '\"engine\":\"1\"', '\"engine\":0'), 'UTF8')",
            "another engine",
        ),
        ("record = NULL", "missing"),
        ("record = 'not json'", "JSONDecodeError"),
        ("record = '[]'", "TypeError"),
        ("record = '{}'", "another engine"),
        ("input = 'not json'", "JSONDecodeError"),
        ("input = '[1]'", "TypeError"),
        ("input = '{}'", ""),
        ("policy_version = 77", "no policy version 77"),
    ],
)
async def test_what_cannot_be_read_is_a_fault_and_the_rest_goes_on(service: Service, change: str, detail: str) -> None:
    decided = await decide_all(service)
    await execute(service.database, f"UPDATE gate.decisions SET {change} WHERE application_id = 'accepted'")
    result = await replay(service.database)
    assert result.exit_code == 1
    assert "8 identical, 0 different, 0 erased, 1 unreadable" in result.stdout
    assert f"{decided['accepted']} unreadable" in result.stdout
    assert detail in result.stdout


async def test_erased_decisions_are_counted_and_are_no_fault(service: Service) -> None:
    await decide_all(service)
    await service.decide("erased", applicant__applicant_ref="p-to-be-erased")
    governance = await asyncpg.connect(service.database.governance)
    await governance.fetch(
        "SELECT * FROM gate.person_erase('p-to-be-erased', 'ordered', 25, 12, 'an order of the court', 'test', 'test')"
    )
    await governance.close()
    result = await replay(service.database)
    assert result.exit_code == 0
    assert "9 identical, 0 different, 1 erased, 0 unreadable" in result.stdout


async def test_options_choose_what_is_replayed(service: Service) -> None:
    await decide_all(service)

    async def total(*arguments: str) -> int:
        number: int = json.loads((await replay(service.database, *arguments, "--json")).stdout)["total"]
        return number

    today = datetime.now(UTC).date()
    tomorrow, yesterday = (today + timedelta(days=days) for days in (1, -1))
    assert await total("--limit", "4") == 4
    assert await total("--channel", "broker-one") == 1
    assert await total("--channel", "ios") == 6
    assert await total("--originator", "demo-origination") == 9
    assert await total("--from", str(yesterday), "--to", str(tomorrow)) == 9
    assert await total("--from", str(tomorrow)) == 0
    assert await total("--to", str(yesterday)) == 0


@pytest.mark.parametrize("arguments", [("--channel", "brokr-one"), ("--originator", "nobody")])
async def test_a_name_that_is_not_known_is_an_error_and_no_empty_success(
    seeded_database: Database, arguments: tuple[str, str]
) -> None:
    result = await replay(seeded_database, *arguments)
    assert isinstance(result.exception, CommandError)


async def test_a_time_that_is_none_is_a_wrong_call(seeded_database: Database) -> None:
    assert (await replay(seeded_database, "--from", "yesterday")).exit_code == 2
