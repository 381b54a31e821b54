"""What channels cost beside commission: media and operations, by period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import refusals


class CostKind(StrEnum):
    """What it was spent on."""

    MEDIA = "media"
    OPERATIONS = "operations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A cost over the days [starts_on, ends_on], both included, in minor units of `currency`.

    All but `amount` and `correction` name it; the highest correction counts.
    """

    kind: CostKind
    starts_on: date
    ends_on: date
    currency: str
    amount: int
    reference: str = ""
    correction: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCost:
    """A cost with who recorded it."""

    cost_id: int
    cost: Cost
    recorded_at: datetime
    recorded_by: str


_RECORD = text(
    "SELECT gate.cost_record(:code, :kind, :starts_on, :ends_on, :currency, :reference, :correction, :amount, :by)"
)
_LIST = text("""
    SELECT k.* FROM gate.current_channel_costs k JOIN gate.channels c USING (channel_id)
    WHERE c.code = :code AND k.ends_on >= coalesce(:from, date '-infinity')
      AND k.starts_on < coalesce(:to, date 'infinity')
      AND k.cost_id > :after
    ORDER BY k.cost_id LIMIT :limit
""")


async def record_cost(connection: AsyncConnection, code: str, cost: Cost, *, by: str) -> bool:
    """Record a cost of a channel; False where exactly this is recorded already.

    Raises:
        UnknownSubjectError: where there is no such channel.
        ConflictingChangeError: where it is recorded with another amount under the same correction.
        InvalidChangeError: where the period ends before it begins.
    """
    given = {
        "code": code,
        "kind": cost.kind.value,
        "starts_on": cost.starts_on,
        "ends_on": cost.ends_on,
        "currency": cost.currency,
        "reference": cost.reference,
        "correction": cost.correction,
        "amount": cost.amount,
        "by": by,
    }
    with refusals():
        return bool((await connection.execute(_RECORD, given)).scalar_one())


async def list_costs(
    connection: AsyncConnection, code: str, *, begin: date | None, end: date | None, after: int, limit: int
) -> Sequence[RecordedCost]:
    """The costs that count of a channel whose period touches [begin, end), in the order in which they were recorded."""
    given = {"code": code, "from": begin, "to": end, "after": after, "limit": limit}
    return [
        RecordedCost(
            cost_id=row.cost_id,
            cost=Cost(
                kind=CostKind(row.kind),
                starts_on=row.starts_on,
                ends_on=row.ends_on,
                currency=row.currency,
                amount=row.amount,
                reference=row.reference,
                correction=row.correction,
            ),
            recorded_at=row.recorded_at,
            recorded_by=row.recorded_by,
        )
        for row in await connection.execute(_LIST, given)
    ]
