"""What operations watch of budgets: how much is left, what has been booked beyond them, and what waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_ENDINGS: Final = ("posted", "voided", "expired")
_OVERRUNS: Final = ("above", "unreserved")

_BUDGETS = text("""
    SELECT concat_ws(' ', coalesce(c.code, '*'), (r.budget).tier, (r.budget).product, (r.budget).jurisdiction,
                     (r.budget).period, (r.budget).measure, (r.budget).currency) AS name,
           least((r.budget).limit_units, p.cap_units) AS cap,
           coalesce(p.reserved + p.posted, 0) AS used, greatest(r.room, 0) AS left
    FROM gate.budget_rooms(now()) r
    LEFT JOIN gate.channels c ON c.channel_id = (r.budget).channel_id
    LEFT JOIN gate.budget_periods p
      ON p.budget_id = (r.budget).budget_id AND p.starts_at <= now() AND p.ends_at > now()
    ORDER BY greatest(r.room, 0)::double precision / greatest(least((r.budget).limit_units, p.cap_units), 1),
             (r.budget).budget_id
""")
_COUNTS = text("""
    SELECT (SELECT count(*) FROM gate.reservations WHERE state = 'reserved') AS open,
           (SELECT count(*) FROM gate.held_queue WHERE state = 'waiting') AS waiting,
           coalesce((SELECT extract(epoch FROM now() - min(decided_at)) FROM gate.held_queue
                     WHERE state = 'waiting'), 0)::double precision AS oldest
""")
_RESOLVED = text("""
    SELECT state, count(*) AS number FROM gate.reservations WHERE resolved_at > now() - interval '1 day' GROUP BY state
""")
_OVERRUN = text("SELECT kind, count(*) AS number FROM gate.overruns WHERE at > now() - interval '1 day' GROUP BY kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedUse:
    """An open budget in words, and its present period: loans, or minor units."""

    name: str
    cap: int
    used: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetFigures:
    """Everything at one moment. `budgets` begin with the one of which the least part is left."""

    budgets: tuple[NamedUse, ...]
    reservations_open: int
    resolved_day: dict[str, int]
    overruns_day: dict[str, int]
    held_waiting: int
    held_oldest_seconds: float


async def read_figures(connection: AsyncConnection) -> BudgetFigures:
    """The figures as they are now."""
    uses = tuple(
        NamedUse(name=row.name, cap=row.cap, used=row.used, left=row.left) for row in await connection.execute(_BUDGETS)
    )
    counts = (await connection.execute(_COUNTS)).one()
    resolved = {row.state: row.number for row in await connection.execute(_RESOLVED)}
    overruns = {row.kind: row.number for row in await connection.execute(_OVERRUN)}
    return BudgetFigures(
        budgets=uses,
        reservations_open=counts.open,
        resolved_day={state: resolved.get(state, 0) for state in _ENDINGS},
        overruns_day={kind: overruns.get(kind, 0) for kind in _OVERRUNS},
        held_waiting=counts.waiting,
        held_oldest_seconds=counts.oldest,
    )
