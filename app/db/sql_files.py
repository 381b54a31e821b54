"""Runs the plain SQL of a migration: `migrations/sql/<revision>/*.sql`, in order, with the roles' names put in."""

from __future__ import annotations

from pathlib import Path

import asyncpg
from sqlalchemy import Connection, text

from app.settings import read_settings

_FOLDER = Path(__file__).resolve().parents[2] / "migrations" / "sql"


def run_sql_files(connection: Connection, revision: str, direction: str = "up") -> None:
    """Run the files of one revision inside the migration's transaction; those for going back are in `down/`.

    asyncpg prepares one statement at a time, so a file goes over the simple protocol, on the same connection.
    """
    settings = read_settings()
    folder = _FOLDER / revision if direction == "up" else _FOLDER / revision / "down"
    connection.execute(text("SELECT 1"))  # SQLAlchemy begins the transaction with the first statement
    for path in sorted(folder.glob("*.sql")):
        script = path.read_text(encoding="utf-8")
        script = script.replace("{{serving}}", f'"{settings.serving_role}"')
        script = script.replace("{{governance}}", f'"{settings.governance_role}"')

        async def run(driver: asyncpg.Connection, script: str = script) -> None:
            await driver.execute(script)

        dbapi_connection = connection.connection.dbapi_connection
        assert dbapi_connection is not None
        dbapi_connection.run_async(run)
