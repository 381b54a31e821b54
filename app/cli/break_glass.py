"""`channel-gate break-glass`: change the active policy without a second person, for a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.cli.governance import Actor, change_of, governed
from app.cli.signing import Person, Secret, sign
from app.domain.canonical import instant_text
from app.domain.signing import Statement
from app.governance import break_glass, drafts
from app.governance.break_glass import BreakGlass
from app.governance.drafts import DraftContent
from app.governance.signature import new_nonce
from app.policies.store import find_policy

app = typer.Typer(name="break-glass", help="Change the policy in an emergency.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(min=1, help="Number of the break-glass.")]


@app.command("open")
def open_(
    *,
    person: Person,
    secret: Secret,
    actor: Actor,
    reason: Annotated[str, typer.Option(help="Why it cannot wait for a second person.")],
    version: Annotated[int | None, typer.Option(min=1, help="Bring this version back.")] = None,
    draft: Annotated[int | None, typer.Option(min=1, help="Put this draft into effect.")] = None,
    hours: Annotated[int, typer.Option(min=1, max=168, help="When it ends, unless confirmed before.")] = 8,
) -> None:
    """Change the active policy now, alone. It is undone when its time is over and nobody has confirmed it."""
    if (version is None) == (draft is None):
        raise typer.BadParameter("give a version or a draft")

    async def work(connection: AsyncConnection) -> BreakGlass:
        content = await _content(connection, version, draft)
        nonce, end = new_nonce(), datetime.now(UTC) + timedelta(hours=hours)
        statement = Statement(act="break-glass", subject="policy", nonce=nonce, digest=content.digest, moment=end)
        return await break_glass.open_break_glass(
            connection,
            content,
            signature=sign(person, secret, statement),
            nonce=nonce,
            expires_at=end,
            expected_active=None,
            reason=reason,
            change=change_of(actor),
        )

    opened = governed(work)
    typer.echo(
        f"break-glass {opened.break_glass_id}: version {opened.version} is active"
        f" until {instant_text(opened.expires_at)}, then version {opened.returns_to} again"
    )


@app.command("confirm")
def confirm(number: Number, person: Person, secret: Secret, actor: Actor) -> None:
    """Let it stand, as a second person."""

    async def work(connection: AsyncConnection) -> BreakGlass:
        found = await break_glass.find_break_glass(connection, number)
        if found is None:
            raise CommandError(f"there is no break-glass {number}")
        statement = Statement(act="confirm", subject=f"break-glass/{number}", nonce=found.nonce, digest=found.digest)
        return await break_glass.confirm_break_glass(
            connection,
            number,
            signature=sign(person, secret, statement),
            document_digest=found.digest,
            comment=None,
            change=change_of(actor),
        )

    typer.echo(f"break-glass {number} is {governed(work).state}")


@app.command("end")
def end(number: Number, reason: Annotated[str, typer.Option(help="Why, for the audit log.")], actor: Actor) -> None:
    """Bring the policy before back now."""
    ended = governed(lambda link: break_glass.end_break_glass(link, number, reason=reason, change=change_of(actor)))
    typer.echo(f"break-glass {number} is {ended.state}")


@app.command("list")
def list_all() -> None:
    """List them, newest first."""
    for each in governed(break_glass.list_break_glass):
        typer.echo(
            f"{each.break_glass_id}, {each.state}, version {each.version} by {each.person_id} at"
            f" {instant_text(each.opened_at)} until {instant_text(each.expires_at)}: {each.reason}"
        )


async def _content(connection: AsyncConnection, version: int | None, draft_id: int | None) -> DraftContent:
    if version is not None:
        stored = await find_policy(connection, version)
        if stored is None:
            raise CommandError(f"there is no version {version}")
        return DraftContent.repeating(stored, comment=None, effective_from=None)
    draft = await drafts.find_draft(connection, draft_id or 0)
    if draft is None:
        raise CommandError(f"there is no draft {draft_id}")
    return DraftContent(name=draft.name, text=draft.text)
