"""The end of a decision's time: whole months leave the log, and what must outlive them stays.

Every step is a transaction of its own (connections are in autocommit), so that a run that is stopped goes on where it
was, and decisions never wait for more than a moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, RefusedChangeError, refusals
from app.journal.digest import check_days

QUARANTINE_DAYS = 90
"""How long the input of a refused row is kept for the people who mend the cause."""
_KEYS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Periods:
    """For how many months decisions are kept, by retention class."""

    consumer_months: int
    business_months: int

    def items(self) -> Iterator[tuple[str, int]]:
        """(retention class, months)."""
        yield "business", self.business_months
        yield "consumer", self.consumer_months


@dataclass(frozen=True, slots=True, kw_only=True)
class DueMonth:
    """A month that is past its time. `dropped`: its partition went before, and what it holds has outlived it."""

    retention_class: str
    month: date
    months: int
    dropped: bool

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.retention_class}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthResult:
    """What became of a month: `removed` decisions left the log, `kept` stay. `refusal` says why nothing was done."""

    due: DueMonth
    removed: int = 0
    kept: int = 0
    refusal: str | None = None


async def ensure_partitions(connection: AsyncConnection, *, months_ahead: int) -> tuple[int, int]:
    """Lay out the months of the log that are missing: (how many tables were made, how many months lie ahead now).

    Raises:
        InvalidChangeError: where `months_ahead` is not between 0 and 24.
    """
    with refusals():
        made: int = (
            await connection.execute(text("SELECT gate.partitions_ensure(:months)"), {"months": months_ahead})
        ).scalar_one()
    ahead: int = (await connection.execute(text("SELECT gate.partitions_ahead()"))).scalar_one()
    return made, ahead


async def due_months(connection: AsyncConnection, periods: Periods) -> tuple[DueMonth, ...]:
    """The months of which every decision is past its class's period, oldest first.

    Raises:
        InvalidChangeError: where a period is shorter than the law's.
    """
    found: list[DueMonth] = []
    for retention_class, months in periods.items():
        with refusals():
            rows = await connection.execute(
                text("SELECT month, dropped FROM gate.retention_due(:retention_class, :months)"),
                {"retention_class": retention_class, "months": months},
            )
        found.extend(
            DueMonth(retention_class=retention_class, month=row.month, months=months, dropped=row.dropped)
            for row in rows
        )
    return tuple(found)


async def preview_month(connection: AsyncConnection, due: DueMonth) -> MonthResult:
    """What dropping the month would remove and keep."""
    row = (
        await connection.execute(
            text("SELECT decisions, kept FROM gate.retention_preview(:retention_class, :month, :months)"),
            _arguments(due),
        )
    ).one()
    return MonthResult(due=due, removed=row.decisions - row.kept, kept=row.kept)


async def drop_months(connection: AsyncConnection, periods: Periods, *, change: Change) -> AsyncIterator[MonthResult]:
    """Drop every month that is due, and sweep those dropped before. A refusal of one stops no other.

    What a person still has to decide is kept, so the queue is brought up to the log first.

    Raises:
        InvalidChangeError: where a period is shorter than the law's.
    """
    await connection.execute(text("SELECT gate.reviews_gather()"))
    for due in await due_months(connection, periods):
        try:
            yield await (_sweep(connection, due, change) if due.dropped else _drop(connection, due, change))
        except RefusedChangeError as refusal:
            yield MonthResult(due=due, refusal=str(refusal))
    await connection.execute(text("SELECT gate.reviews_forget()"))


async def sweep_quarantine(connection: AsyncConnection, *, change: Change, days: int = QUARANTINE_DAYS) -> int:
    """Remove what has lain in quarantine for `days` and is under no hold; returns how much."""
    with refusals():
        gone: int = (
            await connection.execute(
                text("SELECT gate.quarantine_sweep(:days, :actor, :request_id)"),
                {"days": days, "actor": change.actor, "request_id": change.request_id},
            )
        ).scalar_one()
    return gone


async def deidentify_outcomes(connection: AsyncConnection, periods: Periods, *, change: Change) -> tuple[int, int]:
    """Take the names from outcomes whose decisions have left the log, and from loans of the book that are long closed.

    The loans themselves live on for re-tiering. Returns how many applications and loans of the book.
    """
    with refusals():
        row = (
            await connection.execute(
                text("SELECT applications, loans FROM gate.outcomes_deidentify(:months, :actor, :request_id)"),
                {"months": periods.consumer_months, "actor": change.actor, "request_id": change.request_id},
            )
        ).one()
    return row.applications, row.loans


async def _drop(connection: AsyncConnection, due: DueMonth, change: Change) -> MonthResult:
    """Drop a month that still is what its digests say: a log that was tampered with is evidence, and stays."""
    after = (due.month + timedelta(days=31)).replace(day=1)
    checks = check_days(
        connection,
        first=due.month,
        last=after - timedelta(days=1),
        retention_classes=(due.retention_class,),
        contents=False,
    )
    async for check in checks:
        # A day before the log began has no digest and no decisions; the drop itself compares the counts.
        if check.faults and not await _is_blank(connection, due, check.day):
            return MonthResult(due=due, refusal=check.faults[0].what + f" ({check.day})")
    reached: UUID | None = None
    while True:
        with refusals():
            batch = await connection.execute(
                text(
                    "SELECT reached FROM gate.keys_expire("
                    ":retention_class, :month, :months, CAST(:after AS uuid), :rows)"
                ),
                {**_arguments(due), "after": reached, "rows": _KEYS_AT_ONCE},
            )
        reached = batch.scalar_one_or_none()
        if reached is None:
            break
    with refusals():
        dropped = (
            await connection.execute(
                text(
                    "SELECT decisions, kept FROM gate.month_drop("
                    ":retention_class, :month, :months, :actor, :request_id)"
                ),
                {**_arguments(due), "actor": change.actor, "request_id": change.request_id},
            )
        ).one()
    return MonthResult(due=due, removed=dropped.decisions - dropped.kept, kept=dropped.kept)


async def _is_blank(connection: AsyncConnection, due: DueMonth, day: date) -> bool:
    """Whether a day has neither a digest nor a decision."""
    row = (
        await connection.execute(
            text(
                "SELECT EXISTS (SELECT FROM gate.journal_digests WHERE day = :day) "
                "OR EXISTS (SELECT FROM gate.journal_hours(:retention_class, :day))"
            ),
            {"day": day, "retention_class": due.retention_class},
        )
    ).scalar_one()
    return not row


async def _sweep(connection: AsyncConnection, due: DueMonth, change: Change) -> MonthResult:
    with refusals():
        removed: int = (
            await connection.execute(
                text("SELECT gate.month_sweep(:retention_class, :month, :months, :actor, :request_id)"),
                {**_arguments(due), "actor": change.actor, "request_id": change.request_id},
            )
        ).scalar_one()
    left = await preview_month(connection, due)
    return MonthResult(due=due, removed=removed, kept=left.kept)


def _arguments(due: DueMonth) -> dict[str, object]:
    return {"retention_class": due.retention_class, "month": due.month, "months": due.months}
