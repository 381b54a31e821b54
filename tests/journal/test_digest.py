"""The daily digest: what it covers, how it is chained, and what a change of the log does to it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from app.db.changes import ConflictingChangeError
from app.journal.digest import DayCheck, check_days, digest_days
from tests.retention.decision_log import CHANGE, DecisionLog, opened
from tests.support.cluster import Database, eventually

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture
async def log(seeded_database: Database) -> AsyncIterator[DecisionLog]:
    """An empty log, with the default policy and the demo's channels."""
    async with opened(seeded_database) as log:
        month = NOON.replace(day=1, hour=0) - timedelta(days=35)
        await log.lay_out(month.replace(day=1))
        yield log


async def checks(log: DecisionLog, **bounds: Any) -> list[DayCheck]:
    async with log.governance() as connection:
        return [check async for check in check_days(connection, **bounds)]


async def faults(log: DecisionLog) -> list[str]:
    return [str(fault) for check in await checks(log) for fault in check.faults]


def day_before(days: int) -> datetime:
    return NOON - timedelta(days=days)


async def test_digest_is_what_its_description_says(log: DecisionLog) -> None:
    """Recomputed here from the rows alone, by the description in docs/retention.md."""
    for hour, minute in ((0, 0), (0, 5), (23, 59)):
        await log.decide(
            day_before(2).replace(hour=hour, minute=minute, microsecond=7),
            outcome="reject", next_action="decline", reason_codes="BU03,IN01",
        )  # fmt: skip
    await log.digest(day_before(2))
    stored = await log.arrange.fetchrow("SELECT * FROM gate.journal_digests WHERE retention_class = 'consumer'")
    hours: list[tuple[int, str]] = []
    for hour in range(24):
        begin = day_before(2).replace(hour=hour)
        rows = await log.arrange.fetch(
            "SELECT * FROM gate.decisions WHERE decided_at >= $1 AND decided_at < $2 ORDER BY decision_id",
            begin, begin + timedelta(hours=1),
        )  # fmt: skip
        hashes = b"".join(row_hash(row) for row in rows)
        hours.append((len(rows), hashlib.sha256(hashes).hexdigest() if rows else ""))
    document = [stored["day"].isoformat(), "consumer", [each[0] for each in hours], [each[1] for each in hours]]
    assert stored["digest"] == hashlib.sha256(json.dumps(document).encode()).digest()
    assert stored["decisions"] == 3


def row_hash(row: asyncpg.Record) -> bytes:
    since_epoch = row["decided_at"] - datetime(1970, 1, 1, tzinfo=UTC)
    document = [
        str(row["decision_id"]), since_epoch // timedelta(microseconds=1), row["retention_class"], row["originator_id"],
        row["application_id"], row["revision"], row["channel_id"], row["product"], row["tier"], row["policy_version"],
        row["outcome"], row["next_action"], row["amount"], row["currency"], row["term_months"], row["reason_codes"],
        row["fingerprint"].hex(), row["content_digest"].hex(), hashlib.sha256(row["response"]).hexdigest(),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(document, ensure_ascii=False).encode()).digest()


async def test_days_are_chained_and_those_without_decisions_too(log: DecisionLog) -> None:
    await log.decide(day_before(4))
    await log.decide(day_before(2), retention_class="business")
    await log.digest(day_before(2))
    rows = await log.arrange.fetch("SELECT * FROM gate.journal_digests ORDER BY retention_class, day")
    assert [row["decisions"] for row in rows] == [0, 0, 1, 1, 0, 0]
    for earlier, later in ((0, 1), (1, 2), (3, 4), (4, 5)):
        assert rows[later]["previous_digest"] == rows[earlier]["digest"]
    assert len({row["digest"] for row in rows}) == 6
    assert await faults(log) == []


async def test_every_day_that_is_over_is_digested_once(log: DecisionLog) -> None:
    await log.decide(day_before(3))
    await log.decide(NOON.replace(hour=0))
    async with log.governance() as connection:
        made = [each async for each in digest_days(connection, CHANGE)]
        assert max(each.day for each in made) < datetime.now(UTC).date()
        assert [each async for each in digest_days(connection, CHANGE)] == []
    assert len(await log.audit("journal.digest")) == len(made) / 2


async def test_day_that_is_not_over_is_refused(log: DecisionLog) -> None:
    await log.decide(datetime.now(UTC))
    async with log.governance() as connection:
        with pytest.raises(ConflictingChangeError):
            async for _ in digest_days(connection, CHANGE, until=datetime.now(UTC).date()):
                pass


async def test_digest_waits_until_flushes_under_way_have_ended(log: DecisionLog) -> None:
    await log.decide(day_before(2))
    flush = await asyncpg.connect(log.database.superuser)
    try:
        await flush.execute("BEGIN; SELECT gate.fence_shared()")
        digesting = asyncio.create_task(log.digest(day_before(2)))
        await eventually(lambda: log.arrange.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        assert await log.arrange.fetchval("SELECT count(*) FROM gate.journal_digests") == 0
        await flush.execute("ROLLBACK")
        await digesting
    finally:
        await flush.close()
    assert await log.arrange.fetchval("SELECT count(*) FROM gate.journal_digests") == 2


async def test_digests_are_immutable(log: DecisionLog) -> None:
    await log.decide(day_before(2))
    await log.digest(day_before(2))
    for statement in ("UPDATE gate.journal_digests SET decisions = 9", "DELETE FROM gate.journal_digests"):
        with pytest.raises(asyncpg.PostgresError, match="immutable"):
            await log.arrange.execute(statement)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE gate.decisions SET outcome = 'accept', next_action = 'proceed'", "a decision of hour 12 has been ch"),
        ("UPDATE gate.decisions SET reason_codes = '{IN01}'", "a decision of hour 12 has been changed"),
        ("UPDATE gate.decisions SET response = 'x'", "a decision of hour 12 has been changed"),
        ("UPDATE gate.decisions SET amount = 1", "a decision of hour 12 has been changed"),
        ("UPDATE gate.decisions SET decided_at = decided_at + interval '1 hour'", "hour 12 had 1 decisions and has 0"),
        ("DELETE FROM gate.decisions", "hour 12 had 1 decisions and has 0"),
        ("UPDATE gate.decisions SET input = 'x'", "input or record of decision {id} has been changed"),
        ("UPDATE gate.decisions SET record = NULL", "input or record of decision {id} has been changed"),
        ("UPDATE gate.decisions SET erased_at = now()", "input or record of decision {id} has been changed"),
    ],
)
async def test_changed_log_names_day_class_and_place(log: DecisionLog, statement: str, message: str) -> None:
    entry = await log.decide(day_before(2), outcome="reject", next_action="decline", reason_codes="BU03")
    await log.digest(day_before(2))
    assert await faults(log) == []
    await log.arrange.execute(statement)
    found = await faults(log)
    expected = f"{day_before(2).date()} consumer: {message.format(id=entry.decision_id)}"
    assert any(fault.startswith(expected) for fault in found), found


async def test_late_row_is_found(log: DecisionLog) -> None:
    await log.decide(day_before(2))
    await log.digest(day_before(2))
    await log.decide(day_before(2))
    assert await faults(log) == [f"{day_before(2).date()} consumer: hour 12 had 1 decisions and has 2"]


async def test_rewritten_digest_is_betrayed_by_the_audit_log(log: DecisionLog) -> None:
    await log.decide(day_before(2))
    await log.digest(day_before(2))
    await log.arrange.execute("ALTER TABLE gate.journal_digests DISABLE TRIGGER ALL")
    await log.arrange.execute("DELETE FROM gate.decisions; DELETE FROM gate.decision_keys")
    await log.arrange.execute(
        "UPDATE gate.journal_digests SET decisions = 0, hour_decisions = array_fill(0::bigint, '{24}'), "
        "hour_digests = array_fill(''::bytea, '{24}')"
    )
    await log.arrange.execute(
        "UPDATE gate.journal_digests SET digest = gate.day_digest(previous_digest, day, retention_class, "
        "hour_decisions, hour_digests)"
    )
    assert await faults(log) == [f"{day_before(2).date()} consumer: its digest is not the one in the audit log"]


async def test_removed_digest_is_named(log: DecisionLog) -> None:
    await log.decide(day_before(4))
    await log.digest(day_before(2))
    await log.arrange.execute("ALTER TABLE gate.journal_digests DISABLE TRIGGER ALL")
    await log.arrange.execute("DELETE FROM gate.journal_digests WHERE day = $1", day_before(3).date())
    found = await faults(log)
    assert f"{day_before(3).date()} business: there is no digest of this day" in found
    assert f"{day_before(2).date()} business: its digest does not follow that of the day before" in found


async def test_bounds_choose_the_days(log: DecisionLog) -> None:
    await log.decide(day_before(4))
    await log.digest(day_before(2))

    def days(found: list[DayCheck]) -> set[date]:
        return {check.day for check in found}

    middle = day_before(3).date()
    assert days(await checks(log, first=middle, last=middle)) == {middle}
    assert len(days(await checks(log))) == 3


async def test_channels_of_a_day_are_counted(log: DecisionLog) -> None:
    code = await log.arrange.fetchval("SELECT code FROM gate.channels ORDER BY channel_id DESC LIMIT 1")
    await log.decide(day_before(2))
    await log.decide(day_before(2), retention_class="business")
    await log.decide(day_before(2), channel=code, outcome="reject", reason_codes="BU03")
    await log.decide(day_before(2), channel=code, outcome="escalate", reason_codes="BU03")
    await log.digest(day_before(2))
    rows = await log.arrange.fetch("SELECT * FROM gate.channel_days ORDER BY channel_id")
    assert [tuple(row)[2:] for row in rows] == [(2, 2, 0, 0), (2, 0, 1, 1)]
    assert {row["day"] for row in rows} == {day_before(2).date()}


async def test_hour_is_found_by_the_index_of_ranges(log: DecisionLog) -> None:
    await log.decide(day_before(2))
    await log.arrange.execute("SET enable_seqscan = off")
    plan = await log.arrange.fetch(
        "EXPLAIN SELECT response FROM gate.decisions WHERE retention_class = 'consumer' AND decided_at >= $1 "
        "AND decided_at < $2".replace("$1", f"'{day_before(2)}'").replace("$2", f"'{day_before(1)}'")
    )
    assert any("decided_at_idx" in row[0] for row in plan)
