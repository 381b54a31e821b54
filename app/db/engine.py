"""Connections: SQLAlchemy for reads and administration, bare asyncpg for the flush and for notifications."""

from __future__ import annotations

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

APPLICATION_NAME = "channel-gate"


SQLALCHEMY_DRIVER = "postgresql+asyncpg://"
"""All that SQLAlchemy is told: the URL goes to asyncpg as `dsn`, which alone reads libpq's parameters (sslmode)."""


def make_engine(url: str, *, pool_size: int, statement_timeout_seconds: float = 30.0) -> AsyncEngine:
    """An engine of at most `pool_size` connections, opened when needed, checked before use."""
    return create_async_engine(
        SQLALCHEMY_DRIVER,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=5.0,
        connect_args={
            "dsn": url,
            "timeout": 5.0,
            "server_settings": {
                "application_name": APPLICATION_NAME,
                "statement_timeout": str(int(statement_timeout_seconds * 1000)),
                # An admin change holds the fence that decisions pass: a client that hangs must not hold it for long.
                "idle_in_transaction_session_timeout": "5000",
            },
        },
    )


async def connect(url: str, *, purpose: str, timeout_seconds: float = 5.0) -> asyncpg.Connection:
    """A connection of its own, for what a pool would spoil: the flush, LISTEN, maintenance.

    Raises:
        OSError, asyncpg.PostgresError, TimeoutError: where the database is away.
    """
    return await asyncpg.connect(
        url,
        timeout=timeout_seconds,
        server_settings={"application_name": f"{APPLICATION_NAME} {purpose}", "synchronous_commit": "on"},
    )
