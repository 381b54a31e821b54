"""How far each feed of performance is complete. Silent data is not good news: re-tiering counts to there only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import refusals

GRACE_DAYS = 10
"""How long after the end of a month its performance may still be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What a feed last stated. `channels` None: all of the originator's. Complete means to the end of that day."""

    originator: str
    code: str
    channels: tuple[str, ...] | None
    performance_complete_through: date
    stated_at: datetime
    stated_by: str

    def is_late(self, today: date) -> bool:
        """Whether the month that ended `GRACE_DAYS` ago or more is not complete yet."""
        return self.performance_complete_through < expected_through(today)


def expected_through(today: date) -> date:
    """The last day of the latest month that ended at least `GRACE_DAYS` days ago."""
    return (today - timedelta(days=GRACE_DAYS)).replace(day=1) - timedelta(days=1)


_STATE = text("SELECT gate.feed_state(:originator_id, :feed, :channels, :through, :by)")
_LIST = text("""
    SELECT o.code AS originator, f.feed AS code, f.performance_complete_through, f.stated_at, f.stated_by,
           CASE WHEN f.channel_ids IS NOT NULL THEN ARRAY(
               SELECT c.code FROM gate.channels c WHERE c.channel_id = ANY (f.channel_ids) ORDER BY c.code)
           END AS channels
    FROM gate.feeds f JOIN gate.originators o USING (originator_id)
    WHERE CAST(:originator_id AS integer) IS NULL OR f.originator_id = :originator_id
    ORDER BY o.code, f.feed
""")


async def state_feed(
    connection: AsyncConnection,
    *,
    originator_id: int,
    feed: str,
    channels: Sequence[str] | None,
    complete_through: date,
    by: str,
) -> None:
    """Write down how far a feed is complete. A later statement takes the place of an earlier one, also backwards.

    Raises:
        InvalidChangeError: where a channel is unknown.
    """
    given: dict[str, Any] = {"originator_id": originator_id, "feed": feed, "by": by}
    given |= {"channels": None if channels is None else list(channels), "through": complete_through}
    with refusals():
        await connection.execute(_STATE, given)


async def list_feeds(connection: AsyncConnection, *, originator_id: int | None) -> tuple[Feed, ...]:
    """The feeds of an originator, or of all."""
    rows = await connection.execute(_LIST, {"originator_id": originator_id})
    return tuple(
        Feed(
            originator=row.originator,
            code=row.code,
            channels=None if row.channels is None else tuple(row.channels),
            performance_complete_through=row.performance_complete_through,
            stated_at=row.stated_at,
            stated_by=row.stated_by,
        )
        for row in rows
    )
