"""`channel-gate invariants`: whether budgets, reservations, the outbox and the log agree with one another."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.cli.governance import Actor, governed
from app.invariants.verify import SHOWN, record, since_when, verify

app = typer.Typer(name="invariants", help="Prove that the gate's own figures agree.", no_args_is_help=True)


@app.command("verify")
def verify_all(
    actor: Actor,
    days: Annotated[
        int | None, typer.Option(min=1, help="How much of the log to read, back from now. Without it: all of it.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--record/--no-record", help="Write down what was found, for the metrics.")
    ] = True,
) -> None:
    """Compute what budgets, reservations, reviews and events must be from what is stored, and compare. Names what
    differs, and ends with 1 if anything does.
    """
    started_at = datetime.now(UTC)

    async def work(connection: AsyncConnection) -> tuple[datetime, dict[str, int]]:
        since = await since_when(connection, days=days, now=started_at)
        counts = {}
        async for finding in verify(connection, since=since):
            counts[finding.invariant.name] = finding.count
            for violation in finding.shown:
                typer.echo(f"{finding.invariant.name}: {violation.subject} {violation.detail}")
            if finding.count > SHOWN:
                typer.echo(f"{finding.invariant.name}: and {finding.count - SHOWN} more")
        return since, counts

    since, counts = governed(work, "REPEATABLE READ")
    if keep:
        governed(lambda link: record(link, counts, started_at=started_at, since=since, actor=actor))
    broken = [name for name, count in counts.items() if count]
    if broken:
        raise CommandError(f"{sum(counts.values())} violations of {', '.join(broken)}")
    typer.echo(f"{len(counts)} invariants hold since {since.date()}")
