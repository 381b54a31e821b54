"""Events as they are read: in an order that a reader can follow without missing any.

Numbers are drawn before a transaction commits, so "after number 7" may skip a 6 that commits later. Here the order is
(transaction, position), and what is read ends before the oldest transaction that is still under way: whatever commits
later has a later transaction, and lies ahead of every cursor that was given out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, literal_column, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import events, originators

_SETTLED: ColumnElement[int] = literal_column("(pg_snapshot_xmin(pg_current_snapshot())::text::bigint)")
_COLUMNS = (*events.c, originators.c.code.label("originator"))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cursor:
    """A place in the order of events: just after the event that has these numbers."""

    transaction_id: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. `originator` is None where it concerns all of them; `body` is the JSON that a webhook carries."""

    event_id: UUID
    transaction_id: int
    position: int
    at: datetime
    originator: str | None
    kind: str
    subject: str
    body: str

    @property
    def cursor(self) -> Cursor:
        """The place just after it."""
        return Cursor(transaction_id=self.transaction_id, position=self.position)


async def read_events(
    connection: AsyncConnection, *, originator_id: int | None, after: Cursor | None, limit: int
) -> tuple[Event, ...]:
    """The next events of an originator and of all, or of everybody where `originator_id` is None."""
    query = (
        select(*_COLUMNS)
        .join_from(events, originators, isouter=True)
        .where(_visible(originator_id), events.c.transaction_id < _SETTLED)
        .order_by(events.c.transaction_id, events.c.position)
        .limit(limit)
    )
    if after is not None:
        place = tuple_(events.c.transaction_id, events.c.position)
        query = query.where(place > tuple_(after.transaction_id, after.position))
    return tuple(_event(row) for row in await connection.execute(query))


async def find_event(connection: AsyncConnection, event_id: UUID, *, originator_id: int | None) -> Event | None:
    """One event, where the originator may see it."""
    query = (
        select(*_COLUMNS)
        .join_from(events, originators, isouter=True)
        .where(and_(events.c.event_id == event_id, _visible(originator_id)))
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _event(row)


def _visible(originator_id: int | None) -> ColumnElement[bool]:
    if originator_id is None:
        return events.c.event_id.is_not(None)
    return or_(events.c.originator_id.is_(None), events.c.originator_id == originator_id)


def _event(row: Row[tuple[object, ...]]) -> Event:
    return Event(
        event_id=row.event_id,
        transaction_id=row.transaction_id,
        position=row.position,
        at=row.at,
        originator=row.originator,
        kind=row.kind,
        subject=row.subject,
        body=row.body,
    )
