"""`channel-gate journal`: the daily digest of the decision log, and whether the log still is what it was."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.cli.governance import Actor, change_of, governed
from app.journal.digest import check_days, digest_days

app = typer.Typer(name="journal", help="Digest the decision log and compare it with its digests.", no_args_is_help=True)

_DAY_FORMATS = ["%Y-%m-%d"]


@app.command("digest")
def digest(
    actor: Actor,
    day: Annotated[
        datetime | None,
        typer.Option(formats=_DAY_FORMATS, help="Digest up to this day (UTC). Without it: every day that is over."),
    ] = None,
) -> None:
    """Digest the days that are due, oldest first. Running it again does nothing."""

    async def work(connection: AsyncConnection) -> int:
        made = 0
        async for each in digest_days(connection, change_of(actor), until=_date(day)):
            typer.echo(f"{each.day} {each.retention_class:8} {each.decisions:>9} decisions {each.digest.hex()}")
            made += 1
        return made

    if governed(work) == 0:
        typer.echo("nothing is due")


@app.command("verify")
def verify(
    first: Annotated[
        datetime | None, typer.Option("--from", formats=_DAY_FORMATS, help="First day (UTC). Without it: the oldest.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=_DAY_FORMATS, help="Last day (UTC). Without it: the newest.")
    ] = None,
) -> None:
    """Compare the log with its digests. Names each day and class that differs, and ends with 1 if one does."""

    async def work(connection: AsyncConnection) -> tuple[int, int, int]:
        days = decisions = faults = 0
        async for check in check_days(connection, first=_date(first), last=_date(last)):
            days += 1
            decisions += 0 if check.dropped else check.decisions
            faults += len(check.faults)
            for fault in check.faults:
                typer.echo(str(fault))
        return days, decisions, faults

    days, decisions, faults = governed(work)
    if faults:
        raise CommandError(f"the log is not what it was: {faults} differences")
    typer.echo(f"{days} digests and {decisions} decisions are what they were")


def _date(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()
