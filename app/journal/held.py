"""Held decisions as they are read: what waits for room in its budgets, and what became of what did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, Select, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import decisions, held_queue, originators

_PAGE = 500


class HeldState(StrEnum):
    """`resolved`: screened again, and ended otherwise. `superseded`: by a newer revision of the application."""

    WAITING = "waiting"
    RESOLVED = "resolved"
    LAPSED = "lapsed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDecision:
    """One held decision. From `policy_version` on: of what it was resolved to, and None before.

    `response` is the answer that it would get now, byte for byte, under the id of the decision.
    """

    decision_id: UUID
    originator: str
    application_id: str
    revision: int
    channel_code: str
    product: str
    amount: int
    currency: str
    held_since: datetime
    lapses_at: datetime
    state: HeldState
    closed_at: datetime | None
    policy_version: int | None
    outcome: str | None
    next_action: str | None
    response: bytes | None


class StoredResolution(NamedTuple):
    """What a replay of a resolution needs. `input` and `record` are None once the person's data has been erased."""

    decision_id: UUID
    policy_version: int
    outcome: str
    next_action: str
    reason_codes: tuple[str, ...]
    input: bytes | None
    record: bytes | None
    response: bytes


async def list_held(
    connection: AsyncConnection,
    *,
    originator_id: int | None,
    state: HeldState,
    before: UUID | None = None,
    limit: int,
) -> tuple[HeldDecision, ...]:
    """Held decisions in one state, of one originator or of all, the newest first."""
    query = _selection(originator_id).where(held_queue.c.state == state.value)
    if before is not None:
        query = query.where(held_queue.c.decision_id < before)
    rows = await connection.execute(query.order_by(held_queue.c.decision_id.desc()).limit(limit))
    return tuple(_held(row) for row in rows)


async def find_held(
    connection: AsyncConnection, decision_id: UUID, *, originator_id: int | None
) -> HeldDecision | None:
    """One held decision, where the originator may see it."""
    query = _selection(originator_id).where(held_queue.c.decision_id == decision_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _held(row)


async def stream_resolutions(
    connection: AsyncConnection, *, decided_from: datetime | None, decided_to: datetime | None
) -> AsyncIterator[tuple[StoredResolution, ...]]:
    """What held decisions made over [decided_from, decided_to) were resolved to, oldest first, in bounded batches."""
    stored = and_(
        decisions.c.decision_id == held_queue.c.decision_id,
        decisions.c.decided_at == held_queue.c.decided_at,
        decisions.c.retention_class == held_queue.c.retention_class,
    )
    names = ("policy_version", "outcome", "next_action", "reason_codes")
    query: Select[Any] = (
        select(
            held_queue.c.decision_id,
            *(held_queue.c[name] for name in names),
            decisions.c.input,
            held_queue.c.record,
            held_queue.c.response,
        )
        .join_from(held_queue, decisions, stored)
        .where(held_queue.c.state == HeldState.RESOLVED.value)
        .order_by(held_queue.c.decision_id)
        .limit(_PAGE)
    )
    if decided_from is not None:
        query = query.where(held_queue.c.decided_at >= decided_from)
    if decided_to is not None:
        query = query.where(held_queue.c.decided_at < decided_to)
    after: UUID | None = None
    while True:
        page = query if after is None else query.where(held_queue.c.decision_id > after)
        rows = (await connection.execute(page)).all()
        if rows:
            yield tuple(_resolution(row) for row in rows)
            after = rows[-1].decision_id
        if len(rows) < _PAGE:
            return


def _selection(originator_id: int | None) -> Select[Any]:
    query = select(held_queue, originators.c.code.label("originator")).join_from(
        held_queue, originators, originators.c.originator_id == held_queue.c.originator_id
    )
    return query if originator_id is None else query.where(held_queue.c.originator_id == originator_id)


def _held(row: Row[Any]) -> HeldDecision:
    return HeldDecision(
        decision_id=row.decision_id,
        originator=row.originator,
        application_id=row.application_id,
        revision=row.revision,
        channel_code=row.channel_code,
        product=row.product,
        amount=row.amount,
        currency=row.currency,
        held_since=row.decided_at.astimezone(UTC),
        lapses_at=row.lapses_at.astimezone(UTC),
        state=HeldState(row.state),
        closed_at=row.closed_at and row.closed_at.astimezone(UTC),
        policy_version=row.policy_version,
        outcome=row.outcome,
        next_action=row.next_action,
        response=row.response,
    )


def _resolution(row: Row[Any]) -> StoredResolution:
    return StoredResolution(
        decision_id=row.decision_id,
        policy_version=row.policy_version,
        outcome=row.outcome,
        next_action=row.next_action,
        reason_codes=tuple(row.reason_codes),
        input=row.input,
        record=row.record,
        response=row.response,
    )
