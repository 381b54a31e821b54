"""Connections: SQLAlchemy for reads and administration, bare asyncpg for the flush and for notifications.

A server that stands still (a frozen machine, a lost network) answers nothing and closes nothing, so every wait on one
is bounded here, on the client's side. A connection whose answer did not come is dropped at once: asking such a server
to cancel would be one more wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

APPLICATION_NAME = "channel-gate"

SQLALCHEMY_DRIVER = "postgresql+asyncpg://"
"""All that SQLAlchemy is told: the URL goes to asyncpg as `dsn`, which alone reads libpq's parameters (sslmode)."""

_CONNECT_TIMEOUT_SECONDS = 2.0
_PING_TIMEOUT_SECONDS = 1.0
_POOL_TIMEOUT_SECONDS = 2.0
_DISPOSE_TIMEOUT_SECONDS = 1.0
_COMMAND_MARGIN_SECONDS = 1.0
"""The server ends a statement that takes too long; the client gives up this much later, on a server that did not."""
_DROPPED_AFTER = (TimeoutError, asyncio.CancelledError)


def make_engine(
    url: str, *, pool_size: int, statement_timeout_seconds: float = 30.0, autocommit: bool = False
) -> AsyncEngine:
    """An engine of at most `pool_size` connections, opened when needed, checked before use.

    Each wait is bounded: for a free connection, for one to open, for its check, and for every command (0 means no
    bound on commands). What runs out of time raises TimeoutError or a SQLAlchemyError.

    `autocommit` makes each statement a transaction of its own. Administration needs it: a change takes the fence that
    decisions pass, and the server lets go of it with the statement, whatever then becomes of the client.
    """
    bounded = statement_timeout_seconds > 0
    engine = create_async_engine(
        SQLALCHEMY_DRIVER,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_SECONDS,
        connect_args={
            "dsn": url,
            "timeout": _CONNECT_TIMEOUT_SECONDS,
            "command_timeout": statement_timeout_seconds + _COMMAND_MARGIN_SECONDS if bounded else None,
            "server_settings": {
                "application_name": APPLICATION_NAME,
                "statement_timeout": str(int(statement_timeout_seconds * 1000)),
                "idle_in_transaction_session_timeout": "5000",
            },
        },
        **({"isolation_level": "AUTOCOMMIT"} if autocommit else {}),
    )
    event.listen(engine.sync_engine, "checkout", _check)
    event.listen(engine.sync_engine, "handle_error", _drop)
    return engine


async def dispose(engine: AsyncEngine) -> None:
    """Close an engine's connections in good order, or give up on a server that does not answer; the process ends."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISPOSE_TIMEOUT_SECONDS):
            await engine.dispose()


async def connect(
    url: str,
    *,
    purpose: str,
    timeout_seconds: float = 5.0,
    command_timeout_seconds: float | None = None,
) -> asyncpg.Connection:
    """A connection of its own, for what a pool would spoil: the flush, LISTEN, maintenance.

    A command that runs out of `command_timeout_seconds` is cancelled, so the flush has none: it is abandoned instead.

    Raises:
        OSError, asyncpg.PostgresError, TimeoutError: where the database is away.
    """
    return await asyncpg.connect(
        url,
        timeout=timeout_seconds,
        command_timeout=command_timeout_seconds,
        server_settings={"application_name": f"{APPLICATION_NAME} {purpose}", "synchronous_commit": "on"},
    )


def _check(dbapi_connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool replace a connection that no longer answers. The pool's own check would wait for ever.

    Raises:
        InvalidatePoolError: it does not; the pool makes a new one.
    """
    if not dbapi_connection.run_async(_answers):
        raise InvalidatePoolError


async def _answers(connection: asyncpg.Connection) -> bool:
    alive = False
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        try:
            async with asyncio.timeout(_PING_TIMEOUT_SECONDS):
                await connection.execute("SELECT 1")
            alive = True
        finally:
            if not alive:
                connection.terminate()
    return alive


def _drop(context: ExceptionContext) -> None:
    """Drop a connection whose answer nobody waits for any more, rather than roll back and close it in good order."""
    connection = context.connection
    if connection is None or connection.closed or connection.invalidated:
        return
    if isinstance(context.original_exception, _DROPPED_AFTER):
        driver = connection.connection.driver_connection
        if driver is not None:
            driver.terminate()
        context.is_disconnect = True
