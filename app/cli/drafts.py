"""`channel-gate drafts`: write, submit, read and approve drafts of policies. Signatures are made on this machine."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.channels import moment_of
from app.cli.errors import CommandError
from app.cli.governance import Actor, change_of, governed
from app.cli.policy import File, checked_file
from app.cli.policy_checks import write_document
from app.cli.signing import Person, Secret, sign
from app.domain.canonical import Json, digest, instant_text
from app.domain.compiler import compile_policy
from app.domain.lint import lint
from app.domain.lint_findings import Finding
from app.domain.policy_changes import differences
from app.domain.signing import Statement
from app.governance import drafts, reports
from app.governance.drafts import Draft, DraftContent, DraftState
from app.governance.signature import new_nonce
from app.journal.usage import field_usage
from app.policies.store import StoredPolicy, find_policy

app = typer.Typer(name="drafts", help="Write, submit and approve policies.", no_args_is_help=True)

DraftId = Annotated[int, typer.Argument(min=1, help="Number of the draft.")]
Note = Annotated[str, typer.Option(help="Why, for the audit log.")]
EffectiveFrom = Annotated[
    datetime | None, typer.Option(help="From when on it holds; at once when approved, without it.", parser=moment_of)
]


@app.command("create")
def create(
    file: File,
    actor: Actor,
    comment: Annotated[str | None, typer.Option(help="Why.")] = None,
    effective_from: EffectiveFrom = None,
) -> None:
    """Store a policy as a draft on top of the active version."""
    content = DraftContent.of(checked_file(file), comment=comment, effective_from=effective_from)
    draft = governed(lambda link: drafts.create_draft(link, content, contributor=None, change=change_of(actor)))
    typer.echo(f"draft {draft.draft_id}, based on version {draft.based_on}")


@app.command("rollback")
def rollback(
    *,
    version: Annotated[int, typer.Argument(min=1, help="The version to bring back.")],
    person: Person,
    secret: Secret,
    actor: Actor,
    comment: Annotated[str, typer.Option(help="Why.")],
) -> None:
    """Submit a draft that repeats an old version, signed; a second person approves it."""

    async def read(connection: AsyncConnection) -> StoredPolicy | None:
        return await find_policy(connection, version)

    stored = governed(read)
    if stored is None:
        raise CommandError(f"there is no version {version}")
    content = DraftContent.repeating(stored, comment=comment, effective_from=None)
    findings = _lint(stored.document())
    nonce = new_nonce()
    statement = Statement(act="submit", subject="policy", nonce=nonce, digest=content.digest)
    signature = sign(person, secret, statement)
    draft = governed(
        lambda link: drafts.create_submitted_draft(
            link,
            content,
            contributor=person,
            signature=signature,
            nonce=nonce,
            warnings=_codes(findings),
            findings=map(str, findings),
            change=change_of(actor),
        )
    )
    typer.echo(f"draft {draft.draft_id} repeats version {version} and is in review")
    _tell_findings(draft)


@app.command("list")
def list_all(
    state: Annotated[list[DraftState] | None, typer.Option(help="Only in this state; again for more.")] = None,
) -> None:
    """List the drafts, newest first."""
    for draft in governed(lambda link: drafts.list_drafts(link, states=frozenset(state or ()))):
        typer.echo(_line(draft))


@app.command("show")
def show(draft_id: DraftId) -> None:
    """Show a draft: what it changes, who signed, and the digests to sign for."""

    async def work(connection: AsyncConnection) -> None:
        draft = await _draft(connection, draft_id)
        base = None if draft.based_on is None else await find_policy(connection, draft.based_on)
        typer.echo(_line(draft))
        typer.echo(f"document {draft.digest.hex()}")
        _tell_findings(draft)
        for report in await reports.list_reports(connection, draft_id):
            stale = "" if report.document_digest == draft.digest else " (on an earlier document)"
            typer.echo(f"report   {report.report_digest.hex()}{stale}")
        for difference in () if base is None else differences(base.policy(), draft.policy()):
            typer.echo(f"  {difference}")

    governed(work)


@app.command("export")
def export(
    draft_id: DraftId,
    form: Annotated[Literal["json", "yaml"], typer.Option("--format", help="What to write.")] = "yaml",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; standard output if none.")] = None,
) -> None:
    """Write the document of a draft, to read, lint and try it before it is approved."""
    write_document(read_draft(draft_id).policy().document(), form, output)


@app.command("report")
def attach_report(
    draft_id: DraftId, file: Annotated[Path, typer.Argument(help="A what-if report on the draft.")], actor: Actor
) -> None:
    """Store a what-if report with a draft and print the digest that an approval names."""

    async def work(connection: AsyncConnection) -> str:
        draft = await _draft(connection, draft_id)
        stored = await reports.put_report(connection, draft, text, change=change_of(actor))
        return stored.report_digest.hex()

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: {type(error).__name__}") from None
    typer.echo(governed(work))


@app.command("submit")
def submit(draft_id: DraftId, person: Person, secret: Secret, actor: Actor) -> None:
    """Put a draft up for review, as its author. Errors of lint stand in the way."""

    draft = read_draft(draft_id)
    findings = _lint(draft.document())
    nonce = new_nonce()
    statement = Statement(act="submit", subject="policy", nonce=nonce, digest=draft.digest, moment=draft.effective_from)
    signature = sign(person, secret, statement)
    submitted = governed(
        lambda link: drafts.submit_draft(
            link,
            draft,
            signature=signature,
            nonce=nonce,
            warnings=_codes(findings),
            findings=map(str, findings),
            change=change_of(actor),
        )
    )
    typer.echo(f"draft {draft_id} is in review")
    _tell_findings(submitted)


@app.command("approve")
def approve(
    *,
    draft_id: DraftId,
    document: Annotated[str, typer.Option(help="Digest of the document that you have read (`drafts show`).")],
    person: Person,
    secret: Secret,
    actor: Actor,
    report: Annotated[str | None, typer.Option(help="Digest of the what-if report that you have read.")] = None,
    acknowledge: Annotated[list[str] | None, typer.Option(help="Code of a warning; again for each.")] = None,
    comment: Annotated[str | None, typer.Option(help="For the audit log.")] = None,
) -> None:
    """Approve a draft, as a second person. It is active at once where it names no later time."""

    async def work(connection: AsyncConnection) -> Draft:
        draft = await _draft(connection, draft_id)
        if digest(draft.text.encode()).hex() != document:
            raise CommandError("that is not the document of the draft")
        statement = Statement(
            act="approve",
            subject=f"draft/{draft_id}",
            nonce=draft.nonce or "",
            digest=draft.digest,
            report_digest=_digest(report),
            moment=draft.effective_from,
            warnings=tuple(acknowledge or ()),
        )
        return await drafts.approve_draft(
            connection,
            draft_id,
            signature=sign(person, secret, statement),
            document_digest=draft.digest,
            report_digest=_digest(report),
            acknowledged=acknowledge or (),
            comment=comment,
            change=change_of(actor),
        )

    typer.echo(_line(governed(work)))


@app.command("reject")
def reject(draft_id: DraftId, note: Note, actor: Actor) -> None:
    """Reject a draft that is in review."""
    _close(draft_id, DraftState.REJECTED, note, actor)


@app.command("withdraw")
def withdraw(draft_id: DraftId, note: Note, actor: Actor) -> None:
    """Withdraw a draft before it is active."""
    _close(draft_id, DraftState.WITHDRAWN, note, actor)


def _close(draft_id: int, state: DraftState, note: str, actor: str) -> None:
    change = change_of(actor)
    typer.echo(_line(governed(lambda link: drafts.close_draft(link, draft_id, state, note=note, change=change))))


def _lint(document: dict[str, Json]) -> tuple[Finding, ...]:
    """What lint warns of, with the applications of the last 30 days before it; its errors end the command."""
    usage = governed(field_usage, "REPEATABLE READ")
    findings = lint(compile_policy(document), carried=usage)
    errors = [finding for finding in findings if finding.severity == "error"]
    for finding in errors:
        typer.echo(f"{finding}", err=True)
    if errors:
        raise CommandError("lint: errors stand in the way of a review")
    return tuple(findings)


def _codes(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.code.value for finding in findings}


def _tell_findings(draft: Draft) -> None:
    for finding in draft.findings or draft.warnings:
        typer.echo(finding if finding.startswith("warning") else f"warning {finding}")


def read_draft(draft_id: int) -> Draft:
    """The draft, or the end of the command."""
    return governed(lambda link: _draft(link, draft_id))


async def _draft(connection: AsyncConnection, draft_id: int) -> Draft:
    found = await drafts.find_draft(connection, draft_id)
    if found is None:
        raise CommandError(f"there is no draft {draft_id}")
    return found


def _digest(text: str | None) -> bytes | None:
    try:
        return None if text is None else bytes.fromhex(text)
    except ValueError:
        raise typer.BadParameter("a digest is 64 hexadecimal digits") from None


def _line(draft: Draft) -> str:
    parts = [f"draft {draft.draft_id}", draft.state.value, draft.name]
    parts += [f"from {instant_text(draft.effective_from)}"] if draft.effective_from else []
    parts += [f"by {draft.submitted_by}"] if draft.submitted_by else []
    parts += [f"approved by {draft.approved_by}"] if draft.approved_by else []
    parts += [f"version {draft.version}"] if draft.version else []
    return ", ".join(parts) + (f": {draft.closing_note}" if draft.closing_note else "")
