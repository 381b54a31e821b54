"""The writer against a real PostgreSQL: what it stores and answers, and what a bad row or a lost database does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.db.engine import connect
from app.journal.call import FLUSH_FUNCTION
from app.journal.entry import FlushStatus, JournalEntry, JournalUnavailableError
from app.journal.writer import JournalWriter
from tests.support.cluster import Database, eventually
from tests.support.entries import Ground, ground

FLUSH_BEFORE = FLUSH_FUNCTION.replace("journal_flush", "journal_flush_before")
MakeWriter: TypeAlias = Callable[..., Awaitable[JournalWriter]]


@pytest.fixture
async def stand(seeded_database: Database) -> Ground:
    return await ground(seeded_database)


@pytest.fixture
async def owner(seeded_database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(seeded_database.owner)
    yield connection
    await connection.close()


@pytest.fixture
async def make_writer(seeded_database: Database) -> AsyncIterator[MakeWriter]:
    writers: list[JournalWriter] = []

    async def make(
        *, url: str = seeded_database.serving, deadline_seconds: float = 10.0, queue_limit: int = 4096
    ) -> JournalWriter:
        async def dial(timeout_seconds: float) -> asyncpg.Connection:
            return await connect(url, purpose="test journal", timeout_seconds=timeout_seconds)

        writer = JournalWriter(
            dial, queue_limit=queue_limit, batch_limit=64, deadline_seconds=deadline_seconds, partitions_ahead_months=3
        )
        writers.append(writer)
        await writer.start()
        await eventually(lambda: writer.available)
        return writer

    yield make
    for writer in writers:
        await writer.stop()


async def _statuses(writer: JournalWriter, entries: list[JournalEntry]) -> list[FlushStatus]:
    return [result.status for result in await asyncio.gather(*(writer.append(entry) for entry in entries))]


async def _stored(owner: asyncpg.Connection) -> int:
    count: int = await owner.fetchval("SELECT count(*) FROM gate.decisions")
    assert count == await owner.fetchval("SELECT count(*) FROM gate.decision_keys")
    return count


async def test_every_field_of_an_entry_arrives_in_its_column(
    make_writer: MakeWriter, stand: Ground, owner: asyncpg.Connection
) -> None:
    writer = await make_writer()
    entry = stand.entry(
        "A-1",
        sub_id="click 77",
        offered_amount=1,
        applicant_ref="p-1",
        reason_codes="IN03,BU06",
        outcome="escalate",
        next_action="review",
        content_digest=bytes(range(32)),
        input=b"",
        record=b"\x00\xff",
    )
    assert (await writer.append(entry)).status is FlushStatus.WRITTEN
    row = dict(await owner.fetchrow("SELECT * FROM gate.decisions")) | {"channel_revision": entry.channel_revision}
    assert row.pop("erased_at") is None
    row |= {name: getattr(entry, name) for name in ("facts", "budget_revision", "budget_available", "budget_lines")}
    wanted = entry._asdict() | {"reason_codes": ["IN03", "BU06"]}
    assert row | {"decision_id": str(row["decision_id"])} == wanted | {"decision_id": str(entry.decision_id)}


async def test_a_decision_is_stored_with_its_bytes(
    make_writer: MakeWriter, stand: Ground, owner: asyncpg.Connection
) -> None:
    writer = await make_writer()
    entry = stand.entry("A-1", reason_codes="BU03,IN01", outcome="reject", next_action="decline")
    result = await writer.append(entry)
    assert (result.status, result.response) == (FlushStatus.WRITTEN, entry.response)
    row = await owner.fetchrow("SELECT * FROM gate.decisions")
    assert (row["input"], row["record"], row["response"]) == (entry.input, entry.record, entry.response)
    assert (row["reason_codes"], row["decided_at"]) == (["BU03", "IN01"], entry.decided_at)


async def test_the_same_request_again_gets_the_first_bytes(
    make_writer: MakeWriter, stand: Ground, owner: asyncpg.Connection
) -> None:
    writer = await make_writer()
    first, second = stand.entry("A-1"), stand.entry("A-1")
    await writer.append(first)
    result = await writer.append(second)
    assert (result.status, result.response) == (FlushStatus.REPLAYED, first.response)
    assert await _stored(owner) == 1


async def test_equal_requests_of_one_moment_are_one_row_with_one_answer(
    make_writer: MakeWriter, stand: Ground, owner: asyncpg.Connection
) -> None:
    writers = [await make_writer(), await make_writer()]
    results = await asyncio.gather(*(writers[n % 2].append(stand.entry("A-1")) for n in range(200)))
    assert len({result.response for result in results}) == 1
    assert await _stored(owner) == 1


async def test_another_body_under_the_same_key_is_a_conflict(make_writer: MakeWriter, stand: Ground) -> None:
    writer = await make_writer()
    await writer.append(stand.entry("A-1", body=b"one"))
    assert (await writer.append(stand.entry("A-1", body=b"two"))).status is FlushStatus.CONFLICT
    together = await _statuses(writer, [stand.entry("A-2", body=b"one"), stand.entry("A-2", body=b"two")])
    assert together == [FlushStatus.WRITTEN, FlushStatus.CONFLICT]


async def test_a_newer_revision_is_decided_anew_and_an_older_one_is_superseded(
    make_writer: MakeWriter, stand: Ground
) -> None:
    writer = await make_writer()
    first = stand.entry("A-1")
    assert (await writer.append(first)).status is FlushStatus.WRITTEN
    assert (await writer.append(stand.entry("A-1", revision=3))).status is FlushStatus.WRITTEN
    assert (await writer.append(stand.entry("A-1", revision=2))).status is FlushStatus.SUPERSEDED
    again = await writer.append(stand.entry("A-1"))
    assert (again.status, again.response) == (FlushStatus.REPLAYED, first.response)


async def test_the_same_application_id_of_two_originators_is_two_applications(
    make_writer: MakeWriter, stand: Ground, owner: asyncpg.Connection
) -> None:
    writer = await make_writer()
    entries = [stand.entry("A-1"), stand.entry("A-1", originator_id=2, body=b"other")]
    assert await _statuses(writer, entries) == [FlushStatus.WRITTEN] * 2
    assert await _stored(owner) == 2


async def test_what_was_decided_under_another_policy_or_an_older_channel_is_stale(
    make_writer: MakeWriter, stand: Ground, owner: asyncpg.Connection
) -> None:
    writer = await make_writer()
    entries = [
        stand.entry("A-1", policy_version=stand.policy_version + 1),
        stand.entry("A-2", channel_revision=stand.channel_revision - 1),
        stand.entry("A-3"),
    ]
    assert await _statuses(writer, entries) == [FlushStatus.STALE, FlushStatus.STALE, FlushStatus.WRITTEN]
    assert await _stored(owner) == 1


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param({"application_id": "nul\x00"}, id="text that PostgreSQL refuses"),
        pytest.param({"term_months": 10**6}, id="a number that the driver cannot encode"),
        pytest.param({"outcome": "maybe"}, id="a value that a constraint refuses"),
        pytest.param({"outcome": "reject"}, id="a reject without a reason"),
    ],
)
async def test_one_poison_row_in_a_batch_of_64_leaves_63_answers(
    make_writer: MakeWriter,
    stand: Ground,
    owner: asyncpg.Connection,
    seeded_database: Database,
    poison: dict[str, object],
) -> None:
    writer = await make_writer()
    entries = [stand.entry(f"A-{n}") for n in range(64)]
    entries[17] = entries[17]._replace(**poison)
    statuses = await _statuses(writer, entries)
    assert Counter(statuses) == {FlushStatus.WRITTEN: 63, FlushStatus.POISON: 1}
    assert statuses[17] is FlushStatus.POISON
    assert await _stored(owner) == 63
    assert await owner.fetchval("SELECT decision_id FROM gate.quarantine") == entries[17].decision_id
    assert (await writer.append(stand.entry("A-after"))).status is FlushStatus.WRITTEN


async def test_a_missing_month_is_laid_out_and_costs_no_decision(
    make_writer: MakeWriter, stand: Ground, owner: asyncpg.Connection
) -> None:
    writer = await make_writer()
    for name in await owner.fetch(
        "SELECT relid::regclass::text AS name FROM pg_partition_tree('gate.decisions') WHERE isleaf AND level = 2"
    ):
        await owner.execute(f"DROP TABLE {name['name']}")
    assert await _statuses(writer, [stand.entry(f"A-{n}") for n in range(10)]) == [FlushStatus.WRITTEN] * 10
    assert await _stored(owner) == 10


async def test_a_flush_that_does_not_answer_is_a_503_and_its_connection_is_left_without_a_cancel(
    make_writer: MakeWriter, stand: Ground, owner: asyncpg.Connection, seeded_database: Database
) -> None:
    writer = await make_writer(deadline_seconds=0.5)
    blocker = await asyncpg.connect(seeded_database.owner)
    async with blocker.transaction():
        await blocker.execute("SELECT pg_advisory_xact_lock(4840311976251041)")
        waiting = [writer.append(stand.entry("A-1"))]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[0], JournalUnavailableError)
    await blocker.close()
    # The abandoned statement was not cancelled: it goes on and commits, and the retry finds it.
    await eventually(lambda: owner.fetchval("SELECT count(*) = 1 FROM gate.decision_keys"))
    await eventually(lambda: writer.available)
    assert (await writer.append(stand.entry("A-1"))).status is FlushStatus.REPLAYED


async def test_a_lost_connection_is_a_503_and_the_writer_comes_back_by_itself(
    make_writer: MakeWriter, stand: Ground, seeded_database: Database
) -> None:
    writer = await make_writer()
    superuser = await asyncpg.connect(seeded_database.superuser)
    killed = await superuser.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE '%test journal'"
    )
    await superuser.close()
    assert killed == 1
    with pytest.raises(JournalUnavailableError):
        await writer.append(stand.entry("A-1"))
    await eventually(lambda: writer.available)
    assert (await writer.append(stand.entry("A-1"))).status is FlushStatus.WRITTEN


class _Confused:
    """A statement whose connection the server ended while nothing was asked, as asyncpg tells it."""

    async def fetch(self, *_: object) -> list[asyncpg.Record]:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")


async def test_an_error_that_nobody_foresaw_is_a_503_and_does_not_end_the_writer(
    make_writer: MakeWriter, stand: Ground
) -> None:
    writer = await make_writer()
    writer._statement = _Confused()
    with pytest.raises(JournalUnavailableError):
        await asyncio.wait_for(writer.append(stand.entry("A-1")), 5)
    await eventually(lambda: writer.available)
    assert await _statuses(writer, [stand.entry("A-1")]) == [FlushStatus.WRITTEN]


async def test_a_backend_that_is_ended_while_idle_is_a_503_each_time(
    make_writer: MakeWriter, stand: Ground, seeded_database: Database
) -> None:
    writer = await make_writer()
    superuser = await asyncpg.connect(seeded_database.superuser)
    try:
        for n in range(5):
            await superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE '%test journal%'"
            )
            with pytest.raises(JournalUnavailableError):
                await asyncio.wait_for(writer.append(stand.entry(f"A-{n}")), 5)
            await eventually(lambda: writer.available)
            assert await _statuses(writer, [stand.entry(f"A-{n}")]) == [FlushStatus.WRITTEN]
    finally:
        await superuser.close()


async def test_a_full_queue_refuses_at_once_and_what_waits_is_written(make_writer: MakeWriter, stand: Ground) -> None:
    writer = await make_writer(queue_limit=10)
    waiting = [writer.append(stand.entry(f"A-{n}")) for n in range(10)]
    with pytest.raises(JournalUnavailableError) as refused:
        writer.append(stand.entry("A-late"))
    assert refused.value.overloaded
    assert {result.status for result in await asyncio.gather(*waiting)} == {FlushStatus.WRITTEN}


async def test_stopping_writes_what_is_queued(
    make_writer: MakeWriter, stand: Ground, owner: asyncpg.Connection
) -> None:
    writer = await make_writer()
    waiting = [writer.append(stand.entry(f"A-{n}")) for n in range(150)]
    await writer.stop()
    assert {result.status for result in await asyncio.gather(*waiting)} == {FlushStatus.WRITTEN}
    assert await _stored(owner) == 150


async def test_writer_that_cannot_connect_for_good_says_why_once_and_again_only_where_the_cause_changes(
    seeded_database: Database, owner: asyncpg.Connection
) -> None:
    attempts = 0

    async def dial(timeout_seconds: float) -> asyncpg.Connection:
        nonlocal attempts
        attempts += 1
        return await connect(seeded_database.serving, purpose="test journal", timeout_seconds=timeout_seconds)

    def written() -> list[tuple[str, str]]:
        return [(line["event"], line["error_code"]) for line in lines]

    writer = JournalWriter(dial, queue_limit=8, batch_limit=8, deadline_seconds=5, partitions_ahead_months=3)
    await owner.execute(f"ALTER FUNCTION {FLUSH_FUNCTION} RENAME TO journal_flush_before")
    with capture_logs() as lines:
        await writer.start()
        try:
            await eventually(lambda: attempts >= 4)
            assert not writer.available
            assert writer.not_connected == asyncpg.UndefinedFunctionError.sqlstate
            assert written() == [("journal_not_connected", "42883")]

            await owner.execute("REVOKE USAGE ON SCHEMA gate FROM channel_gate_serving")
            await eventually(lambda: writer.not_connected == asyncpg.InsufficientPrivilegeError.sqlstate)
            assert written() == [("journal_not_connected", "42883"), ("journal_not_connected", "42501")]

            await owner.execute("GRANT USAGE ON SCHEMA gate TO channel_gate_serving")
            await owner.execute(f"ALTER FUNCTION {FLUSH_BEFORE} RENAME TO journal_flush")
            await eventually(lambda: writer.available)
            assert writer.not_connected is None
        finally:
            await writer.stop()


async def test_a_flush_reads_no_table_of_the_log_from_end_to_end(
    make_writer: MakeWriter, stand: Ground, owner: asyncpg.Connection
) -> None:
    async def read_whole() -> dict[str, int]:
        await owner.execute("SELECT pg_stat_clear_snapshot()")
        rows = await owner.fetch("SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = 'gate'")
        return {row["relname"]: row["seq_scan"] for row in rows if row["relname"].startswith("decision")}

    before = await read_whole()
    writer = await make_writer()  # its plans are made while the log is empty, as on the first day
    for batch in range(8):
        await _statuses(writer, [stand.entry(f"A-{batch}-{number}") for number in range(64)])
    assert (await _statuses(writer, [stand.entry("A-0-0"), stand.entry("A-0-1", body=b"other")])) == [
        FlushStatus.REPLAYED,
        FlushStatus.CONFLICT,
    ]
    await writer.stop()  # which hands over what its session has counted

    async def counted() -> bool:
        await owner.execute("SELECT pg_stat_clear_snapshot()")
        inserted = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'decision_keys'"
        return bool(await owner.fetchval(inserted) >= 8 * 64)

    await eventually(counted)
    assert await read_whole() == before
