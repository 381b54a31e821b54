"""`channel-gate replay`: decide the stored log again and compare every byte."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cli.errors import CommandError
from app.db.engine import make_engine
from app.db.tables import channel_aliases, channels, originators
from app.domain.canonical import parse_instant
from app.journal.reader import DecisionFilter, count_decisions
from app.screening.policy_library import PolicyLibrary
from app.screening.replay import MAX_FINDINGS, ReplayReport, Verdict, replay_log
from app.screening.replay_held import replay_resolutions
from app.settings import read_settings

app = typer.Typer()

_STATEMENT_TIMEOUT_SECONDS = 3600.0
_SHOWN_FINDINGS = 20


@app.command("replay")
def replay(
    *,
    since: Annotated[
        str | None, typer.Option("--from", help="Decided at or after: a date or an instant (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Decided before: a date or an instant (UTC).")] = None,
    channel: Annotated[str | None, typer.Option(help="Code or alias of a channel.")] = None,
    originator: Annotated[str | None, typer.Option(help="Code of an originator.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many, the oldest first.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Decide stored decisions again from their input, context and policy version, and compare what comes out.

    Ends with 1 where one comes out different or cannot be read. Erased ones are counted and are no fault.
    """
    begin, end = _instant("--from", since), _instant("--to", until)
    report, held = asyncio.run(_replay(begin, end, channel, originator, limit, show_progress=not as_json))
    if as_json:
        typer.echo(orjson.dumps(_document(report) | {"held": _document(held)}, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(report, "decisions")
        if held.total:
            _print(held, "resolutions of held decisions")
    if not (report.exact and held.exact):
        raise typer.Exit(1)


async def _replay(
    begin: datetime | None,
    end: datetime | None,
    channel: str | None,
    originator: str | None,
    limit: int | None,
    *,
    show_progress: bool,
) -> tuple[ReplayReport, ReplayReport]:
    """What came of the decisions, and of what held ones were resolved to: those where nothing but time selects."""
    engine = make_engine(
        read_settings().serving_url(), pool_size=1, statement_timeout_seconds=_STATEMENT_TIMEOUT_SECONDS
    )
    try:
        async with engine.connect() as connection:
            wanted = DecisionFilter(
                originator_id=await _originator_id(connection, originator),
                channel_code=await _channel(connection, channel),
                decided_from=begin,
                decided_to=end,
            )
            total = await count_decisions(connection, wanted)
            with Progress(
                TextColumn("replay"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                disable=not show_progress,
            ) as progress:
                task = progress.add_task("replay", total=total if limit is None else min(total, limit))
                report = await replay_log(
                    connection,
                    PolicyLibrary(),
                    wanted,
                    limit=limit,
                    on_progress=lambda done: progress.advance(task, done),
                )
            if channel is not None or originator is not None or limit is not None:
                return report, ReplayReport(counts=dict.fromkeys(Verdict, 0), findings=())
            held = await replay_resolutions(connection, PolicyLibrary(), decided_from=begin, decided_to=end)
            return report, held
    finally:
        await engine.dispose()


async def _originator_id(connection: AsyncConnection, code: str | None) -> int | None:
    if code is None:
        return None
    query = select(originators.c.originator_id).where(originators.c.code == code)
    found: int | None = (await connection.execute(query)).scalar_one_or_none()
    if found is None:
        raise CommandError(f"no originator has the code {code}")
    return found


async def _channel(connection: AsyncConnection, code: str | None) -> str | None:
    """The code, where it is known: a typing error must not pass for a log without differences."""
    if code is not None:
        known = select(channels.c.code).where(channels.c.code == code)
        alias = select(channel_aliases.c.alias).where(channel_aliases.c.alias == code)
        if (await connection.execute(known.union(alias))).first() is None:
            raise CommandError(f"no channel has the code or alias {code}")
    return code


def _instant(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_instant(f"{text}T00:00:00Z" if len(text) == len("2026-11-24") else text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{option} must be a date, or an instant with a UTC offset") from None


def _document(report: ReplayReport) -> dict[str, object]:
    return {
        "total": report.total,
        **{verdict.value: report.counts[verdict] for verdict in Verdict},
        "findings": [
            {"decision_id": str(found.decision_id), "verdict": found.verdict.value, "detail": found.detail}
            for found in report.findings
        ],
    }


def _print(report: ReplayReport, what: str) -> None:
    counts = ", ".join(f"{report.counts[verdict]:,} {verdict.value}" for verdict in Verdict)
    typer.echo(f"{report.total:,} {what} replayed: {counts}")
    for found in report.findings[:_SHOWN_FINDINGS]:
        typer.echo(f"  {found.decision_id} {found.verdict.value}: {found.detail}")
    named = min(len(report.findings), _SHOWN_FINDINGS)
    hidden = report.counts[Verdict.DIFFERENT] + report.counts[Verdict.UNREADABLE] - named
    if hidden:
        typer.echo(f"  and {hidden:,} more (--json names the first {MAX_FINDINGS:,})")
