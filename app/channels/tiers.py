"""Tier assignments: giving a scope its tier from a moment on, and asking which tier it had at one.

Intervals are half-open: at the very moment when one assignment ends and the next begins, the next one holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import RowMapping, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import scopes, tier_assignments
from app.domain.channel import ChannelId

MAX_PAGE = 200


class Cause(StrEnum):
    """Why a scope was given its tier."""

    INITIAL = "initial"
    MANUAL = "manual"
    RETIERING = "retiering"
    PROBATION = "probation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an assignment holds for, within one channel; None means any."""

    product: str | None = None
    jurisdiction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One stored assignment over [valid_from, valid_to); no end means open."""

    assignment_id: int
    scope: Scope
    tier: str
    valid_from: datetime
    valid_to: datetime | None
    cause: Cause
    reason: str | None
    assigned_by: str


async def assign(
    connection: AsyncConnection,
    code: str,
    scope: Scope,
    *,
    tier: str,
    valid_from: datetime,
    valid_to: datetime | None,
    cause: Cause,
    reason: str | None,
    change: Change,
) -> Assignment:
    """Give a scope its tier. An assignment that is open at `valid_from` is closed there.

    Raises:
        ConflictingChangeError: where it would overlap another assignment of the scope.
        InvalidChangeError: where it begins in the past, ends before it begins, or the active policy lacks the tier.
        UnknownSubjectError: no channel has the code.
    """
    given = {
        "code": code,
        "product": scope.product,
        "jurisdiction": scope.jurisdiction,
        "tier": tier,
        "valid_from": valid_from,
        "valid_to": valid_to,
        "cause": cause.value,
        "reason": reason,
        "actor": change.actor,
        "request_id": change.request_id,
    }
    with refusals():
        assignment_id = (await connection.execute(_ASSIGN, given)).scalar_one()
    return Assignment(
        assignment_id=assignment_id,
        scope=scope,
        tier=tier,
        valid_from=valid_from.astimezone(UTC),
        valid_to=valid_to and valid_to.astimezone(UTC),
        cause=cause,
        reason=reason,
        assigned_by=change.actor,
    )


async def assignment_at(connection: AsyncConnection, code: str, scope: Scope, at: datetime) -> Assignment | None:
    """The assignment that held for a channel, product and jurisdiction at that moment: the most specific scope wins."""
    given = {"code": code, "product": scope.product, "jurisdiction": scope.jurisdiction, "at": at}
    row = (await connection.execute(_TIER_AT, given)).mappings().first()
    return None if row is None else _assignment(row)


async def history(
    connection: AsyncConnection, channel_id: ChannelId, *, before_id: int | None = None, limit: int = MAX_PAGE
) -> tuple[Assignment, ...]:
    """The channel's assignments of all scopes, the latest made first, beginning before `before_id`."""
    assigned = tier_assignments
    query = (
        select(
            assigned.c.assignment_id,
            scopes.c.product,
            scopes.c.jurisdiction,
            assigned.c.tier,
            func.lower(assigned.c.valid).label("valid_from"),
            func.upper(assigned.c.valid).label("valid_to"),
            assigned.c.cause,
            assigned.c.reason,
            assigned.c.assigned_by,
        )
        .join_from(assigned, scopes, assigned.c.scope_id == scopes.c.scope_id)
        .where(scopes.c.channel_id == channel_id)
        .order_by(assigned.c.assignment_id.desc())
        .limit(limit)
    )
    if before_id is not None:
        query = query.where(assigned.c.assignment_id < before_id)
    return tuple(_assignment(row) for row in (await connection.execute(query)).mappings())


_ASSIGN = text(
    "SELECT gate.tier_assign(:code, :product, :jurisdiction, :tier, :valid_from, :valid_to, :cause, :reason, :actor,"
    " :request_id)"
)
_TIER_AT = text("SELECT * FROM gate.tier_at(:code, :product, :jurisdiction, :at)")


def _assignment(row: Mapping[str, Any] | RowMapping) -> Assignment:
    return Assignment(
        assignment_id=row["assignment_id"],
        scope=Scope(product=row["product"], jurisdiction=row["jurisdiction"]),
        tier=row["tier"],
        valid_from=row["valid_from"].astimezone(UTC),
        valid_to=row["valid_to"] and row["valid_to"].astimezone(UTC),
        cause=Cause(row["cause"]),
        reason=row["reason"],
        assigned_by=row["assigned_by"],
    )
