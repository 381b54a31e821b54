"""Deliveries in the database: what is due is claimed and settled; what became of each can be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import webhook_attempts, webhook_deliveries, webhook_endpoints

EXCERPT_LENGTH = 200


class AttemptResult(StrEnum):
    """What became of an attempt."""

    DELIVERED = "delivered"
    """Answered with a 2xx."""
    REFUSED = "refused"
    """Answered with anything else; a redirect is not followed."""
    TIMEOUT = "timeout"
    """Not answered in time. The receiver may have it all the same."""
    UNREACHABLE = "unreachable"
    """No connection, or one that broke."""
    BLOCKED = "blocked"
    """Not tried: the URL leads where no webhook may, or its secret was made with a key that the service lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that this dispatcher may attempt now. `secrets` are (key id, salt), the newest first."""

    delivery_id: int
    attempt: int
    event_id: UUID
    body: bytes
    endpoint_id: UUID
    url: str = field(repr=False)
    secrets: tuple[tuple[str, bytes], ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended. `excerpt` is the beginning of an answer that was no success."""

    result: AttemptResult
    duration_ms: int
    status: int | None = None
    excerpt: str | None = None
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One line of the delivery log. `result` is None while it runs, and for ever where its process died."""

    number: int
    started_at: datetime
    duration_ms: int | None
    result: str | None
    status: int | None
    excerpt: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event on its way to an endpoint. `attempts` are the latest ones, newest first."""

    endpoint_id: UUID
    state: str
    redelivery: bool
    attempt_count: int
    due_since: datetime
    next_attempt_at: datetime | None
    settled_at: datetime | None
    attempts: tuple[Attempt, ...]


_CLAIM = text("SELECT * FROM gate.webhook_claim(:limit, :per_endpoint, :busy, :lease)").bindparams(
    bindparam("busy", type_=ARRAY(Uuid))
)
_SETTLE = text("SELECT gate.webhook_settle(:delivery_id, :attempt, :result, :status, :duration_ms, :excerpt, :retry)")
_REDELIVER = text("SELECT gate.webhook_redeliver(:event_id, :originator_id, :actor, :request_id)")
_OLDEST = text("""
    SELECT coalesce(extract(epoch FROM now() - min(d.due_since)), 0)::float8
    FROM gate.webhook_deliveries d JOIN gate.webhook_endpoints e USING (endpoint_id)
    WHERE d.state = 'pending' AND e.disabled_at IS NULL
""")


async def claim(
    connection: AsyncConnection, *, limit: int, per_endpoint: int, busy: Collection[UUID], lease: timedelta
) -> tuple[Claim, ...]:
    """Take what is due; nobody else does within `lease`. `connection` commits each statement."""
    given = {"limit": limit, "per_endpoint": per_endpoint, "busy": list(busy), "lease": lease}
    return tuple(
        Claim(
            delivery_id=row.delivery_id,
            attempt=row.attempt,
            event_id=row.event_id,
            body=row.body.encode(),
            endpoint_id=row.endpoint_id,
            url=row.url,
            secrets=tuple(zip(row.key_ids, map(bytes, row.salts), strict=True)),
        )
        for row in await connection.execute(_CLAIM, given)
    )


async def settle(connection: AsyncConnection, claimed: Claim, outcome: Outcome, *, retry: timedelta) -> bool:
    """Write down how it ended. False where it no longer mattered: it was delivered, given up or taken by another."""
    given = {
        "delivery_id": claimed.delivery_id,
        "attempt": claimed.attempt,
        "result": outcome.result.value,
        "status": outcome.status,
        "duration_ms": outcome.duration_ms,
        "excerpt": outcome.excerpt,
        "retry": retry,
    }
    mattered: bool = (await connection.execute(_SETTLE, given)).scalar_one()
    return mattered


async def redeliver(connection: AsyncConnection, event_id: UUID, *, originator_id: int | None, change: Change) -> int:
    """Send an event again to the enabled endpoints of an originator (None: of all); to how many.

    Raises:
        UnknownSubjectError: where the originator has no such event.
        ConflictingChangeError: where no endpoint takes it.
    """
    given = {
        "event_id": event_id,
        "originator_id": originator_id,
        "actor": change.actor,
        "request_id": change.request_id,
    }
    with refusals():
        count: int = (await connection.execute(_REDELIVER, given)).scalar_one()
    return count


async def oldest_seconds(connection: AsyncConnection) -> float:
    """How long the oldest delivery has been waited for; 0 where there is none."""
    seconds: float = (await connection.execute(_OLDEST)).scalar_one()
    return seconds


async def deliveries_of(
    connection: AsyncConnection, event_id: UUID, *, originator_id: int | None, attempt_limit: int
) -> tuple[Delivery, ...]:
    """What became of an event at each endpoint of an originator (None: of all)."""
    rows = webhook_deliveries.c
    query = (
        select(webhook_deliveries)
        .join_from(webhook_deliveries, webhook_endpoints)
        .where(rows.event_id == event_id)
        .order_by(rows.delivery_id)
    )
    if originator_id is not None:
        query = query.where(webhook_endpoints.c.originator_id == originator_id)
    found = (await connection.execute(query)).all()
    tried = webhook_attempts.c
    attempts: dict[int, list[Attempt]] = defaultdict(list)
    for each in found:
        latest = (
            select(webhook_attempts)
            .where(tried.delivery_id == each.delivery_id)
            .order_by(tried.number.desc())
            .limit(attempt_limit)
        )
        for row in await connection.execute(latest):
            attempts[each.delivery_id].append(
                Attempt(
                    number=row.number,
                    started_at=row.started_at,
                    duration_ms=row.duration_ms,
                    result=row.result,
                    status=row.status,
                    excerpt=row.excerpt,
                )
            )
    return tuple(
        Delivery(
            endpoint_id=each.endpoint_id,
            state=each.state,
            redelivery=each.redelivery,
            attempt_count=each.attempts,
            due_since=each.due_since,
            next_attempt_at=each.next_attempt_at if each.state == "pending" else None,
            settled_at=each.settled_at,
            attempts=tuple(attempts[each.delivery_id]),
        )
        for each in found
    )
