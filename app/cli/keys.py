"""`channel-gate keys`: originators, and the API keys that act for them."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import asyncpg
import orjson
import typer
from rich.console import Console
from rich.table import Table

from app.cli.errors import CommandError
from app.cli.governance import Actor, change_of
from app.db.engine import connect
from app.identities import keys as api_keys
from app.identities.principal import Role
from app.settings import read_settings

Result = TypeVar("Result")

app = typer.Typer(name="keys", help="Make, list, rotate and revoke API keys.", no_args_is_help=True)
originators = typer.Typer(help="Register who sends applications.", no_args_is_help=True)
app.add_typer(originators, name="originator")

_DURATION = re.compile(r"([1-9][0-9]{0,4})([mhd])").fullmatch
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _duration(text: str) -> timedelta:
    match = _DURATION(text)
    if match is None:
        raise typer.BadParameter("write a number and m, h or d, such as 90d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


ExpiresIn = Annotated[str, typer.Option(help="How long the key is valid, such as 90d, or `never`.")]


@originators.command("add")
def add_originator(
    code: Annotated[str, typer.Argument(help="Stable code: letters, digits, dots, hyphens, underscores.")],
    actor: Actor,
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
) -> None:
    """Register an originator. Does nothing where the code is registered already."""
    number = _run(
        lambda connection: api_keys.register_originator(
            connection, code=code, name=name or code, change=change_of(actor)
        )
    )
    typer.echo(f"originator {code} has the id {number}")


@app.command("create")
def create(
    *,
    label: Annotated[str, typer.Option(help="What the key is for.")],
    role: Annotated[list[Role], typer.Option(help="What the key may do; give it again for more.")],
    actor: Actor,
    originator: Annotated[str | None, typer.Option(help="Code of the originator that it acts for.")] = None,
    person: Annotated[str | None, typer.Option(help="Id of the person that holds it; not for systems.")] = None,
    rate_limit: Annotated[int | None, typer.Option(min=1, help="Requests per second over all workers.")] = None,
    expires_in: ExpiresIn = "365d",
) -> None:
    """Make a key and print it. It is shown this once: only its hash is stored."""
    issued = _run(
        lambda connection: api_keys.issue(
            connection,
            label=label,
            roles=role,
            originator_code=originator,
            person_id=person,
            rate_limit_per_second=rate_limit,
            expires_at=_expiry(expires_in),
            change=change_of(actor),
        )
    )
    _show_once(issued)


@app.command("list")
def list_all(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    ended: Annotated[bool, typer.Option("--ended", help="Also keys that have ended.")] = False,
) -> None:
    """List the keys, without their secrets."""
    now = datetime.now(UTC)
    records = [
        record for record in _run(api_keys.list_keys) if ended or record.state(now) not in {"revoked", "expired"}
    ]
    if as_json:
        for record in records:
            typer.echo(orjson.dumps({**_fields(record), "state": record.state(now)}))
        return
    columns = ("key id", "state", "originator", "label", "roles", "per second", "made", "ends")
    table = Table(*columns, box=None)
    for record in records:
        ends = min((at for at in (record.expires_at, record.revoked_at) if at is not None), default=None)
        table.add_row(
            record.key_id,
            record.state(now),
            record.originator_code or "",
            record.label,
            " ".join(record.roles),
            str(record.rate_limit_per_second or ""),
            f"{record.created_at:%Y-%m-%d}",
            f"{ends:%Y-%m-%d %H:%M}Z" if ends else "never",
        )
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)


@app.command("rotate")
def rotate(
    key_id: Annotated[str, typer.Argument(help="The key to replace.")],
    actor: Actor,
    overlap: Annotated[str, typer.Option(help="How long the old key goes on, such as 24h.")] = "24h",
    expires_in: Annotated[
        str | None, typer.Option(help="How long the new key is valid. Without it: as long as the old one was made for.")
    ] = None,
) -> None:
    """Make a key with the same rights and let the old one end after the overlap."""
    now = datetime.now(UTC)
    remaining = _duration(overlap)
    issued = _run(
        lambda connection: api_keys.rotate(
            connection,
            key_id,
            overlap=remaining,
            now=now,
            expires_at=_expiry(expires_in) if expires_in else None,
            change=change_of(actor),
        )
    )
    _show_once(issued)
    typer.echo(f"{key_id} ends at {now + remaining:%Y-%m-%d %H:%M}Z.", err=True)


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key to end.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
    actor: Actor,
    after: Annotated[str | None, typer.Option(help="End it later, such as 1h. Without it: now.")] = None,
) -> None:
    """End a key. A revocation is never taken back."""
    at = datetime.now(UTC) + (_duration(after) if after else timedelta(0))
    ended = _run(lambda connection: api_keys.revoke(connection, key_id, at=at, reason=reason, change=change_of(actor)))
    typer.echo(f"{key_id} ends at {at:%Y-%m-%d %H:%M}Z" if ended else f"{key_id} had ended or ends earlier already")


def _run(work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
    url = read_settings().governance_url()

    async def with_connection() -> Result:
        connection = await connect(url, purpose="keys")
        try:
            return await work(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(with_connection())
    except api_keys.KeyChangeError as error:
        raise CommandError(str(error)) from None


def _expiry(text: str) -> datetime | None:
    return None if text == "never" else datetime.now(UTC) + _duration(text)


def _show_once(issued: api_keys.IssuedKey) -> None:
    typer.echo(issued.text)
    typer.echo("Keep it now: it is not shown again.", err=True)


def _fields(record: api_keys.KeyRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in api_keys.KeyRecord.__slots__}
