"""Keys in a real database: made, rotated and revoked as the governance login, and by the command line."""

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

from app.cli import keys as key_commands
from app.cli.errors import CommandError
from app.db.changes import Change
from app.identities import keys
from app.identities.principal import Principal, Refusal, Role
from app.rollout.snapshot import EMPTY, read_snapshot
from tests.support.cluster import Database

CHANGE = Change(actor="key:tester", request_id="request-1")
NOW = datetime.now(UTC)


@pytest.fixture
async def governance(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.governance)
    await keys.register_originator(connection, code="alpha", name="Alpha", change=CHANGE)
    yield connection
    await connection.close()


async def serve(database: Database, text: str, now: datetime | None = None) -> Principal | Refusal:
    """What a worker that has just refreshed its snapshot makes of a key."""
    connection = await asyncpg.connect(database.serving)
    try:
        snapshot = await read_snapshot(connection, EMPTY)
    finally:
        await connection.close()
    return snapshot.keyring.authenticate(f"Bearer {text}", now or datetime.now(UTC))


async def issue(connection: asyncpg.Connection, **changes: Any) -> keys.IssuedKey:
    return await keys.issue(
        connection,
        **{"label": "los", "roles": [Role.ORIGINATION], "originator_code": "alpha", "change": CHANGE, **changes},
    )


async def test_issued_key_is_served_with_what_it_was_made_for(
    database: Database, governance: asyncpg.Connection
) -> None:
    issued = await issue(
        governance,
        roles=[Role.OUTCOMES, Role.ORIGINATION, Role.OUTCOMES],
        person_id="p-1",
        rate_limit_per_second=9,
        expires_at=NOW + timedelta(days=1),
    )
    caller = await serve(database, issued.text)
    assert isinstance(caller, Principal)
    assert caller.roles == {Role.ORIGINATION, Role.OUTCOMES}
    assert (caller.originator_code, caller.person_id, caller.key_id) == ("alpha", "p-1", issued.key_id)
    assert caller.rate_limit_per_second == 9
    assert caller.originator_id is not None
    assert await serve(database, issued.text, NOW + timedelta(days=1)) is Refusal.EXPIRED


async def test_secret_is_stored_nowhere(database: Database, governance: asyncpg.Connection) -> None:
    issued = await issue(governance)
    secret = issued.text.split("_", 2)[2]
    assert secret not in repr(issued)
    superuser = await asyncpg.connect(database.superuser)
    try:
        for table in ("api_keys", "audit_log"):
            stored = await superuser.fetchval(f"SELECT string_agg(t::text, ' ') FROM gate.{table} t")
            assert issued.key_id in stored
            assert secret not in stored
            assert secret.encode().hex() not in stored
    finally:
        await superuser.close()


async def test_every_change_is_in_the_audit_log(governance: asyncpg.Connection) -> None:
    issued = await issue(governance)
    await keys.revoke(governance, issued.key_id, at=NOW, reason="left on a bus", change=CHANGE)
    rows = await governance.fetch("SELECT actor, action, payload, request_id FROM gate.audit_log ORDER BY sequence")
    assert [row["action"] for row in rows] == ["originator.register", "api_key.create", "api_key.revoke"]
    assert {(row["actor"], row["request_id"]) for row in rows} == {("key:tester", "request-1")}
    assert json.loads(rows[-1]["payload"])["reason"] == "left on a bus"


async def test_registering_an_originator_twice_gives_the_same_id(governance: asyncpg.Connection) -> None:
    first = await keys.register_originator(governance, code="beta", name="Beta", change=CHANGE)
    assert await keys.register_originator(governance, code="beta", name="Beta again", change=CHANGE) == first


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"roles": []}, "at least one role"),
        ({"originator_code": None}, "belongs to an originator"),
        ({"originator_code": "nobody"}, "no originator has this code"),
        ({"rate_limit_per_second": 0}, "at least 1 per second"),
    ],
)
async def test_key_that_makes_no_sense_is_not_made(
    governance: asyncpg.Connection, changes: dict[str, Any], error: str
) -> None:
    with pytest.raises(keys.KeyChangeError, match=error):
        await issue(governance, **changes)
    assert await keys.list_keys(governance) == ()


async def test_originator_code_of_other_characters_is_refused(governance: asyncpg.Connection) -> None:
    with pytest.raises(keys.KeyChangeError, match="letters, digits"):
        await keys.register_originator(governance, code="a b", name="x", change=CHANGE)


async def test_rotation_overlaps_and_then_only_the_new_key_holds(
    database: Database, governance: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    old = await issue(governance, rate_limit_per_second=9, expires_at=now + timedelta(days=90))
    new = await keys.rotate(governance, old.key_id, overlap=timedelta(hours=1), now=now, change=CHANGE)
    during, after = now + timedelta(minutes=59), now + timedelta(hours=1)
    assert isinstance(await serve(database, old.text, during), Principal)
    assert await serve(database, old.text, after) is Refusal.REVOKED
    successor = await serve(database, new.text, after)
    assert isinstance(successor, Principal)
    assert (successor.originator_code, successor.rate_limit_per_second) == ("alpha", 9)
    records = {record.key_id: record for record in await keys.list_keys(governance)}
    assert records[old.key_id].state(now) == "ending"
    renewed = records[new.key_id].expires_at
    assert renewed is not None
    assert abs(renewed - (now + timedelta(days=90))) < timedelta(minutes=5)


async def test_ended_key_is_not_rotated(governance: asyncpg.Connection) -> None:
    ended = await issue(governance)
    await keys.revoke(governance, ended.key_id, at=NOW, reason="test", change=CHANGE)
    with pytest.raises(keys.KeyChangeError, match="revoked"):
        await keys.rotate(governance, ended.key_id, overlap=timedelta(0), now=datetime.now(UTC), change=CHANGE)
    with pytest.raises(keys.UnknownKeyError):
        await keys.rotate(governance, "0000", overlap=timedelta(0), now=datetime.now(UTC), change=CHANGE)
    assert len(await keys.list_keys(governance)) == 1


async def test_revocation_may_be_brought_forward_and_is_never_put_off(
    database: Database, governance: asyncpg.Connection
) -> None:
    issued = await issue(governance)
    later, sooner = NOW + timedelta(hours=2), NOW + timedelta(hours=1)
    assert await keys.revoke(governance, issued.key_id, at=later, reason="test", change=CHANGE)
    assert await keys.revoke(governance, issued.key_id, at=sooner, reason="test", change=CHANGE)
    assert not await keys.revoke(governance, issued.key_id, at=later, reason="test", change=CHANGE)
    assert await serve(database, issued.text, sooner) is Refusal.REVOKED
    with pytest.raises(keys.UnknownKeyError):
        await keys.revoke(governance, "0000", at=NOW, reason="test", change=CHANGE)


async def test_serving_login_can_make_and_end_no_key(database: Database, governance: asyncpg.Connection) -> None:
    issued = await issue(governance)
    serving = await asyncpg.connect(database.serving)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await issue(serving)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await keys.revoke(serving, issued.key_id, at=NOW, reason="attack", change=CHANGE)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await serving.execute("UPDATE gate.api_keys SET roles = '{admin}'")
    finally:
        await serving.close()


async def call(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, key_commands.app, list(arguments))


@pytest.fixture
def command_line(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("GOVERNANCE_DATABASE_URL", database.governance)
    return database


async def listed(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await call("list", "--json", *arguments)).stdout.splitlines()]


async def test_commands_lead_a_key_from_its_making_to_its_end(command_line: Database) -> None:
    assert (await call("originator", "add", "alpha", "--name", "Alpha")).exit_code == 0
    made = await call(
        "create", "--label", "los", "--role", "origination", "--role", "outcomes", "--originator", "alpha",
        "--rate-limit", "20", "--expires-in", "90d", "--actor", "ops:wang",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    text = made.stdout.strip()
    assert "not shown again" in made.stderr
    caller = await serve(command_line, text)
    assert isinstance(caller, Principal)
    assert (caller.originator_code, caller.rate_limit_per_second) == ("alpha", 20)

    rotated = await call("rotate", caller.key_id or "", "--overlap", "30m")
    assert rotated.exit_code == 0, rotated.output
    new = await serve(command_line, rotated.stdout.strip())
    assert isinstance(new, Principal)
    assert {record["key_id"]: record["state"] for record in await listed()} == {
        caller.key_id: "ending",
        new.key_id: "valid",
    }

    assert (await call("revoke", caller.key_id or "", "--reason", "rotated")).exit_code == 0
    assert await serve(command_line, text) is Refusal.REVOKED
    assert [record["key_id"] for record in await listed()] == [new.key_id]
    assert len(await listed("--ended")) == 2
    table = (await call("list", "--ended")).stdout
    for shown in (caller.key_id, new.key_id, "alpha", "origination outcomes", "revoked"):
        assert str(shown) in table
    assert text.split("_", 2)[2] not in table


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--label", "x", "--role", "origination"),
        ("create", "--label", "x", "--role", "origination", "--originator", "nobody"),
        ("rotate", "0000"),
        ("revoke", "0000", "--reason", "x"),
    ],
)
async def test_command_that_cannot_be_done_says_why(command_line: Database, arguments: tuple[str, ...]) -> None:
    failed = await call(*arguments)
    assert failed.exit_code == 1
    assert isinstance(failed.exception, CommandError)
    assert str(failed.exception)


@pytest.mark.parametrize("duration", ["90", "d", "-1d", "0d", "1y", "1.5h"])
async def test_duration_that_is_none_is_a_wrong_call(command_line: Database, duration: str) -> None:
    failed = await call("create", "--label", "x", "--role", "analyst", "--expires-in", duration)
    assert failed.exit_code == 2
