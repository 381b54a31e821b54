"""Migrations: each goes up, down and up again, alone, without waiting long, and the service refuses what is behind."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from app.db import schema
from app.journal.call import FLUSH_FUNCTION
from tests.support.cluster import Database, in_thread

REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory.from_config(schema.alembic_config()).walk_revisions()))
]


async def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate in a thread, as alembic starts an event loop of its own."""
    await asyncio.to_thread(schema.migrate, database.owner, revision)


async def downgrade(database: Database, revision: str) -> None:
    config = schema.alembic_config(database.owner)
    await asyncio.to_thread(command.downgrade, config, revision)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def catalogue(database: Database) -> dict[str, list[str]]:
    """Everything that the schema has, in words that can be compared. Partitions come and go with the months."""
    queries = {
        "columns": """SELECT format('%s.%s %s %s', table_name, column_name, data_type, is_nullable)
                      FROM information_schema.columns
                      WHERE table_schema = 'gate' AND table_name !~ '^decisions_[a-z]+_[0-9_]+$'""",
        "functions": """SELECT format('%s %s %s', oid::regprocedure, proacl, md5(prosrc)) FROM pg_proc
                        WHERE pronamespace = 'gate'::regnamespace""",
        "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'gate' AND tablename !~ '_[0-9]{4}_[0-9]{2}$'",
        "constraints": """SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
                          FROM pg_constraint WHERE connamespace = 'gate'::regnamespace
                          AND conrelid::regclass::text !~ '_[0-9]{4}_[0-9]{2}$'""",
        "triggers": """SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                       WHERE c.relnamespace = 'gate'::regnamespace AND NOT t.tgisinternal""",
        "rights": """SELECT format('%s %s', relname, relacl) FROM pg_class
                     WHERE relnamespace = 'gate'::regnamespace AND relkind IN ('r', 'p', 'v')
                     AND relname !~ '_[0-9]{4}_[0-9]{2}$'""",
    }
    async with connected(database.superuser) as connection:
        return {what: sorted(row[0] for row in await connection.fetch(query)) for what, query in queries.items()}


async def test_every_migration_goes_up_down_and_up_again(blank_database: Database) -> None:
    for index, revision in enumerate(REVISIONS):
        before = await catalogue(blank_database) if index else None
        await upgrade(blank_database, revision)
        after = await catalogue(blank_database)
        assert after != before
        await downgrade(blank_database, "-1")
        if before is not None:
            assert await catalogue(blank_database) == before
        await upgrade(blank_database, revision)
        assert await catalogue(blank_database) == after


async def test_tables_in_python_are_those_in_the_database(database: Database) -> None:
    await asyncio.to_thread(command.check, schema.alembic_config(database.owner))


async def test_migrating_a_current_database_changes_nothing(database: Database) -> None:
    before = await catalogue(database)
    await upgrade(database)
    assert await catalogue(database) == before


async def test_two_migrations_at_once_both_succeed(blank_database: Database) -> None:
    environment = {**os.environ, **blank_database.environment()}
    program = [sys.executable, "-c", "import sys; from app.db.schema import migrate; migrate(sys.argv[1])"]
    processes = [
        await asyncio.create_subprocess_exec(*program, blank_database.owner, env=environment) for _ in range(2)
    ]
    assert [await process.wait() for process in processes] == [0, 0]
    assert await schema.current(blank_database.serving) == REVISIONS[-1]


async def test_migration_waits_for_another_one_longer_than_for_a_lock(
    blank_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", "100ms")
    async with connected(blank_database.owner) as other:
        await other.execute("SELECT pg_advisory_lock($1)", schema.MIGRATION_LOCK)
        migrating = asyncio.create_task(upgrade(blank_database))
        done, _ = await asyncio.wait({migrating}, timeout=1.5)
        assert not done
        await other.execute("SELECT pg_advisory_unlock($1)", schema.MIGRATION_LOCK)
        await migrating
    assert await schema.current(blank_database.serving) == REVISIONS[-1]


async def test_migration_gives_up_rather_than_queue_decisions_behind_it(
    blank_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upgrade(blank_database, "0001")
    before = await catalogue(blank_database)
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", "200ms")
    async with connected(blank_database.superuser) as holder:
        await holder.execute("BEGIN; LOCK TABLE gate.quarantine IN ACCESS SHARE MODE")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await upgrade(blank_database, "0002")
        await holder.execute("ROLLBACK")
    assert await catalogue(blank_database) == before
    assert await schema.current(blank_database.serving) == "0001"
    await upgrade(blank_database, "0002")


async def test_start_up_refuses_a_database_without_schema(blank_database: Database) -> None:
    with pytest.raises(schema.SchemaError, match="no schema yet"):
        await schema.require_current(blank_database.serving)


async def test_start_up_refuses_an_old_schema_and_serves_a_newer_one(blank_database: Database) -> None:
    for revision in REVISIONS[:-1]:
        await upgrade(blank_database, revision)
        with pytest.raises(schema.SchemaError, match=f"at schema {revision}, this version needs {REVISIONS[-1]}"):
            await schema.require_current(blank_database.serving)
    await upgrade(blank_database)
    await schema.require_current(blank_database.serving)
    async with connected(blank_database.owner) as owner:
        await owner.execute("UPDATE gate.schema_version SET version_num = '9999'")
    await schema.require_current(blank_database.serving)


async def test_waiting_for_the_schema_ends_with_the_migration_or_with_the_time(blank_database: Database) -> None:
    with pytest.raises(schema.SchemaError, match="not current after"):
        await schema.wait_until_current(blank_database.serving, 0.1, poll_seconds=0.05)
    waiting = asyncio.create_task(schema.wait_until_current(blank_database.serving, 60, poll_seconds=0.05))
    await upgrade(blank_database)
    await waiting


def test_revisions_form_one_line() -> None:
    assert in_thread(schema.head) == REVISIONS[-1]
    assert sorted(REVISIONS) == REVISIONS


async def test_start_up_refuses_a_schema_that_cannot_store_a_decision_as_this_version_does(database: Database) -> None:
    await schema.require_current(database.serving, functions=(FLUSH_FUNCTION,))
    async with connected(database.owner) as owner:
        await owner.execute(f"REVOKE EXECUTE ON FUNCTION {FLUSH_FUNCTION} FROM channel_gate_serving")
        with pytest.raises(schema.SchemaError, match=r"may not call the function gate\.journal_flush"):
            await schema.require_current(database.serving, functions=(FLUSH_FUNCTION,))
        await owner.execute(f"GRANT EXECUTE ON FUNCTION {FLUSH_FUNCTION} TO channel_gate_serving")
        await schema.require_current(database.serving, functions=(FLUSH_FUNCTION,))
        await owner.execute(f"ALTER FUNCTION {FLUSH_FUNCTION} RENAME TO journal_flush_before")
        with pytest.raises(schema.SchemaError, match=r"lacks the function gate\.journal_flush"):
            await schema.require_current(database.serving, functions=(FLUSH_FUNCTION,))
