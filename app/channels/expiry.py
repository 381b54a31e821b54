"""Warnings before the agreement with a channel ends: 60, 30 and 7 days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import channels
from app.domain.channel import SERVED_STATES

WARNING_DAYS = (60, 30, 7)
"""How long before its end a channel's validity is warned about."""


def expires_within_days(valid_to: datetime | None, at: datetime) -> int | None:
    """The shortest warning that is due: 7, 30 or 60; None where the end is further away, open, or past."""
    if valid_to is None or valid_to <= at:
        return None
    return min((days for days in WARNING_DAYS if valid_to <= at + timedelta(days=days)), default=None)


def expiring(at: datetime, days: int) -> ColumnElement[bool]:
    """Holds for a served channel whose validity ends in (at, at + days]."""
    return and_(in_service(), channels.c.valid_to > at, channels.c.valid_to <= at + timedelta(days=days))


def in_service() -> ColumnElement[bool]:
    """Holds for a channel whose state is served, whether or not its validity has run out."""
    return channels.c.state.in_(sorted(SERVED_STATES))


async def count_expiring(
    connection: AsyncConnection, *, at: datetime | None = None, within_days: Sequence[int] = WARNING_DAYS
) -> dict[int, int]:
    """How many served channels end within so many days of `at` (now), by days. The counts include each other."""
    moment = datetime.now(UTC) if at is None else at
    counts = [func.count(case((expiring(moment, days), 1))) for days in within_days]
    row = (await connection.execute(select(*counts).select_from(channels))).one()
    return dict(zip(within_days, row, strict=True))
