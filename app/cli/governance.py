"""How commands reach the database as the governance login, and as the owner."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, TypeVar

import typer
import uuid_utils
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.db.changes import Change, RefusedChangeError
from app.db.engine import make_engine
from app.settings import read_settings

Result = TypeVar("Result")


def default_actor() -> str:
    """The person at the terminal, as far as the system knows."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user may have no name
        return f"cli:{os.getuid()}"


Actor = Annotated[str, typer.Option(default_factory=default_actor, help="Who the audit log names for the change.")]


def change_of(actor: str) -> Change:
    """A change that `actor` asks for, under an id of its own."""
    return Change(actor=actor, request_id=str(uuid_utils.uuid7()))


def governed(
    work: Callable[[AsyncConnection], Awaitable[Result]],
    isolation_level: Literal["AUTOCOMMIT", "REPEATABLE READ"] = "AUTOCOMMIT",
) -> Result:
    """Run `work` on a connection of the governance login, without a time limit: a day of the log may take a while.

    Raises:
        CommandError: where the database refuses what is asked for.
    """
    return _run(read_settings().governance_url(), work, isolation_level)


def owned(work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
    """Run `work` on a connection of the owner, for what no login of the service may do.

    Raises:
        CommandError: where the database refuses what is asked for.
    """
    return _run(read_settings().owner_url(), work, "AUTOCOMMIT")


def _run(
    url: str,
    work: Callable[[AsyncConnection], Awaitable[Result]],
    isolation_level: Literal["AUTOCOMMIT", "REPEATABLE READ"],
) -> Result:
    async def with_connection() -> Result:
        engine = make_engine(url, pool_size=1, statement_timeout_seconds=0)
        try:
            async with engine.connect() as connection:
                return await work(await connection.execution_options(isolation_level=isolation_level))
        finally:
            await engine.dispose()

    try:
        return asyncio.run(with_connection())
    except RefusedChangeError as refusal:
        raise CommandError(str(refusal)) from None
