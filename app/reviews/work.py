"""What reviewers do: claim, release, resolve, and what two of them do together. The database holds them to it.

Every function runs as the governance login in a transaction of its own; what it refuses leaves nothing behind.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, UnknownSubjectError, refusals
from app.domain.review import Resolution, proposal_text
from app.governance.signature import Signature
from app.reviews.queue import Review, find_review, gather

LEASE: Final = timedelta(minutes=30)
LONGEST_LEASE: Final = timedelta(hours=8)

_CLAIM_NEXT = text("SELECT decision_id FROM gate.review_claim_next(:holder, :lease, :actor)")
_CLAIM = text("SELECT decision_id FROM gate.review_claim(:decision_id, :holder, :lease, :actor)")
_RELEASE = text("SELECT decision_id FROM gate.review_release(:decision_id, :holder, :actor)")
_PRIORITISE = text("SELECT decision_id FROM gate.review_prioritise(:decision_id, :version, :priority, :reason, :actor)")
_CONTEST = text("SELECT is_new FROM gate.review_contest(:decision_id, :originator_id, :reason, :actor, :request_id)")
_RESOLVE = text(
    "SELECT decision_id FROM gate.review_resolve(:decision_id, :version, :resolution, :reason, :holder, :person_id,"
    " :proposal, :nonce, :proof, :actor, :request_id)"
)
_APPROVE = text(
    "SELECT decision_id FROM gate.review_approve(:decision_id, :version, :person_id, :digest, :proof, :actor,"
    " :request_id)"
)
_DECLINE = text("SELECT decision_id FROM gate.review_decline(:decision_id, :version, :reason, :actor)")


async def claim_next(
    connection: AsyncConnection, *, holder: str, lease: timedelta = LEASE, change: Change
) -> Review | None:
    """The review that comes first and that nobody holds, now held by the caller; None where there is none."""
    await gather(connection)
    with refusals():
        given = {"holder": holder, "lease": lease, "actor": change.actor}
        claimed = (await connection.execute(_CLAIM_NEXT, given)).scalar_one_or_none()
    return None if claimed is None else await _read(connection, claimed)


async def claim(
    connection: AsyncConnection, decision_id: UUID, *, holder: str, lease: timedelta = LEASE, change: Change
) -> Review:
    """Hold this review, or hold it for longer.

    Raises:
        UnknownSubjectError: nobody has to review it.
        ConflictingChangeError: another holds it, it waits for a second person, or it is over.
    """
    await gather(connection)
    return await _changed(connection, _CLAIM, decision_id, change, holder=holder, lease=lease)


async def release(connection: AsyncConnection, decision_id: UUID, *, holder: str, change: Change) -> Review:
    """Give a claim back before its time.

    Raises:
        UnknownSubjectError, ConflictingChangeError: it was not the caller's to give.
    """
    return await _changed(connection, _RELEASE, decision_id, change, holder=holder)


async def prioritise(
    connection: AsyncConnection, decision_id: UUID, *, version: int, priority: int, reason: str, change: Change
) -> Review:
    """Put a review before others (1) or behind them (5).

    Raises:
        UnknownSubjectError, ConflictingChangeError, StaleChangeError: nothing was changed.
    """
    return await _changed(
        connection, _PRIORITISE, decision_id, change, version=version, priority=priority, reason=reason
    )


async def contest(
    connection: AsyncConnection, decision_id: UUID, *, originator_id: int | None, reason: str | None, change: Change
) -> tuple[Review, bool]:
    """An applicant asks that a person looks at a reject. Asking again changes nothing; whether it was the first time.

    Raises:
        UnknownSubjectError: there is no such decision (of that originator, where one is given).
        ConflictingChangeError: it is no reject, or not the newest decision on the application.
    """
    given = {"decision_id": decision_id, "originator_id": originator_id, "reason": reason}
    with refusals():
        is_new: bool = (
            await connection.execute(_CONTEST, given | {"actor": change.actor, "request_id": change.request_id})
        ).scalar_one()
    return await _read(connection, decision_id), is_new


async def resolve(
    connection: AsyncConnection,
    review: Review,
    resolution: Resolution,
    *,
    reason: str,
    holder: str,
    signature: Signature | None = None,
    nonce: str | None = None,
    change: Change,
) -> Review:
    """Resolve what the caller holds. Accepted means that channel, person and budgets allow it now, and that its budget
    is reserved; what takes two persons is `proposed` by this one's signature.

    Raises:
        UnknownSubjectError, StaleChangeError: nothing was changed.
        ConflictingChangeError: it is not the caller's, or channel, person or a budget does not allow it.
        ForbiddenChangeError: it takes a signature, or the signature does not hold.
    """
    accepted = resolution is Resolution.ACCEPT
    return await _changed(
        connection,
        _RESOLVE,
        review.decision_id,
        change,
        version=review.version,
        resolution=resolution.value,
        reason=reason,
        holder=holder,
        person_id=None if signature is None else signature.person_id,
        proposal=proposal_of(review, reason) if accepted and signature is not None else None,
        nonce=nonce,
        proof=None if signature is None else signature.proof,
    )


async def approve(
    connection: AsyncConnection,
    decision_id: UUID,
    *,
    version: int | None,
    signature: Signature,
    digest: bytes,
    change: Change,
) -> Review:
    """Accept, as a second person, what another has proposed.

    Raises:
        UnknownSubjectError, StaleChangeError, ConflictingChangeError, ForbiddenChangeError: as `resolve`.
    """
    given = {"version": version, "person_id": signature.person_id, "digest": digest, "proof": signature.proof}
    return await _changed(connection, _APPROVE, decision_id, change, **given)


async def decline(
    connection: AsyncConnection, decision_id: UUID, *, version: int | None, reason: str, change: Change
) -> Review:
    """Put what was proposed back into the queue.

    Raises:
        UnknownSubjectError, StaleChangeError, ConflictingChangeError: nothing was changed.
    """
    return await _changed(connection, _DECLINE, decision_id, change, version=version, reason=reason)


def proposal_of(review: Review, reason: str) -> str:
    """What two persons sign to accept this review for that reason."""
    return proposal_text(
        decision_id=str(review.decision_id), amount=review.amount, currency=review.currency, reason=reason
    )


async def _changed(
    connection: AsyncConnection, statement: TextClause, decision_id: UUID, change: Change, **given: Any
) -> Review:
    values = given | {"decision_id": decision_id, "actor": change.actor, "request_id": change.request_id}
    asked = {name: values[name] for name in statement.compile().params}
    with refusals():
        await connection.execute(statement, asked)
    return await _read(connection, decision_id)


async def _read(connection: AsyncConnection, decision_id: UUID) -> Review:
    found = await find_review(connection, decision_id)
    if found is None:
        raise UnknownSubjectError("there is nothing to review about that decision")
    return found
