"""The daily digest of the log: made once a day, chained from day to day, and compared with the log at any time.

A digest covers what survives the erasure of a person. Its parts are public arithmetic, so that anyone who can read the
log can do it again: see `docs/retention.md`. Connections are in autocommit: each step is a transaction of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import audit_log, dropped_months, journal_digests

RETENTION_CLASSES = ("business", "consumer")
_NAMED_DECISIONS = 20
"""At most so many decisions are named for a day; one is enough to know that the day is not what it was."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayDigest:
    """One day of one retention class. The hours are those of UTC; an hour without decisions has an empty digest."""

    day: date
    retention_class: str
    decisions: int
    hour_decisions: tuple[int, ...]
    hour_digests: tuple[bytes, ...]
    previous_digest: bytes
    digest: bytes

    def computed(self) -> bytes:
        """What `digest` must be, from the other fields."""
        hours = [digest.hex() for digest in self.hour_digests]
        document = [self.day.isoformat(), self.retention_class, list(self.hour_decisions), hours]
        return hashlib.sha256(self.previous_digest + json.dumps(document, ensure_ascii=False).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFault:
    """A day of a class that is not what it was; `what` says in which way and names the hour or the decision."""

    day: date
    retention_class: str
    what: str

    def __str__(self) -> str:
        return f"{self.day} {self.retention_class}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCheck:
    """What a comparison of one day with its digest found. `dropped`: the day's decisions have left the log in time."""

    day: date
    retention_class: str
    decisions: int
    dropped: bool
    faults: tuple[LogFault, ...]


async def digest_days(
    connection: AsyncConnection, change: Change, *, until: date | None = None
) -> AsyncIterator[DayDigest]:
    """Digest every day that is due, oldest first, up to and including `until`, or to the last one that is safely over.

    Raises:
        ConflictingChangeError: where `until` is not safely over yet, or was digested before the log began.
        sqlalchemy.exc.DBAPIError: where flushes did not end within a second.
    """
    due = (await connection.execute(text("SELECT first_day, last_day FROM gate.journal_days_due()"))).one()
    last: date = due.last_day if until is None else until
    if due.first_day is None or due.first_day > last:
        return
    if last <= due.last_day:
        await connection.execute(text("SELECT gate.journal_barrier()"))
    day: date = due.first_day
    while day <= last:
        with refusals():
            made = await connection.execute(
                text("SELECT * FROM gate.journal_digest_make(:day, :actor, :request_id)"),
                {"day": day, "actor": change.actor, "request_id": change.request_id},
            )
        for row in made:
            yield _digest_of(row)
        day += _DAY


async def check_days(
    connection: AsyncConnection,
    *,
    first: date | None = None,
    last: date | None = None,
    retention_classes: Sequence[str] = RETENTION_CLASSES,
    contents: bool = True,
) -> AsyncIterator[DayCheck]:
    """Compare the days from `first` to `last`, both included, with their digests; by default all of them.

    contents: also whether input and record of every decision are what was digested when it was decided.
    """
    bounds = (await connection.execute(select(func.min(journal_digests.c.day), func.max(journal_digests.c.day)))).one()
    begin, end = first or bounds[0], last or bounds[1]
    if begin is None or end is None:
        return
    for retention_class in retention_classes:
        previous = await _stored(connection, begin - _DAY, retention_class)
        day = begin
        while day <= end:
            stored = await _stored(connection, day, retention_class)
            if stored is None:
                fault = LogFault(day=day, retention_class=retention_class, what="there is no digest of this day")
                yield DayCheck(day=day, retention_class=retention_class, decisions=0, dropped=False, faults=(fault,))
            else:
                yield await _check(connection, stored, previous, contents=contents)
            previous = stored
            day += _DAY


async def _check(
    connection: AsyncConnection, stored: DayDigest, previous: DayDigest | None, *, contents: bool
) -> DayCheck:
    found: list[str] = []
    if stored.previous_digest != (b"" if previous is None else previous.digest):
        found.append("its digest does not follow that of the day before")
    if stored.digest != stored.computed() or stored.decisions != sum(stored.hour_decisions):
        found.append("its digest is not that of its hours")
    if await _audited(connection, stored.day, stored.retention_class) != (stored.decisions, stored.digest.hex()):
        found.append("its digest is not the one in the audit log")
    dropped = await _is_dropped(connection, stored.day, stored.retention_class)
    arguments = {"retention_class": stored.retention_class, "day": stored.day}
    if not dropped:
        hours = await connection.execute(
            text("SELECT hour, decisions, digest FROM gate.journal_hours(:retention_class, :day)"), arguments
        )
        now = {row.hour: (row.decisions, row.digest) for row in hours}
        then = zip(stored.hour_decisions, stored.hour_digests, strict=True)
        for hour, (decisions, digest) in enumerate(then):
            decisions_now, digest_now = now.get(hour, (0, b""))
            if decisions_now != decisions:
                found.append(f"hour {hour} had {decisions} decisions and has {decisions_now}")
            elif digest_now != digest:
                found.append(f"a decision of hour {hour} has been changed")
    if contents:
        ids = await connection.execute(
            text("SELECT gate.journal_content_faults(:retention_class, :day, :limit)"),
            {**arguments, "limit": _NAMED_DECISIONS},
        )
        found.extend(f"input or record of decision {decision_id} has been changed" for decision_id in ids.scalars())
    return DayCheck(
        day=stored.day,
        retention_class=stored.retention_class,
        decisions=stored.decisions,
        dropped=dropped,
        faults=tuple(LogFault(day=stored.day, retention_class=stored.retention_class, what=what) for what in found),
    )


async def _stored(connection: AsyncConnection, day: date, retention_class: str) -> DayDigest | None:
    query = select(journal_digests).where(
        journal_digests.c.day == day, journal_digests.c.retention_class == retention_class
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _digest_of(row)


async def _audited(connection: AsyncConnection, day: date, retention_class: str) -> tuple[int, str] | None:
    query = select(audit_log.c.payload).where(
        audit_log.c.action == "journal.digest", audit_log.c.subject == day.isoformat()
    )
    payloads = (await connection.execute(query)).scalars().all()
    if len(payloads) != 1:
        return None
    said: Mapping[str, Any] = json.loads(payloads[0])["after"][retention_class]
    return said["decisions"], said["digest"]


async def _is_dropped(connection: AsyncConnection, day: date, retention_class: str) -> bool:
    query = select(dropped_months.c.month).where(
        dropped_months.c.month == day.replace(day=1), dropped_months.c.retention_class == retention_class
    )
    return (await connection.execute(query)).first() is not None


def _digest_of(row: Any) -> DayDigest:
    return DayDigest(
        day=row.day,
        retention_class=row.retention_class,
        decisions=row.decisions,
        hour_decisions=tuple(row.hour_decisions),
        hour_digests=tuple(row.hour_digests),
        previous_digest=row.previous_digest,
        digest=row.digest,
    )
