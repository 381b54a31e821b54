"""Proves the invariants in one snapshot, and writes down what was found for the workers to report."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import invariant_runs, invariant_scope
from app.invariants.checks import INVARIANTS, Invariant

SHOWN = 20
"""How many violations of one invariant are named; all of them are counted."""
_RECORD = text("SELECT gate.invariants_record(:started_at, :since, CAST(:violations AS jsonb), :actor)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """What breaks an invariant: something that can be looked up, and in what way."""

    subject: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An invariant, how often it is broken, and the first of what breaks it."""

    invariant: Invariant
    count: int
    shown: tuple[Violation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestRun:
    """What was found last: how often each invariant is broken, by name."""

    ended_at: datetime
    violations: dict[str, int]


async def since_when(connection: AsyncConnection, *, days: int | None, now: datetime) -> datetime:
    """From when on the log is looked at: so many days back (None: all of it), and not before it can hold."""
    begins: datetime = (await connection.execute(select(invariant_scope.c.since))).scalar_one()
    earliest = datetime(2000, 1, 1, tzinfo=UTC)
    asked = earliest if days is None else now - timedelta(days=days)
    return max(begins.astimezone(UTC) if begins.year > earliest.year else earliest, asked)


async def verify(connection: AsyncConnection, *, since: datetime) -> AsyncIterator[Finding]:
    """Each invariant with what breaks it, as of one snapshot: `connection` reads at REPEATABLE READ."""
    for invariant in INVARIANTS:
        rows = (
            await connection.execute(text(invariant.query), {"since": since} if ":since" in invariant.query else {})
        ).all()
        shown = tuple(Violation(subject=row[0], detail=row[1]) for row in rows[:SHOWN])
        yield Finding(invariant=invariant, count=len(rows), shown=shown)


async def record(
    connection: AsyncConnection, findings: dict[str, int], *, started_at: datetime, since: datetime, actor: str
) -> None:
    """Write down what was found."""
    given = {"started_at": started_at, "since": since, "violations": json.dumps(findings), "actor": actor}
    await connection.execute(_RECORD, given)


async def latest_run(connection: AsyncConnection) -> LatestRun | None:
    """What was found last, where anybody has looked."""
    query = (
        select(invariant_runs.c.ended_at, invariant_runs.c.violations).order_by(invariant_runs.c.run_id.desc()).limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else LatestRun(ended_at=row.ended_at, violations=dict(row.violations))
