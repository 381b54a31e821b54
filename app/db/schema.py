"""The version of the database schema: bringing it forward, and refusing to serve on an old one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.db.tables import SCHEMA

VERSION_TABLE = "schema_version"
MIGRATION_LOCK = 4_840_311_976_251_040
"""Advisory lock: one migration runs at a time."""
LOCK_TIMEOUT = "5s"
"""A migration that cannot get a lock gives up, rather than queue every decision behind it."""

_VERSION = f"SELECT version_num FROM {SCHEMA}.{VERSION_TABLE}"  # noqa: S608 - constants
_FUNCTION = """
    SELECT f.oid IS NOT NULL, coalesce(has_function_privilege(f.oid, 'EXECUTE'), false)
    FROM (SELECT to_regprocedure($1)::oid AS oid) f
"""
_ROOT = Path(__file__).resolve().parents[2]


class SchemaError(Exception):
    """The database's schema is not the one that this version of the service needs."""


def alembic_config(owner_url: str | None = None) -> Config:
    """The configuration of alembic, also where the working directory is another."""
    config = Config(_ROOT / "alembic.ini")
    config.attributes["url"] = owner_url
    return config


def head() -> str:
    """The newest revision that this version of the service knows."""
    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert revision is not None
    return revision


def migrate(owner_url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`, forward only. Waits for another migration to end.

    Raises:
        sqlalchemy.exc.DBAPIError: where the database is away or a lock could not be had in time.
    """
    command.upgrade(alembic_config(owner_url), revision)


async def current(url: str) -> str | None:
    """The revision that the database is at, or None where there is none.

    Raises:
        OSError, asyncpg.PostgresError: where the database is away.
    """
    connection = await asyncpg.connect(url, timeout=5, command_timeout=5)
    try:
        if await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.{VERSION_TABLE}") is None:
            return None
        revision: str | None = await connection.fetchval(_VERSION)
        return revision
    finally:
        await connection.close()


async def require_current(url: str, *, functions: Iterable[str] = ()) -> None:
    """Refuse a database that is behind this version. One that is ahead is served: migrations expand first.

    `functions` are those that the service cannot work without, by name and types of their arguments.

    Raises:
        SchemaError: where the schema is absent or old, or the login cannot call one of the functions.
        OSError, asyncpg.PostgresError: where the database is away.
    """
    found = await current(url)
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if found is None:
        raise SchemaError("the database has no schema yet: run `channel-gate migrate`")
    if found in known and found != head():
        raise SchemaError(f"the database is at schema {found}, this version needs {head()}: run `channel-gate migrate`")
    await _require_functions(url, functions)


async def _require_functions(url: str, functions: Iterable[str]) -> None:
    connection = await asyncpg.connect(url, timeout=5, command_timeout=5)
    try:
        for function in functions:
            found, callable_ = await connection.fetchrow(_FUNCTION, function)
            if not found:
                raise SchemaError(f"the database lacks the function {function}: its schema is not this version's")
            if not callable_:
                raise SchemaError(f"the login may not call the function {function}: run `channel-gate migrate`")
    finally:
        await connection.close(timeout=5)


async def wait_until_current(url: str, timeout_seconds: float, poll_seconds: float = 1.0) -> None:
    """Return once the schema is current.

    Raises:
        SchemaError: where it is not within the time.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            await require_current(url)
            return
        except (OSError, asyncpg.PostgresError, SchemaError) as error:
            if time.monotonic() + poll_seconds > deadline:
                raise SchemaError(f"the schema is not current after {timeout_seconds:g} s: {error}") from error
        await asyncio.sleep(poll_seconds)
