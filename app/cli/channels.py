"""`channel-gate channels`: the registry of channels, their states and tiers."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, time
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from app.channels import registry, tiers
from app.cli.errors import CommandError
from app.cli.governance import Actor, change_of, governed
from app.domain.canonical import instant_text, parse_instant
from app.domain.channel import ChannelKind, ChannelState
from app.policies.store import policy_at

app = typer.Typer(name="channels", help="Register channels, move them, give them tiers.", no_args_is_help=True)

_PIPE_WIDTH = 160
_PRINTABLE_LIMIT = 200


def moment_of(text: str) -> datetime:
    """A date or an instant of the command line."""
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC) if len(text) == 10 else parse_instant(text)
    except ValueError:
        raise typer.BadParameter("write a date as 2027-01-31 (its first moment, UTC) or 2027-01-31T08:00:00Z") from None


def _line(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > _PRINTABLE_LIMIT:
        raise typer.BadParameter(f"must be one line of 1 to {_PRINTABLE_LIMIT} characters")
    return text


Code = Annotated[str, typer.Argument(help="Code of the channel.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the audit log.", parser=_line)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command("add")
def add(
    *,
    code: Annotated[str, typer.Argument(help="Stable code: letters, digits, dots, hyphens, underscores.")],
    kind: Annotated[ChannelKind, typer.Option(help="How the channel reaches people.")],
    owner: Annotated[str, typer.Option(help="The team or person that answers for it.", parser=_line)],
    actor: Actor,
    name: Annotated[str | None, typer.Option(help="What people call it; the code, without it.", parser=_line)] = None,
    state: Annotated[ChannelState, typer.Option(help="Where it enters.")] = ChannelState.PROPOSED,
    agreement: Annotated[str | None, typer.Option(help="Id of the agreement.", parser=_line)] = None,
    service: Annotated[list[str] | None, typer.Option(help="What it does for us; again for more.")] = None,
    valid_from: Annotated[
        datetime | None, typer.Option(help="First moment of its validity; now, without it.", parser=moment_of)
    ] = None,
    valid_to: Annotated[
        datetime | None, typer.Option(help="First moment after its validity.", parser=moment_of)
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for the audit log.", parser=_line)] = None,
) -> None:
    """Put a channel on the list. It is proposed, and served once it is on probation or active."""
    registration = registry.Registration(
        code=code,
        name=name or code,
        kind=kind,
        owner=owner,
        state=state,
        agreement_id=agreement,
        services=tuple(_line(each) for each in service or ()),
        valid_from=valid_from or datetime.now(UTC),
        valid_to=valid_to,
    )
    channel = governed(lambda link: registry.register(link, registration, reason=reason, change=change_of(actor)))
    typer.echo(f"{channel.code} is registered as {channel.state.value}")


@app.command("list")
def list_all(
    kind: Annotated[ChannelKind | None, typer.Option(help="Only of this kind.")] = None,
    state: Annotated[list[ChannelState] | None, typer.Option(help="Only in this state; again for more.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only of this owner.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the channels in the order of their codes."""
    where = registry.ChannelFilter(kind=kind, states=frozenset(state or ()), owner=owner)
    now = datetime.now(UTC)

    async def work(connection: AsyncConnection) -> list[registry.RegisteredChannel]:
        found: list[registry.RegisteredChannel] = []
        while True:
            after = found[-1].code if found else None
            page = await registry.list_channels(connection, where, at=now, after_code=after)
            found.extend(page)
            if len(page) < registry.MAX_PAGE:
                return found

    _print(governed(work), now, as_json=as_json)


@app.command("state")
def set_state(
    code: Code,
    state: Annotated[ChannelState, typer.Argument(help="Where to move it.")],
    reason: ReasonOption,
    actor: Actor,
    void_open: Annotated[
        bool,
        typer.Option(
            "--void-open/--keep-open",
            help="Void what the channel has accepted and nobody has funded yet; for suspended and exited.",
        ),
    ] = False,
) -> None:
    """Move a channel to another state. Suspending holds for every decision that commits after it."""
    change = change_of(actor)
    if void_open:
        channel, voided = governed(lambda link: registry.kill(link, code, state, reason=reason, change=change))
        typer.echo(f"{channel.code} is {channel.state.value}; {voided} open reservations voided")
        return
    channel = governed(lambda link: registry.set_state(link, code, state, reason=reason, change=change))
    typer.echo(f"{channel.code} is {channel.state.value}")


@app.command("tier")
def tier(
    *,
    code: Code,
    actor: Actor,
    to_tier: Annotated[
        str | None, typer.Argument(metavar="[TIER]", help="The tier to give it. Without it: which tier it has.")
    ] = None,
    product: Annotated[str | None, typer.Option(help="For this product; every one, without it.")] = None,
    jurisdiction: Annotated[str | None, typer.Option(help="In this jurisdiction; every one, without it.")] = None,
    at: Annotated[
        datetime | None,
        typer.Option(help="Ask for this moment, or assign from it on; now, without it.", parser=moment_of),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="First moment at which the assignment does not hold.", parser=moment_of)
    ] = None,
    cause: Annotated[tiers.Cause, typer.Option(help="Why it gets the tier.")] = tiers.Cause.MANUAL,
    reason: Annotated[str | None, typer.Option(help="Why, for the audit log; needed to assign.", parser=_line)] = None,
) -> None:
    """Give a channel a tier, or say which tier it had."""
    scope = tiers.Scope(product=product, jurisdiction=jurisdiction)
    moment = at or datetime.now(UTC)
    if to_tier is None:
        typer.echo(governed(lambda link: _tier_at(link, code, scope, moment)))
        return
    if reason is None:
        raise typer.BadParameter("an assignment needs one", param_hint="--reason")
    assignment = governed(
        lambda link: tiers.assign(
            link,
            code,
            scope,
            tier=to_tier,
            valid_from=moment,
            valid_to=until,
            cause=cause,
            reason=reason,
            change=change_of(actor),
        )
    )
    end = "" if assignment.valid_to is None else f" until {instant_text(assignment.valid_to)}"
    typer.echo(f"{code} has the tier {assignment.tier} from {instant_text(assignment.valid_from)}{end}")


@app.command("expiring")
def expiring(
    within_days: Annotated[int, typer.Option(min=1, max=3650, help="How far to look ahead.")] = 60,
    as_json: AsJson = False,
) -> None:
    """List served channels whose validity ends soon, and those where it has ended. Ends with 0 either way."""
    now = datetime.now(UTC)
    found = governed(lambda link: registry.list_expiring(link, at=now, within_days=within_days))
    _print(list(found), now, as_json=as_json)


async def _tier_at(connection: AsyncConnection, code: str, scope: tiers.Scope, at: datetime) -> str:
    if await registry.find_channel(connection, code) is None:
        raise CommandError("no channel has this code")
    assignment = await tiers.assignment_at(connection, code, scope, at)
    if assignment is not None:
        return f"{assignment.tier} (assigned from {instant_text(assignment.valid_from)}: {assignment.cause.value})"
    policy = await policy_at(connection, at)
    if policy is None:
        return "none: nothing is assigned and no policy was active"
    return f"{policy.policy().default_tier} (the default of policy version {policy.version})"


def _print(found: list[registry.RegisteredChannel], now: datetime, *, as_json: bool) -> None:
    if as_json:
        for channel in found:
            typer.echo(orjson.dumps(channel.shown(now)).decode())
        return
    table = Table("code", "name", "kind", "state", "owner", "agreement", "valid to", "warning", box=None)
    for channel in found:
        table.add_row(
            channel.code,
            channel.name,
            channel.kind.value,
            channel.state.value,
            channel.owner,
            channel.agreement_id or "",
            "open" if channel.valid_to is None else f"{channel.valid_to:%Y-%m-%d %H:%M}Z",
            _warning(channel, now),
        )
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, markup=False, highlight=False).print(table)


def _warning(channel: registry.RegisteredChannel, now: datetime) -> str:
    if channel.expired(now):
        return "expired"
    days = channel.expires_within_days(now)
    return "" if days is None else f"within {days} days"
