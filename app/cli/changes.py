"""`channel-gate changes`: what takes a second person: moves of channels and tiers, budgets that let more through."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from app.channels import budgets, registry
from app.channels.tiers import Cause, Scope
from app.cli import budgets as budget_commands
from app.cli.channels import moment_of
from app.cli.errors import CommandError
from app.cli.governance import Actor, change_of, governed
from app.cli.signing import Person, Secret, sign
from app.domain.channel import ChannelState
from app.domain.signing import Statement
from app.governance import requests
from app.governance.requests import ChangeRequest, WantedChange
from app.governance.signature import new_nonce

app = typer.Typer(name="changes", help="Ask for and approve what takes two persons.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(min=1, help="Number of the change request.")]
Code = Annotated[str, typer.Argument(help="Code of the channel.")]
Reason = Annotated[str, typer.Option(help="Why.")]
Note = Annotated[str, typer.Option(help="Why, for the audit log.")]


@app.command("channel")
def ask_for_state(
    *, code: Code, state: ChannelState, reason: Reason, person: Person, secret: Secret, actor: Actor
) -> None:
    """Ask that a channel moves to another state."""

    async def work(connection: AsyncConnection) -> ChangeRequest:
        channel = await registry.find_channel(connection, code)
        if channel is None:
            raise CommandError("no channel has this code")
        wanted = requests.channel_move(code, before=channel.state, after=state)
        return await _request(connection, wanted, reason=reason, person=person, secret=secret, actor=actor)

    typer.echo(_line(governed(work)))


@app.command("tier")
def ask_for_tier(
    *,
    code: Code,
    tier: Annotated[str, typer.Argument(help="The tier to give it.")],
    reason: Reason,
    person: Person,
    secret: Secret,
    actor: Actor,
    product: Annotated[str | None, typer.Option(help="For this product; every one, without it.")] = None,
    jurisdiction: Annotated[str | None, typer.Option(help="In this jurisdiction; every one, without it.")] = None,
    until: Annotated[datetime | None, typer.Option(help="When an override ends.", parser=moment_of)] = None,
    cause: Annotated[
        Cause, typer.Option(help="manual is an override and has an end; others have none.")
    ] = Cause.MANUAL,
) -> None:
    """Ask that a channel gets a tier, from the approval on. What it had before goes on after an override."""
    wanted = requests.tier_change(
        code, Scope(product=product, jurisdiction=jurisdiction), tier=tier, cause=cause, valid_to=until
    )
    typer.echo(
        _line(governed(lambda link: _request(link, wanted, reason=reason, person=person, secret=secret, actor=actor)))
    )


@app.command("budget")
def ask_for_budget(
    *,
    channel: budget_commands.Channel,
    period: budget_commands.PeriodArgument,
    measure: budget_commands.MeasureArgument,
    limit: budget_commands.LimitArgument,
    reason: Reason,
    person: Person,
    secret: Secret,
    actor: Actor,
    tier: budget_commands.TierOption = None,
    product: budget_commands.ProductOption = None,
    jurisdiction: budget_commands.JurisdictionOption = None,
    currency: budget_commands.CurrencyOption = None,
    overbooking: budget_commands.OverbookingOption = budgets.FULL_PCT,
    loss_rate: budget_commands.LossRateOption = None,
    growth: budget_commands.GrowthOption = None,
    floor: budget_commands.FloorOption = None,
    time_zone: budget_commands.ZoneOption = "UTC",
) -> None:
    """Ask that a budget is opened or gets these limits."""
    wanted = requests.budget_change(
        budget_commands.scope_of(
            channel, period, measure, tier=tier, product=product, jurisdiction=jurisdiction, currency=currency
        ),
        budget_commands.limits_of(limit, overbooking=overbooking, loss_rate=loss_rate, growth=growth, floor=floor),
        time_zone=time_zone,
    )
    typer.echo(
        _line(governed(lambda link: _request(link, wanted, reason=reason, person=person, secret=secret, actor=actor)))
    )


@app.command("budget-end")
def ask_for_end_of_budget(
    *,
    budget: Annotated[int, typer.Argument(min=1, help="Number of the budget.")],
    reason: Reason,
    person: Person,
    secret: Secret,
    actor: Actor,
) -> None:
    """Ask that a budget ends."""

    async def work(connection: AsyncConnection) -> ChangeRequest:
        use = await budgets.find_use(connection, budget, at=datetime.now(UTC))
        if use is None or use.budget.ended_at is not None:
            raise CommandError("there is no such open budget")
        wanted = requests.budget_end(use.budget.scope.channel, budget)
        return await _request(connection, wanted, reason=reason, person=person, secret=secret, actor=actor)

    typer.echo(_line(governed(work)))


@app.command("list")
def list_all(
    state: Annotated[str | None, typer.Option(help="pending, applied, rejected or withdrawn.")] = None,
) -> None:
    """List the requests, newest first."""
    for each in governed(lambda link: requests.list_changes(link, state=state)):
        typer.echo(_line(each))


@app.command("approve")
def approve(
    *,
    number: Number,
    payload: Annotated[str, typer.Option(help="Digest of the payload that you have read (`changes list`).")],
    person: Person,
    secret: Secret,
    actor: Actor,
) -> None:
    """Approve a request, as a second person. The change is made at once."""

    async def work(connection: AsyncConnection) -> ChangeRequest:
        found = await requests.find_change(connection, number)
        if found is None:
            raise CommandError(f"there is no change request {number}")
        wanted = WantedChange(kind=found.kind, subject=found.subject, payload=found.payload)
        if wanted.digest.hex() != payload:
            raise CommandError("that is not what the request asks for")
        statement = Statement(act="approve", subject=f"request/{number}", nonce=found.nonce, digest=wanted.digest)
        return await requests.approve_change(
            connection,
            number,
            signature=sign(person, secret, statement),
            payload_digest=wanted.digest,
            comment=None,
            change=change_of(actor),
        )

    typer.echo(_line(governed(work)))


@app.command("reject")
def reject(number: Number, note: Note, actor: Actor) -> None:
    """Reject a pending request."""
    change = change_of(actor)
    closed = governed(lambda link: requests.close_change(link, number, "rejected", note=note, change=change))
    typer.echo(_line(closed))


@app.command("withdraw")
def withdraw(number: Number, note: Note, actor: Actor) -> None:
    """Take a pending request back."""
    change = change_of(actor)
    closed = governed(lambda link: requests.close_change(link, number, "withdrawn", note=note, change=change))
    typer.echo(_line(closed))


async def _request(
    connection: AsyncConnection, wanted: WantedChange, *, reason: str, person: str, secret: str, actor: str
) -> ChangeRequest:
    nonce = new_nonce()
    statement = Statement(act="request", subject=wanted.signed_subject, nonce=nonce, digest=wanted.digest)
    return await requests.request_change(
        connection,
        wanted,
        reason=reason,
        signature=sign(person, secret, statement),
        nonce=nonce,
        change=change_of(actor),
    )


def _line(asked: ChangeRequest) -> str:
    return (
        f"change {asked.change_id}, {asked.state}, {asked.kind} {asked.subject} {asked.payload}"
        f" by {asked.requested_by}: {asked.reason} ({asked.digest.hex()})"
    )
