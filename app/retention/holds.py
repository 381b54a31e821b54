"""Legal holds: what must not leave the log, whatever its age and whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import channels, legal_holds


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSubject:
    """What a hold covers: exactly one of a person, a decision and a channel."""

    applicant_ref: str | None = None
    decision_id: UUID | None = None
    channel_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalHold:
    """A hold and, where it has ended, who ended it and why. A released hold on a person no longer names the person."""

    hold_id: int
    kind: str
    subject: HoldSubject
    reason: str
    placed_by: str
    placed_at: datetime
    released_at: datetime | None
    released_by: str | None
    release_reason: str | None


async def place_hold(connection: AsyncConnection, subject: HoldSubject, *, reason: str, change: Change) -> int:
    """Place a hold and return its number. Waits for a removal that is under way.

    Raises:
        InvalidChangeError: where not exactly one subject is named, or the reason is empty or names the person.
        UnknownSubjectError: where the decision or channel is not there.
    """
    with refusals():
        placed = await connection.execute(
            text("SELECT gate.hold_place(:applicant_ref, :decision_id, :channel_code, :reason, :actor, :request_id)"),
            {
                "applicant_ref": subject.applicant_ref,
                "decision_id": subject.decision_id,
                "channel_code": subject.channel_code,
                "reason": reason,
                "actor": change.actor,
                "request_id": change.request_id,
            },
        )
        hold_id: int = placed.scalar_one()
    return hold_id


async def release_hold(connection: AsyncConnection, hold_id: int, *, reason: str, change: Change) -> None:
    """End a hold. What only it kept goes with the next run of retention.

    Raises:
        UnknownSubjectError: where no hold has that number.
        ConflictingChangeError: where it has been released already.
        InvalidChangeError: where the reason is empty or names the person.
    """
    with refusals():
        await connection.execute(
            text("SELECT gate.hold_release(:hold_id, :reason, :actor, :request_id)"),
            {"hold_id": hold_id, "reason": reason, "actor": change.actor, "request_id": change.request_id},
        )


async def list_holds(connection: AsyncConnection, *, released: bool = False) -> tuple[LegalHold, ...]:
    """The holds in force, oldest first; with `released`, also those that have ended."""
    query = (
        select(legal_holds, channels.c.code.label("channel_code"))
        .outerjoin(channels, channels.c.channel_id == legal_holds.c.channel_id)
        .order_by(legal_holds.c.hold_id)
    )
    if not released:
        query = query.where(legal_holds.c.released_at.is_(None))
    return tuple(
        LegalHold(
            hold_id=row.hold_id,
            kind=row.kind,
            subject=HoldSubject(
                applicant_ref=row.applicant_ref, decision_id=row.decision_id, channel_code=row.channel_code
            ),
            reason=row.reason,
            placed_by=row.placed_by,
            placed_at=row.placed_at,
            released_at=row.released_at,
            released_by=row.released_by,
            release_reason=row.release_reason,
        )
        for row in await connection.execute(query)
    )
