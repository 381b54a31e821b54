"""Change requests: what one person asks for and another approves; the database then carries it out.

The payload is canonical JSON, whose digest both sign. Kinds, whose subject is a channel's code: `channel.state` with
`from` and `to`; `tier.assign` with `tier`, `product`, `jurisdiction`, `cause` and `valid_to`; `budget.set` with a
budget's scope and limits, and `budget.end` with `budget_id`, whose subject is `*` for a budget of all channels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.channels.budgets import BudgetLimits, BudgetScope
from app.channels.tiers import Cause, Scope
from app.db.changes import Change, refusals
from app.db.tables import change_requests
from app.domain.canonical import Json, canonical_bytes, digest, instant_text
from app.domain.channel import ChannelState
from app.governance.signature import Signature

MAX_PAGE = 100
CHANNEL_STATE, TIER = "channel.state", "tier.assign"
BUDGET, BUDGET_END = "budget.set", "budget.end"
ALL_CHANNELS = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedChange:
    """What is asked for. `digest` is what both persons sign."""

    kind: str
    subject: str
    payload: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of the payload's text."""
        return digest(self.payload.encode())

    @property
    def signed_subject(self) -> str:
        """What the requester's statement names as its subject."""
        return f"{self.kind}:{self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRequest:
    """A request as it is stored: `pending`, `applied`, `rejected` or `withdrawn`."""

    change_id: int
    kind: str
    subject: str
    payload: str
    digest: bytes
    reason: str
    state: str
    requested_by: str
    requested_at: datetime
    nonce: str
    approved_by: str | None
    closed_by: str | None
    closed_at: datetime | None
    closing_note: str | None

    def content(self) -> dict[str, Json]:
        """The payload as parsed JSON."""
        content: dict[str, Json] = json.loads(self.payload)
        return content


def channel_move(code: str, *, before: ChannelState, after: ChannelState) -> WantedChange:
    """A channel moves from the state that it has to another."""
    return _wanted(CHANNEL_STATE, code, {"from": before.value, "to": after.value})


def tier_change(code: str, scope: Scope, *, tier: str, cause: Cause, valid_to: datetime | None) -> WantedChange:
    """A scope gets a tier from the approval on. An override (`manual`) has an end; what was before it goes on then."""
    return _wanted(
        TIER,
        code,
        {
            "tier": tier,
            "product": scope.product,
            "jurisdiction": scope.jurisdiction,
            "cause": cause.value,
            "valid_to": None if valid_to is None else instant_text(valid_to),
        },
    )


def budget_change(scope: BudgetScope, limits: BudgetLimits, *, time_zone: str) -> WantedChange:
    """A scope's budget is opened or gets these limits."""
    return _wanted(
        BUDGET,
        scope.channel or ALL_CHANNELS,
        {
            "tier": scope.tier,
            "product": scope.product,
            "jurisdiction": scope.jurisdiction,
            "period": scope.period.value,
            "measure": scope.measure.value,
            "currency": scope.currency,
            "limit": limits.limit,
            "overbooking_pct": limits.overbooking_pct,
            "loss_rate_ppm": None if limits.loss_rate_ppm is None else dict(limits.loss_rate_ppm),
            "growth_pct": limits.growth_pct,
            "floor": limits.floor,
            "time_zone": time_zone,
        },
    )


def budget_end(channel: str | None, budget_id: int) -> WantedChange:
    """An open budget of a channel, or of all of them, ends."""
    return _wanted(BUDGET_END, channel or ALL_CHANNELS, {"budget_id": budget_id})


_REQUEST = text(
    "SELECT * FROM gate.change_request(:kind, :subject, :payload, :digest, :reason, :person_id, :nonce, :proof, :actor,"
    " :request_id)"
)
_APPROVE = text(
    "SELECT * FROM gate.change_approve(:change_id, :person_id, :digest, :comment, :proof, :actor, :request_id)"
)
_CLOSE = text("SELECT * FROM gate.change_close(:change_id, :state, :note, :actor, :request_id)")


async def request_change(
    connection: AsyncConnection, wanted: WantedChange, *, reason: str, signature: Signature, nonce: str, change: Change
) -> ChangeRequest:
    """Ask for a change.

    Raises:
        ForbiddenChangeError: where the signature does not hold, or its person is no admin.
        InvalidChangeError: without a reason.
    """
    given = {
        "kind": wanted.kind,
        "subject": wanted.subject,
        "payload": wanted.payload,
        "digest": wanted.digest,
        "reason": reason,
        "person_id": signature.person_id,
        "nonce": nonce,
        "proof": signature.proof,
    }
    return await _changed(connection, _REQUEST, given, change)


async def approve_change(
    connection: AsyncConnection,
    change_id: int,
    *,
    signature: Signature,
    payload_digest: bytes,
    comment: str | None,
    change: Change,
) -> ChangeRequest:
    """Approve a change as a second person; it is made in the same transaction, or nothing is.

    Raises:
        ForbiddenChangeError: where the signature does not hold, or is the requester's.
        UnknownSubjectError, ConflictingChangeError, StaleChangeError, InvalidChangeError: it cannot be made as it is.
    """
    given = {
        "change_id": change_id,
        "person_id": signature.person_id,
        "digest": payload_digest,
        "comment": comment,
        "proof": signature.proof,
    }
    return await _changed(connection, _APPROVE, given, change)


async def close_change(
    connection: AsyncConnection, change_id: int, state: str, *, note: str, change: Change
) -> ChangeRequest:
    """End a pending request as `rejected` or `withdrawn`.

    Raises:
        UnknownSubjectError, ConflictingChangeError: nothing was changed.
    """
    return await _changed(connection, _CLOSE, {"change_id": change_id, "state": state, "note": note}, change)


async def find_change(connection: AsyncConnection, change_id: int) -> ChangeRequest | None:
    """A request by its number."""
    rows = await connection.execute(select(change_requests).where(change_requests.c.change_id == change_id))
    found = rows.mappings().first()
    return None if found is None else _request(found)


async def list_changes(
    connection: AsyncConnection, *, state: str | None = None, before_id: int | None = None, limit: int = MAX_PAGE
) -> tuple[ChangeRequest, ...]:
    """At most `limit` requests, the newest first, beginning below `before_id`."""
    query = select(change_requests).order_by(change_requests.c.change_id.desc()).limit(limit)
    if state is not None:
        query = query.where(change_requests.c.state == state)
    if before_id is not None:
        query = query.where(change_requests.c.change_id < before_id)
    return tuple(_request(row) for row in (await connection.execute(query)).mappings())


def _wanted(kind: str, subject: str, payload: Mapping[str, Json]) -> WantedChange:
    return WantedChange(kind=kind, subject=subject, payload=canonical_bytes(payload).decode())


async def _changed(connection: AsyncConnection, statement: Any, given: dict[str, Any], change: Change) -> ChangeRequest:
    with refusals():
        row = (
            (await connection.execute(statement, given | {"actor": change.actor, "request_id": change.request_id}))
            .mappings()
            .one()
        )
    return _request(row)


def _request(row: RowMapping) -> ChangeRequest:
    values: dict[str, Any] = {
        name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()
    }
    return ChangeRequest(**values)
