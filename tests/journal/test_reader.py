"""The reader against a real log: what it finds, in which order, and which partitions it touches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from app.db.engine import make_engine
from app.journal.call import FLUSH_SQL, flush_arguments
from app.journal.cursor import CursorError, Position, decode_cursor, encode_cursor
from app.journal.entry import JournalEntry
from app.journal.reader import (
    DecisionFilter,
    count_decisions,
    decision_by_id,
    decision_of_application,
    instant_of,
    list_decisions,
    stream_decisions,
)
from tests.support.cluster import SEEDED_TEMPLATE, Cluster, Database
from tests.support.entries import Ground, ground

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
THIS_MONTH = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
ANY = DecisionFilter()


@dataclass(frozen=True)
class Log:
    """A log to write to and to read from."""

    database: Database
    here: Ground
    reading: AsyncConnection

    def entry(self, application_id: str, at: datetime, **changes: Any) -> JournalEntry:
        """An entry whose id was made from the instant that it was decided at."""
        milliseconds = (at - EPOCH) // timedelta(milliseconds=1)
        decision_id = UUID(int=milliseconds << 80 | uuid7().int & (1 << 80) - 1)
        return self.here.entry(application_id, decision_id=decision_id, decided_at=at, **changes)

    async def write(self, *entries: JournalEntry) -> None:
        """Flush entries as the writer does."""
        connection = await asyncpg.connect(self.database.serving)
        try:
            rows = await connection.fetch(FLUSH_SQL, *flush_arguments(entries))
        finally:
            await connection.close()
        assert rows == []

    async def read_all(self, wanted: DecisionFilter = ANY, *, limit: int = 3) -> list[str]:
        """The application ids of every page, in the order that they came in."""
        found: list[str] = []
        cursor = None
        while True:
            page = await list_decisions(self.reading, wanted, limit=limit, cursor=cursor)
            assert len(page.decisions) <= limit
            found += [decision.summary.application_id for decision in page.decisions]
            cursor = page.next_cursor
            if cursor is None:
                return found


@asynccontextmanager
async def _opened(database: Database) -> AsyncIterator[Log]:
    engine = make_engine(database.serving, pool_size=1)
    async with engine.connect() as reading:
        yield Log(database, await ground(database), reading)
    await engine.dispose()


@pytest.fixture
async def log(seeded_database: Database) -> AsyncIterator[Log]:
    """A log for a test that writes."""
    async with _opened(seeded_database) as log:
        yield log


@pytest.fixture(scope="module")
async def two_months(cluster: Cluster) -> AsyncIterator[Log]:
    """A log that nobody writes to after it has its eleven decisions: see `EVERYTHING`."""
    database = await cluster.create(SEEDED_TEMPLATE)
    async with _opened(database) as log:
        await _write_two_months(log)
        yield log
    await cluster.drop(database)


# One decision ---------------------------------------------------------------------------------------------------------


async def test_a_decision_is_found_by_its_id_with_every_stored_byte(log: Log) -> None:
    entry = log.entry("A-1", THIS_MONTH + timedelta(hours=1))
    await log.write(entry)
    stored = await decision_by_id(log.reading, entry.decision_id)
    assert stored is not None
    assert (stored.input, stored.record, stored.response) == (entry.input, entry.record, entry.response)
    assert stored.summary.originator_code == "demo-origination"
    assert stored.summary.decided_at == entry.decided_at
    assert stored.summary.reason_codes == ()


async def test_another_originators_decision_is_not_found(log: Log) -> None:
    entry = log.entry("A-1", THIS_MONTH)
    await log.write(entry)
    assert await decision_by_id(log.reading, entry.decision_id, originator_id=1) is not None
    assert await decision_by_id(log.reading, entry.decision_id, originator_id=2) is None


@pytest.mark.parametrize(
    "decision_id",
    [uuid4(), UUID(int=0), UUID(int=2**128 - 1), UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"), uuid7()],
    ids=["version 4", "nil", "max", "end of time", "never decided"],
)
async def test_an_id_that_was_never_given_finds_nothing(log: Log, decision_id: UUID) -> None:
    assert await decision_by_id(log.reading, decision_id) is None


def test_the_millisecond_of_an_id_is_read_back() -> None:
    assert instant_of(UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


async def test_an_id_alone_touches_the_partition_of_its_month_only(log: Log) -> None:
    entry = log.entry("A-1", THIS_MONTH + timedelta(days=2))
    await log.write(entry)
    before = await _scans(log)
    assert await decision_by_id(log.reading, entry.decision_id) is not None
    await log.reading.rollback()
    touched = {name for name, scans in (await _scans(log)).items() if scans > before[name]}
    month = THIS_MONTH.strftime("%Y_%m")
    assert touched == {f"decisions_consumer_{month}", f"decisions_business_{month}"}


async def _scans(log: Log) -> dict[str, int]:
    """How often each partition was read so far."""
    connection = await asyncpg.connect(log.database.superuser)
    try:
        # A backend that looks reports what it did itself at once; the reading backend is told to.
        await log.reading.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        await log.reading.rollback()
        rows = await connection.fetch(
            "SELECT relname, coalesce(idx_scan, 0) + seq_scan AS scans FROM pg_stat_user_tables"
            " WHERE relname ~ '^decisions_.*_[0-9]{4}_[0-9]{2}$'"
        )
        return {row["relname"]: row["scans"] for row in rows}
    finally:
        await connection.close()


async def test_the_decision_on_an_application_is_that_of_the_revision_or_the_latest(log: Log) -> None:
    first = log.entry("A-1", THIS_MONTH)
    second = log.entry("A-1", THIS_MONTH + timedelta(hours=1), revision=2, fingerprint=b"2" * 32)
    await log.write(first)
    await log.write(second)

    async def found(revision: int | None) -> UUID | None:
        stored = await decision_of_application(log.reading, originator_id=1, application_id="A-1", revision=revision)
        return None if stored is None else stored.summary.decision_id

    assert [await found(1), await found(2), await found(3)] == [first.decision_id, second.decision_id, None]
    assert await found(None) == second.decision_id
    assert await decision_of_application(log.reading, originator_id=2, application_id="A-1") is None


# Lists ----------------------------------------------------------------------------------------------------------------


EVERYTHING = [f"A-{hours}" for hours in range(5, -6, -1)]
"""The application ids of eleven decisions over the edge of a month, newest first. Every third is a rejection."""


async def _write_two_months(log: Log) -> None:
    entries = [
        log.entry(
            f"A-{hours}",
            THIS_MONTH + timedelta(hours=hours),
            retention_class="business" if hours % 2 else "consumer",
            outcome="reject" if hours % 3 == 0 else "accept",
            reason_codes="BU03,BU07" if hours % 3 == 0 else "",
        )
        for hours in range(-5, 6)
    ]
    await log.write(*entries)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 11, 200])
async def test_pages_hold_every_decision_once_the_newest_first(two_months: Log, limit: int) -> None:
    assert await two_months.read_all(limit=limit) == EVERYTHING


async def test_an_empty_log_is_an_empty_page(log: Log) -> None:
    page = await list_decisions(log.reading, ANY, limit=10)
    assert (page.decisions, page.next_cursor) == ((), None)


async def test_what_is_decided_while_pages_are_read_moves_none_of_them(log: Log) -> None:
    await _write_two_months(log)
    page = await list_decisions(log.reading, ANY, limit=4)
    await log.write(log.entry("late", THIS_MONTH + timedelta(hours=9)))
    found = [decision.summary.application_id for decision in page.decisions]
    while page.next_cursor is not None:
        page = await list_decisions(log.reading, ANY, limit=4, cursor=page.next_cursor)
        found += [decision.summary.application_id for decision in page.decisions]
    assert found == EVERYTHING


async def test_the_time_is_half_open(two_months: Log) -> None:
    wanted = DecisionFilter(decided_from=THIS_MONTH - timedelta(hours=1), decided_to=THIS_MONTH + timedelta(hours=1))
    assert await two_months.read_all(wanted) == ["A-0", "A--1"]
    assert await count_decisions(two_months.reading, wanted) == 2


@pytest.mark.parametrize(
    ("wanted", "hits"),
    [
        (DecisionFilter(outcome="reject"), {"A--3", "A-0", "A-3"}),
        (DecisionFilter(reason_code="BU07"), {"A--3", "A-0", "A-3"}),
        (DecisionFilter(reason_code="BU08"), set()),
        (DecisionFilter(outcome="reject", decided_from=THIS_MONTH), {"A-0", "A-3"}),
        (DecisionFilter(channel_code="branch-east"), set()),
        (DecisionFilter(channel_code="no-such-channel"), set()),
        (DecisionFilter(next_action="review"), set()),
        (DecisionFilter(tier="risk"), set()),
        (DecisionFilter(product="small_business"), set()),
        (DecisionFilter(policy_version=99), set()),
        (DecisionFilter(originator_id=2), set()),
    ],
)
async def test_filters_narrow_the_list_together(two_months: Log, wanted: DecisionFilter, hits: set[str]) -> None:
    assert set(await two_months.read_all(wanted)) == hits


@pytest.mark.parametrize("code", ["app-store", "ios"])
async def test_a_channel_is_found_by_its_code_and_by_an_alias(two_months: Log, code: str) -> None:
    assert await two_months.read_all(DecisionFilter(channel_code=code)) == EVERYTHING


async def test_a_page_that_takes_too_long_is_cut_and_goes_on(two_months: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.journal.reader._PAGE_SECONDS", -1.0)
    page = await list_decisions(two_months.reading, DecisionFilter(reason_code="BU08"), limit=5)
    assert page.decisions == ()
    assert page.next_cursor is not None
    assert await two_months.read_all(DecisionFilter(reason_code="BU08")) == []
    assert await two_months.read_all(limit=4) == EVERYTHING


async def test_a_stream_gives_every_decision_once_the_oldest_first(
    two_months: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.journal.reader._STREAM_ROWS", 2)
    for limit in (None, 1, 7, 11):
        batches = [batch async for batch in stream_decisions(two_months.reading, ANY, limit=limit)]
        assert all(len(batch) <= 2 for batch in batches)
        found = [stored.summary.application_id for batch in batches for stored in batch]
        assert found == EVERYTHING[::-1][:limit]


# Cursors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [None, UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")])
def test_a_cursor_comes_back_as_the_position_that_it_was(below: UUID | None) -> None:
    position = Position(decided_before=THIS_MONTH, below=below)
    assert decode_cursor(encode_cursor(position, b"question"), b"question") == position


def test_a_cursor_of_another_question_is_refused() -> None:
    cursor = encode_cursor(Position(decided_before=THIS_MONTH), DecisionFilter(outcome="reject").question())
    with pytest.raises(CursorError, match="another listing"):
        decode_cursor(cursor, DecisionFilter(outcome="accept").question())


@pytest.mark.parametrize("text", ["", "!", "A", "AAAA", "é", "A" * 44, "\x00", "=" * 8])
def test_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorError):
        decode_cursor(text, b"question")


def test_a_cursor_that_was_changed_in_one_place_is_refused() -> None:
    cursor = encode_cursor(Position(decided_before=THIS_MONTH, below=uuid7()), b"question")
    for place in range(len(cursor) - 1):
        other = "A" if cursor[place] != "A" else "B"
        with pytest.raises(CursorError):
            decode_cursor(cursor[:place] + other + cursor[place + 1 :], b"question")
