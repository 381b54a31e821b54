"""`channel-gate retention`: months of the log ahead, months past their time, legal holds, and erasure of a person."""

from __future__ import annotations

import sys
from typing import Annotated
from uuid import UUID

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.cli.governance import Actor, change_of, governed
from app.retention.erase import Erasure, LawBasis, erase_person
from app.retention.holds import HoldSubject, LegalHold, list_holds, place_hold, release_hold
from app.retention.retain import (
    MonthResult,
    Periods,
    deidentify_outcomes,
    drop_months,
    due_months,
    ensure_partitions,
    preview_month,
    sweep_quarantine,
)
from app.settings import Settings, read_settings

app = typer.Typer(name="retention", help="Keep decisions as long as the law says, and no longer.", no_args_is_help=True)
hold_app = typer.Typer(name="hold", help="Legal holds: what must not be removed or blanked.", no_args_is_help=True)
app.add_typer(hold_app)

Reason = Annotated[str, typer.Option(help="Why, for the audit log. It must not name the person.")]
ApplicantHelp = "The person's applicant_ref; `-` reads it from standard input, so that no process list shows it."


@app.command("partitions")
def partitions(
    ahead: Annotated[
        int | None, typer.Option(min=0, max=24, help="Months ahead; GATE_PARTITIONS_AHEAD_MONTHS otherwise.")
    ] = None,
) -> None:
    """Lay out the months of the log that lie ahead. Running it again does nothing."""
    months_ahead = read_settings().partitions_ahead_months if ahead is None else ahead

    async def work(connection: AsyncConnection) -> tuple[int, int]:
        return await ensure_partitions(connection, months_ahead=months_ahead)

    made, now_ahead = governed(work)
    typer.echo(f"made {made} partitions; {now_ahead} months lie ahead")


@app.command("drop")
def drop(
    actor: Actor,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
) -> None:
    """Drop the months that are past their time as a whole; keep what is on hold or was closed late."""
    periods = _periods(read_settings())
    change = change_of(actor)

    async def work(connection: AsyncConnection) -> tuple[int, int]:
        months = refused = 0
        if dry_run:
            for due in await due_months(connection, periods):
                months += 1
                _say(await preview_month(connection, due), "would remove")
            return months, 0
        async for result in drop_months(connection, periods, change=change):
            months += 1
            refused += result.refusal is not None
            _say(result, "removed")
        quarantined = await sweep_quarantine(connection, change=change)
        if quarantined:
            typer.echo(f"quarantine: removed {quarantined}")
        applications, loans = await deidentify_outcomes(connection, periods, change=change)
        if applications or loans:
            typer.echo(f"outcomes: took the names from {applications} applications and {loans} loans of the book")
        return months, refused

    months, refused = governed(work)
    if refused:
        raise CommandError(f"{refused} of {months} months could not be dropped")
    if months == 0:
        typer.echo("no month is past its time")


@app.command("erase")
def erase(
    applicant_ref: Annotated[str, typer.Option(help=ApplicantHelp)],
    reason: Reason,
    actor: Actor,
    basis: Annotated[
        LawBasis | None,
        typer.Option(
            help="Why it may be blanked within its retention period: no law prescribes to keep it (no_duty), it was "
            "processed unlawfully (unlawful), or it was ordered (ordered). Without it: only what is past its period."
        ),
    ] = None,
) -> None:
    """Blank what the log holds about a person. Ends with 1 where a hold or the law keeps some of it."""
    person = _person(applicant_ref)
    periods = _periods(read_settings())

    async def work(connection: AsyncConnection) -> Erasure:
        return await erase_person(
            connection, person, basis=basis, periods=periods, reason=reason, change=change_of(actor)
        )

    done = governed(work)
    loans = f"; {done.loans} loans of the book have forgotten whose they were" if done.loans else ""
    typer.echo(f"blanked {done.erased} decisions and {done.quarantined} quarantined inputs{loans}")
    if not done.complete:
        raise CommandError(
            f"{done.on_hold} decisions are under legal hold and {done.within_period} within their retention period"
        )


@hold_app.command("place")
def place(
    reason: Reason,
    actor: Actor,
    applicant_ref: Annotated[str | None, typer.Option(help=ApplicantHelp)] = None,
    decision: Annotated[UUID | None, typer.Option(help="The id of one decision.")] = None,
    channel: Annotated[str | None, typer.Option(help="The code of a channel: all its decisions.")] = None,
) -> None:
    """Place a hold on a person, a decision or a channel, and print its number."""
    subject = HoldSubject(
        applicant_ref=None if applicant_ref is None else _person(applicant_ref),
        decision_id=decision,
        channel_code=channel,
    )

    async def work(connection: AsyncConnection) -> int:
        return await place_hold(connection, subject, reason=reason, change=change_of(actor))

    typer.echo(f"hold {governed(work)}")


@hold_app.command("release")
def release(
    hold_id: Annotated[int, typer.Argument(help="The number of the hold.")], reason: Reason, actor: Actor
) -> None:
    """End a hold. What only it kept goes with the next `retention drop`."""

    async def work(connection: AsyncConnection) -> None:
        await release_hold(connection, hold_id, reason=reason, change=change_of(actor))

    governed(work)
    typer.echo(f"hold {hold_id} is released")


@hold_app.command("list")
def list_all(
    released: Annotated[bool, typer.Option("--released", help="Also those that have ended.")] = False,
) -> None:
    """List the holds, one JSON object a line."""

    async def work(connection: AsyncConnection) -> tuple[LegalHold, ...]:
        return await list_holds(connection, released=released)

    for hold in governed(work):
        typer.echo(orjson.dumps(hold).decode())


def _say(result: MonthResult, verb: str) -> None:
    if result.refusal is not None:
        typer.echo(f"{result.due}: {result.refusal}", err=True)
    else:
        typer.echo(f"{result.due}: {verb} {result.removed} decisions, keeps {result.kept}")


def _periods(settings: Settings) -> Periods:
    return Periods(
        consumer_months=settings.retention_months_consumer, business_months=settings.retention_months_business
    )


def _person(given: str) -> str:
    person = sys.stdin.readline().strip() if given == "-" else given
    if not person:
        raise typer.BadParameter("the applicant_ref is empty")
    return person
