"""Entries for the log, and what they need to be current: a published policy and a served channel."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
from uuid_utils.compat import uuid7

from app.journal.entry import JournalEntry
from tests.support.cluster import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What an entry has to have been decided under to be current."""

    policy_version: int
    channel_id: int
    channel_revision: int
    channel_code: str

    def entry(self, application_id: str, *, body: bytes = b"body", **changes: Any) -> JournalEntry:
        """An accept that the flush takes, but for what `changes` spoils."""
        decision_id = uuid7()
        entry = JournalEntry(
            originator_id=1,
            application_id=application_id,
            revision=1,
            fingerprint=hashlib.sha256(body).digest(),
            decision_id=decision_id,
            decided_at=datetime.now(UTC),
            retention_class="consumer",
            policy_version=self.policy_version,
            engine="1",
            channel_id=self.channel_id,
            channel_revision=self.channel_revision,
            channel_code=self.channel_code,
            sub_id=None,
            product="unsecured_consumer",
            jurisdiction="CN",
            tier="prime",
            outcome="accept",
            next_action="proceed",
            amount=5_000_000,
            currency="CNY",
            term_months=12,
            ceiling_amount=6_000_000,
            offered_amount=None,
            reason_codes="",
            applicant_ref=None,
            content_digest=hashlib.sha256(body).digest(),
            input=b'{"application_id":"' + application_id.encode() + b'"}',
            record=b"{}",
            response=b'{"decision_id":"' + str(decision_id).encode() + b'"}',
        )
        return entry._replace(**changes)


async def ground(database: Database, code: str = "app-store") -> Ground:
    """What is current in a seeded database."""
    connection = await asyncpg.connect(database.owner)
    try:
        row = await connection.fetchrow(
            "SELECT s.policy_version, c.channel_id, c.revision FROM gate.state s, gate.channels c WHERE c.code = $1",
            code,
        )
    finally:
        await connection.close()
    assert row is not None
    return Ground(
        policy_version=row["policy_version"],
        channel_id=row["channel_id"],
        channel_revision=row["revision"],
        channel_code=code,
    )
