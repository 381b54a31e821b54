"""Budgets: what limits the accepts of a scope, who sets them, and how much of them is left.

Opening a budget or making one stricter one person may do alone; what lets more through takes two (a change request).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, and_, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import budget_periods, budgets, channels
from app.domain.budget import Measure, Period
from app.domain.channel import ChannelId

MAX_PAGE = 200
FULL_PCT = 100
"""Overbooking of none: no more is offered than may be funded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetScope:
    """What a budget is for; None means any. Together with what it measures and when it resets, there is one open."""

    channel: str | None = None
    tier: str | None = None
    product: str | None = None
    jurisdiction: str | None = None
    period: Period
    measure: Measure
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLimits:
    """How much of it there is: loans, or minor units of its currency.

    Offers that are open and loans that are funded may come to `overbooking_pct` percent of the limit together, funded
    ones alone to all of it. A monthly budget may be held to a growth of `growth_pct` percent over the mean of what the
    three months before funded, and to `floor` where that is less.
    """

    limit: int
    overbooking_pct: int = FULL_PCT
    loss_rate_ppm: Mapping[str, int] | None = None
    growth_pct: int | None = None
    floor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBudget:
    """A budget as it is set; `ended_at` is None while it holds."""

    budget_id: int
    scope: BudgetScope
    limits: BudgetLimits
    time_zone: str
    cause: str
    revision: int
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetUse:
    """What has been taken of a budget in the period [starts_at, ends_at), None where that has no end.

    `cap` is the most of this period, the lesser of the limit and of what growth allows; `left` how much could be
    offered now: what overbooking lets through besides what is open, and never more than may still be funded.
    """

    budget: StoredBudget
    starts_at: datetime | None
    ends_at: datetime | None
    cap: int
    reserved: int
    posted: int

    @property
    def left(self) -> int:
        """Units that accepts may take now. 0 where more is taken than there is, which a lowered limit leads to."""
        bookable = self.cap * self.budget.limits.overbooking_pct // FULL_PCT - self.reserved - self.posted
        return max(0, min(bookable, self.cap - self.posted))


async def set_budget(
    connection: AsyncConnection,
    scope: BudgetScope,
    limits: BudgetLimits,
    *,
    time_zone: str,
    expected_revision: int | None,
    reason: str,
    change: Change,
) -> StoredBudget:
    """Set the limits of a scope's budget, or open it. What its accepts have taken before counts.

    Raises:
        ForbiddenChangeError: where it would let more through, which takes a second person.
        ConflictingChangeError: where it is open in another time zone.
        StaleChangeError: where its revision is not `expected_revision`.
        UnknownSubjectError: no channel has the code.
        InvalidChangeError: where limits and measure do not fit each other, or there is no such tier or time zone.
    """
    given = {
        "channel": scope.channel,
        "tier": scope.tier,
        "product": scope.product,
        "jurisdiction": scope.jurisdiction,
        "period": scope.period.value,
        "measure": scope.measure.value,
        "currency": scope.currency,
        "limit": limits.limit,
        "overbooking_pct": limits.overbooking_pct,
        "loss_rate_ppm": None if limits.loss_rate_ppm is None else json.dumps(dict(limits.loss_rate_ppm)),
        "growth_pct": limits.growth_pct,
        "floor": limits.floor,
        "time_zone": time_zone,
        "expected_revision": expected_revision,
        "reason": reason,
        "actor": change.actor,
        "request_id": change.request_id,
    }
    with refusals():
        row = (await connection.execute(_SET, given)).mappings().one()
    return _budget({**row, "code": scope.channel})


async def end_budget(connection: AsyncConnection, budget_id: int, *, reason: str, change: Change) -> None:
    """End an open budget: what has been taken of it stays written down, and still resolves.

    Raises:
        ForbiddenChangeError: where it takes a second person.
        UnknownSubjectError: there is no such open budget.
    """
    given = {"budget_id": budget_id, "reason": reason, "actor": change.actor, "request_id": change.request_id}
    with refusals():
        await connection.execute(_END, given)


async def find_use(connection: AsyncConnection, budget_id: int, *, at: datetime) -> BudgetUse | None:
    """One budget, open or ended, with its use in the period of `at`."""
    row = (await connection.execute(_uses(at).where(budgets.c.budget_id == budget_id))).mappings().first()
    return None if row is None else _use(row)


async def list_uses(
    connection: AsyncConnection,
    *,
    at: datetime,
    channel: str | None = None,
    ended: bool = False,
    after_id: int | None = None,
    limit: int = MAX_PAGE,
) -> tuple[BudgetUse, ...]:
    """Open budgets (or those that have ended) in the order in which they were opened, of one channel or of all."""
    query = _uses(at).where(budgets.c.ended_at.is_not(None) if ended else budgets.c.ended_at.is_(None))
    if channel is not None:
        query = query.where(channels.c.code == channel)
    if after_id is not None:
        query = query.where(budgets.c.budget_id > after_id)
    rows = await connection.execute(query.order_by(budgets.c.budget_id).limit(limit))
    return tuple(_use(row) for row in rows.mappings())


async def uses_of_channel(connection: AsyncConnection, channel_id: ChannelId, *, at: datetime) -> tuple[BudgetUse, ...]:
    """Every open budget that an accept of the channel may fall under: its own, and those of all channels."""
    mine: ColumnElement[bool] = (budgets.c.channel_id == channel_id) | budgets.c.channel_id.is_(None)
    query = _uses(at).where(mine, budgets.c.ended_at.is_(None))
    rows = await connection.execute(query.order_by(budgets.c.budget_id))
    return tuple(_use(row) for row in rows.mappings())


_SET = text(
    "SELECT * FROM gate.budget_set(:channel, :tier, :product, :jurisdiction, :period, :measure, :currency, :limit,"
    " :overbooking_pct, CAST(:loss_rate_ppm AS jsonb), :time_zone, :actor, :reason, :request_id, :growth_pct, :floor,"
    " :expected_revision)"
)
_END = text("SELECT gate.budget_end(:budget_id, :actor, :reason, :request_id)")


def _uses(at: datetime) -> Select[Any]:
    period = and_(
        budget_periods.c.budget_id == budgets.c.budget_id,
        budget_periods.c.starts_at <= at,
        budget_periods.c.ends_at > at,
    )
    # asyncpg has no datetime for infinity.
    bounded = (
        func.nullif(budget_periods.c.starts_at, text("'-infinity'::timestamptz")).label("starts_at"),
        func.nullif(budget_periods.c.ends_at, text("'infinity'::timestamptz")).label("ends_at"),
    )
    return (
        select(
            *budgets.c,
            channels.c.code,
            *bounded,
            func.coalesce(budget_periods.c.reserved, 0).label("reserved"),
            func.coalesce(budget_periods.c.posted, 0).label("posted"),
            budget_periods.c.cap_units,
        )
        .select_from(budgets)
        .outerjoin(channels, channels.c.channel_id == budgets.c.channel_id)
        .outerjoin(budget_periods, period)
    )


def _use(row: RowMapping) -> BudgetUse:
    cap = row["cap_units"]
    return BudgetUse(
        budget=_budget(row),
        starts_at=row["starts_at"] and row["starts_at"].astimezone(UTC),
        ends_at=row["ends_at"] and row["ends_at"].astimezone(UTC),
        cap=row["limit_units"] if cap is None else min(cap, row["limit_units"]),
        reserved=row["reserved"],
        posted=row["posted"],
    )


def _budget(row: Mapping[str, Any] | RowMapping) -> StoredBudget:
    rates = row["loss_rate_ppm"]
    return StoredBudget(
        budget_id=row["budget_id"],
        scope=BudgetScope(
            channel=row["code"],
            tier=row["tier"],
            product=row["product"],
            jurisdiction=row["jurisdiction"],
            period=Period(row["period"]),
            measure=Measure(row["measure"]),
            currency=row["currency"],
        ),
        limits=BudgetLimits(
            limit=row["limit_units"],
            overbooking_pct=row["overbooking_pct"],
            loss_rate_ppm=json.loads(rates) if isinstance(rates, str) else rates,
            growth_pct=row["growth_pct"],
            floor=row["floor_units"],
        ),
        time_zone=row["time_zone"],
        cause=row["cause"],
        revision=row["revision"],
        created_at=row["created_at"].astimezone(UTC),
        ended_at=row["ended_at"] and row["ended_at"].astimezone(UTC),
    )
