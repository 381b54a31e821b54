"""Nobody holds the fence that decisions pass while a client thinks: a change takes it and lets go in one round trip."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from asgi_lifespan import LifespanManager
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.api.factory import make_app
from app.db.engine import connect
from app.domain.signing import Statement, prove
from app.identities import keys
from app.identities.principal import Role
from app.policies.defaults import default_policy
from app.settings import Settings
from tests.governance.people import CHANGE
from tests.support.cluster import Database, eventually
from tests.support.service import Service

NONCE = "0123456789abcdef"
_HELD = """
    SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND a.datname = current_database() AND a.usename = 'channel_gate_governance'
"""


@pytest.fixture
async def service(seeded_database: Database) -> AsyncIterator[Service]:
    app = make_app(
        Settings(
            DATABASE_URL=seeded_database.serving,
            GOVERNANCE_DATABASE_URL=seeded_database.governance,
            flush_deadline_seconds=20,
        )
    )
    async with LifespanManager(app, startup_timeout=30, shutdown_timeout=30):
        await eventually(lambda: app.gate.keeper.latest.policy is not None and app.gate.writer.available)
        yield Service(app, seeded_database, dict(seeded_database.keys))


@contextmanager
def watched(engine: AsyncEngine) -> Iterator[list[tuple[str, bool]]]:
    """Each statement, and whether the server said with its answer that a transaction was still open after it.

    The server says so at the end of every round trip (ReadyForQuery), so an advisory lock of a transaction can have
    lived through one only where it said yes.
    """
    seen: list[tuple[str, bool]] = []

    def note(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append((statement, connection.connection.driver_connection.is_in_transaction()))

    event.listen(engine.sync_engine, "after_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine.sync_engine, "after_cursor_execute", note)


def _calls(seen: list[tuple[str, bool]]) -> set[str]:
    return {word.split("(")[0] for statement, _ in seen for word in statement.split() if word.startswith("gate.")}


async def test_no_change_over_http_keeps_a_transaction_open_after_its_call(service: Service) -> None:
    owner = await asyncpg.connect(service.database.owner)
    try:
        with watched(service.app.gate.admin_engine) as seen:
            async with service.client("admin") as admin:
                for method, path, body in _changes():
                    answer = await admin.request(method, path, json=body, headers={"If-Match": await _tag(admin, path)})
                    assert answer.is_success, (method, path, answer.text)
                    assert await owner.fetchval(_HELD) == 0
    finally:
        await owner.close()
    assert [statement for statement, still_open in seen if still_open] == []
    assert {"gate.policy_publish", "gate.channel_register", "gate.channel_amend", "gate.channel_set_state"} <= _calls(
        seen
    )
    assert {"gate.channel_alias_put", "gate.channel_alias_remove", "gate.tier_assign"} <= _calls(seen)
    assert {"gate.challenger_set", "gate.challenger_clear"} <= _calls(seen)


def _changes() -> list[tuple[str, str, Any]]:
    policy = default_policy() | {"name": "another"}
    registration = {"code": "new-one", "name": "New", "kind": "intermediary", "owner": "me", "reason": "r"}
    tier = {"tier": "prime", "cause": "initial", "reason": "r"}
    return [
        ("POST", "/v1/policies", policy),
        ("PATCH", "/v1/policies/active/rules/BU03/thresholds/general", {"value": 611, "comment": "c"}),
        ("POST", "/v1/channels", registration),
        ("PATCH", "/v1/channels/new-one", {"name": "Newer", "reason": "r"}),
        ("POST", "/v1/channels/new-one/state", {"state": "probation", "reason": "r"}),
        ("PUT", "/v1/channels/new-one/aliases/new-two", None),
        ("DELETE", "/v1/channels/new-one/aliases/new-two", None),
        ("POST", "/v1/channels/new-one/tiers", tier),
        ("PUT", "/v1/policies/challenger", policy),
        ("DELETE", "/v1/policies/challenger", None),
    ]


async def _tag(admin: httpx.AsyncClient, path: str) -> str:
    if path.startswith("/v1/channels/new-one"):
        return (await admin.get("/v1/channels/new-one")).headers["etag"]
    return (await admin.get("/v1/policies/active")).headers["etag"]


async def test_clock_of_governance_keeps_no_transaction_open(service: Service) -> None:
    with watched(service.app.gate.upkeep._engine) as seen:
        await service.app.gate.upkeep.tick()
    assert "gate.governance_tick" in _calls(seen)
    assert [statement for statement, still_open in seen if still_open and "governance_tick" in statement] == []


async def test_version_is_brought_back_signed_in_one_statement_or_not_at_all(service: Service) -> None:
    owner = await asyncpg.connect(service.database.owner)
    try:
        await owner.execute("UPDATE gate.governance SET single_person = false")
        with watched(service.app.gate.admin_engine) as seen:
            async with service.client("policy-author") as author:
                proof = prove("cgp_nobody", Statement(act="submit", subject="policy", nonce=NONCE, digest=bytes(32)))
                body = {"version": 1, "comment": "c", "nonce": NONCE, "proof": proof.hex()}
                refused = await author.post("/v1/policies/rollbacks", json=body)
        assert refused.status_code == 403, refused.text  # by the second of the two calls: the proof does not hold
        assert [statement for statement, still_open in seen if still_open] == []
        assert await owner.fetchval("SELECT count(*) FROM gate.policy_drafts") == 0
    finally:
        await owner.close()


async def test_key_is_rotated_in_one_round_trip(seeded_database: Database) -> None:
    connection = await connect(seeded_database.governance, purpose="test keys")
    asked: list[str] = []
    try:
        old = await keys.issue(connection, label="old", roles=[Role.ANALYST], change=CHANGE)
        connection.add_query_logger(lambda record: asked.append(record.query))
        now = datetime.now(UTC)
        new = await keys.rotate(connection, old.key_id, overlap=timedelta(hours=1), now=now, change=CHANGE)
        await eventually(lambda: len(asked) >= 2)  # a logger is called a turn later
        assert ["api_key_create" in query and "api_key_revoke" in query for query in asked] == [False, True]
        records = {record.key_id: record for record in await keys.list_keys(connection)}
        assert records[old.key_id].revoked_at == now + timedelta(hours=1)
        assert records[new.key_id].revoked_at is None
        with pytest.raises(keys.KeyChangeError):
            await keys.rotate(connection, old.key_id, overlap=timedelta(0), now=now, change=CHANGE)
        assert len(await keys.list_keys(connection)) == len(records)
    finally:
        await connection.close()
