"""Facts as they are stored and found again: booking them, and which applications wait or contradict themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, Row, any_, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import refusals
from app.db.tables import application_outcomes, channels, originators, outcome_events
from app.outcomes.payload import EventRow
from app.outcomes.state import Flag, Status

MAX_EVENTS = 1_000
"""The most events that one call books: its applications are locked together."""


class Result(StrEnum):
    """What became of a reported event."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    """Exactly this was known already."""
    SUPERSEDED = "superseded"
    """It is kept, and a later version of the fact counts."""
    WAITING = "waiting"
    """No application is known yet that it could speak of."""
    FLAGGED = "flagged"
    """It is booked, and the facts of its application contradict each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What became of one event, and where its application stands after all events of the call."""

    result: Result
    status: Status
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the facts about one application add up to. Amounts in minor units of `currency`, that of the decision."""

    subject_id: int
    originator: str
    application_id: str | None
    first_heard_at: datetime
    decision_id: UUID | None
    channel_code: str | None
    currency: str | None
    accepted_amount: int | None
    status: str
    funded_on: date | None
    funded_amount: int | None
    outstanding: int
    first_due_on: date | None
    first_paid_on: date | None
    performance_on: date | None
    days_past_due: int | None
    worst_days_past_due: int | None
    closed_on: date | None
    flags: tuple[str, ...]


_POST = text("SELECT n, result, status, flags FROM gate.outcomes_post(:originator_id, CAST(:events AS jsonb), :by)")
_WAKE = text("SELECT reached, woken FROM gate.outcomes_wake(:after, :limit)")


async def book_events(
    connection: AsyncConnection, *, originator_id: int, events: Sequence[EventRow], by: str
) -> tuple[Booked, ...]:
    """Book events (1 to `MAX_EVENTS`) in one statement: all of them or, where the database is away, none.

    Raises:
        RefusedChangeError: where a value cannot be stored.
    """
    given = {
        "originator_id": originator_id,
        "events": orjson.dumps([event.document() for event in events]).decode(),
        "by": by,
    }
    with refusals():
        rows = (await connection.execute(_POST, given)).all()
    return tuple(
        Booked(result=Result(row.result), status=Status(row.status), flags=tuple(Flag(flag) for flag in row.flags))
        for row in rows
    )


async def wake(connection: AsyncConnection, *, after: int, limit: int) -> tuple[int | None, int]:
    """Give waiting facts their applications, as far as those have come: where it came to (None: the end), how many."""
    row = (await connection.execute(_WAKE, {"after": after, "limit": limit})).one()
    return row.reached, row.woken


async def waiting(
    connection: AsyncConnection, *, originator_id: int | None, after: int | None, limit: int
) -> Sequence[Outcome]:
    """Applications that facts speak of and the log does not know, in the order in which they were first heard of."""
    return await _listed(connection, application_outcomes.c.decision_id.is_(None), originator_id, after, limit)


async def contradictions(
    connection: AsyncConnection, *, originator_id: int | None, flag: str | None, after: int | None, limit: int
) -> Sequence[Outcome]:
    """Applications whose facts contradict each other or the decision; those with `flag`, where one is given."""
    flags = application_outcomes.c.flags
    condition = flags != text("'{}'") if flag is None else (flags != text("'{}'")) & (literal(flag) == any_(flags))
    return await _listed(connection, condition, originator_id, after, limit)


async def find_outcome(connection: AsyncConnection, *, originator_id: int, application_id: str) -> Outcome | None:
    """What the facts about an application add up to; None where nobody has reported any."""
    query = _OUTCOMES.where(
        application_outcomes.c.originator_id == originator_id, application_outcomes.c.application_id == application_id
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _outcome(row)


async def events_of(connection: AsyncConnection, subject_id: int) -> Sequence[Row[Any]]:
    """Every version of every fact about an application, in the order of their keys."""
    query = (
        select(outcome_events)
        .where(outcome_events.c.subject_id == subject_id)
        .order_by(*(outcome_events.c[name] for name in ("kind", "discriminator", "correction", "digest")))
    )
    return (await connection.execute(query)).all()


async def count_flags(connection: AsyncConnection) -> dict[str, int]:
    """How many applications have each contradiction, those with none left out."""
    flag = func.unnest(application_outcomes.c.flags).label("flag")
    flagged = select(flag).where(application_outcomes.c.flags != text("'{}'")).subquery()
    rows = await connection.execute(select(flagged.c.flag, func.count()).group_by(flagged.c.flag))
    return {row[0]: row[1] for row in rows}


async def oldest_waiting(connection: AsyncConnection) -> tuple[int, datetime | None]:
    """How many applications are waited for, and since when the longest."""
    query = select(func.count(), func.min(application_outcomes.c.first_heard_at)).where(
        application_outcomes.c.decision_id.is_(None)
    )
    count, since = (await connection.execute(query)).one()
    return count, since


_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(
    application_outcomes.c[name] for name in Outcome.__dataclass_fields__ if name not in {"originator", "channel_code"}
)
_OUTCOMES = (
    select(*_COLUMNS, originators.c.code.label("originator"), channels.c.code.label("channel_code"))
    .join_from(application_outcomes, originators)
    .outerjoin(channels, channels.c.channel_id == application_outcomes.c.channel_id)
)


async def _listed(
    connection: AsyncConnection,
    condition: ColumnElement[bool],
    originator_id: int | None,
    after: int | None,
    limit: int,
) -> Sequence[Outcome]:
    query = _OUTCOMES.where(condition).order_by(application_outcomes.c.subject_id).limit(limit)
    if originator_id is not None:
        query = query.where(application_outcomes.c.originator_id == originator_id)
    if after is not None:
        query = query.where(application_outcomes.c.subject_id > after)
    return [_outcome(row) for row in await connection.execute(query)]


def _outcome(row: Row[*tuple[Any, ...]]) -> Outcome:
    return Outcome(**{**row._mapping, "flags": tuple(row.flags)})
