"""Runs migrations as the owner: one at a time, never waiting long for a lock, in plain SQL."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.db.engine import SQLALCHEMY_DRIVER
from app.db.schema import LOCK_TIMEOUT, MIGRATION_LOCK, VERSION_TABLE
from app.db.tables import SCHEMA, metadata
from app.settings import read_settings


def _include(name: str | None, kind: str, _parents: object) -> bool:
    """Only our schema; monthly partitions come and go without migrations."""
    if kind == "schema":
        return name == SCHEMA
    if kind == "table":
        return name in {table.name for table in metadata.tables.values()}
    return True


def _run(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))  # it would end the wait for another migration too
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=_include,
        compare_type=True,
        compare_server_default=False,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
    connection.commit()


async def _main() -> None:
    url = context.config.attributes.get("url") or read_settings().owner_url()
    engine = create_async_engine(SQLALCHEMY_DRIVER, connect_args={"dsn": str(url)}, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_main())
