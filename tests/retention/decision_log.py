"""A decision log with a past: rows go in through the flush, as the serving login, into months laid out by the owner."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change
from app.db.engine import make_engine
from app.journal.call import FLUSH_SQL, flush_arguments
from app.journal.digest import digest_days
from app.journal.entry import JournalEntry
from app.retention.retain import Periods
from tests.support.cluster import Database

PERIODS = Periods(consumer_months=25, business_months=12)
CHANGE = Change(actor="test", request_id="r-1")


def month_back(months: int, now: datetime | None = None) -> datetime:
    """The first moment of the month that began `months` months before the present one."""
    now = now or datetime.now(UTC)
    number = now.year * 12 + now.month - 1 - months
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)


DUE = 26
"""Months back to the youngest consumer month that is past 25 months as a whole."""


class DecisionLog:
    """Fills the log of one database and asks it questions as the superuser."""

    def __init__(self, database: Database, arrange: asyncpg.Connection, serving: asyncpg.Connection) -> None:
        self.database = database
        self.arrange = arrange
        self._serving = serving
        self._numbers = itertools.count(1)

    async def lay_out(self, *months: datetime) -> None:
        """Partitions for months that have passed."""
        owner = await asyncpg.connect(self.database.owner)
        try:
            for month in months:
                for retention_class in ("consumer", "business"):
                    name = f"decisions_{retention_class}_{month:%Y_%m}"
                    if await owner.fetchval("SELECT to_regclass($1) IS NOT NULL", f"gate.{name}"):
                        continue
                    end = (month + timedelta(days=31)).replace(day=1)
                    await owner.execute(
                        f"CREATE TABLE gate.{name} PARTITION OF gate.decisions_{retention_class} "
                        f"FOR VALUES FROM ('{month.isoformat()}') TO ('{end.isoformat()}')"
                    )
        finally:
            await owner.close()

    async def entry(self, decided_at: datetime, **changes: Any) -> JournalEntry:
        """A consumer accept by nobody in particular, but for `changes`. `channel` names a channel by its code."""
        number = next(self._numbers)
        channel = await self.arrange.fetchrow(
            "SELECT channel_id, revision, code FROM gate.channels WHERE code = coalesce($1, code) ORDER BY 1 LIMIT 1",
            changes.pop("channel", None),
        )
        reference = changes.get("applicant_ref")
        body = b'{"application_id":"A-%d","applicant":{"applicant_ref":"%s"}}' % (number, str(reference).encode())
        record = b'{"number":%d}' % number
        milliseconds = int(decided_at.timestamp() * 1000)
        fields: dict[str, Any] = {
            "originator_id": 1,
            "application_id": f"A-{number}",
            "revision": 1,
            "fingerprint": hashlib.sha256(body).digest(),
            "decision_id": UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62 | number),
            "decided_at": decided_at,
            "retention_class": "consumer",
            "policy_version": await self.arrange.fetchval("SELECT policy_version FROM gate.state"),
            "engine": "1",
            "channel_id": channel["channel_id"],
            "channel_revision": channel["revision"],
            "channel_code": channel["code"],
            "sub_id": "click-77",
            "product": "unsecured_consumer",
            "jurisdiction": "CN",
            "tier": "general",
            "outcome": "accept",
            "next_action": "proceed",
            "amount": 1_234_567,
            "currency": "CNY",
            "term_months": 12,
            "ceiling_amount": 2_000_000,
            "offered_amount": None,
            "reason_codes": "",
            "applicant_ref": reference,
            "input": body,
            "record": record,
            "response": b'{"outcome":"accept","number":%d}' % number,
        }
        fields.update(changes)
        fields.setdefault("content_digest", hashlib.sha256(fields["input"] + fields["record"]).digest())
        return JournalEntry(**fields)

    async def flush(self, *entries: JournalEntry) -> list[tuple[str, bytes | None]]:
        """Write entries as a worker does; (status, response) of each."""
        rows = await self._serving.fetch(FLUSH_SQL, *flush_arguments(entries))
        other = {row["row_number"]: (row["status"], row["response"]) for row in rows}
        return [other.get(number, ("written", None)) for number in range(1, len(entries) + 1)]

    async def decide(self, decided_at: datetime, **changes: Any) -> JournalEntry:
        """Write one decision."""
        entry = await self.entry(decided_at, **changes)
        assert await self.flush(entry) == [("written", None)]
        return entry

    async def digest(self, until: datetime) -> None:
        """Digest every day from the first decision to the day of `until`."""
        async with self.governance() as connection:
            async for _ in digest_days(connection, CHANGE, until=until.date()):
                pass

    async def digest_month(self, month: datetime) -> None:
        """Digest every day up to the end of the month."""
        await self.digest((month + timedelta(days=31)).replace(day=1) - timedelta(days=1))

    async def ids(self) -> set[UUID]:
        """The decisions that are in the log."""
        return {row[0] for row in await self.arrange.fetch("SELECT decision_id FROM gate.decisions")}

    async def audit(self, action: str) -> list[str]:
        """The payloads of one kind of change, oldest first."""
        rows = await self.arrange.fetch(
            "SELECT payload FROM gate.audit_log WHERE action = $1 ORDER BY sequence", action
        )
        return [row["payload"] for row in rows]

    @asynccontextmanager
    async def governance(self, isolation_level: str = "AUTOCOMMIT") -> AsyncIterator[AsyncConnection]:
        """A connection as the commands have it."""
        engine = make_engine(self.database.governance, pool_size=1, statement_timeout_seconds=60)
        try:
            async with engine.connect() as connection:
                yield await connection.execution_options(isolation_level=isolation_level)
        finally:
            await engine.dispose()


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[DecisionLog]:
    """The log of a seeded database."""
    arrange = await asyncpg.connect(database.superuser)
    serving = await asyncpg.connect(database.serving)
    try:
        yield DecisionLog(database, arrange, serving)
    finally:
        await serving.close()
        await arrange.close()
