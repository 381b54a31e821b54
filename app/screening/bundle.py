"""What an auditor needs of one decision, in one document: what was asked and answered, under which policy and whose
approval, which tier and channel state held and why, and where the logs say so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.channels import registry, tiers
from app.channels.tiers import Assignment, Scope
from app.db.tables import audit_log, journal_digests, signatures, tier_overrides
from app.domain.canonical import instant_text
from app.domain.errors import PolicyError
from app.domain.policy_changes import differences
from app.governance.break_glass import BreakGlass, break_glass_of_version
from app.governance.drafts import Draft, draft_of_version
from app.governance.requests import find_change
from app.journal.reader import StoredDecision, decision_by_id
from app.policies.store import StoredPolicy, active_policy, find_policy
from app.screening.stored_views import detail_document

_AUDIT_ROWS = 1_000


async def decision_bundle(
    connection: AsyncConnection, decision_id: UUID, *, originator_id: int | None = None
) -> dict[str, Any] | None:
    """The bundle, for orjson; None where there is no such decision (of this originator). `connection`: governance's."""
    stored = await decision_by_id(connection, decision_id, originator_id=originator_id)
    if stored is None:
        return None
    summary = stored.summary
    policy = await find_policy(connection, summary.policy_version)
    draft = await draft_of_version(connection, summary.policy_version)
    glass = await break_glass_of_version(connection, summary.policy_version)
    return {
        "decision": detail_document(stored, None),
        "policy": None if policy is None else await _policy(connection, policy),
        "approval": await _approval(connection, draft, glass),
        "tier": await _tier(connection, stored),
        "channel": await _channel(connection, stored),
        "audit": await _audit(connection, stored, draft, glass),
        "log_digest": await _log_digest(connection, stored),
    }


async def _policy(connection: AsyncConnection, policy: StoredPolicy) -> dict[str, Any]:
    active = await active_policy(connection)
    try:
        changed = () if active is None else differences(policy.policy(), active.policy())
        texts = [str(change) for change in changed]
    except PolicyError:  # an old document that this version of the service reads no more is shown all the same
        texts = None
    return {
        "version": policy.version,
        "name": policy.summary.name,
        "digest": policy.summary.digest.hex(),
        "created_by": policy.summary.created_by,
        "active_from": _text(policy.summary.activated_at),
        "active_to": _text(policy.summary.retired_at),
        "document": orjson.Fragment(policy.text.encode()),
        "active_version": None if active is None else active.version,
        "differences_to_active": texts,
    }


async def _approval(connection: AsyncConnection, draft: Draft | None, glass: BreakGlass | None) -> dict[str, Any]:
    way = "two-persons" if draft is not None else "break-glass" if glass is not None else "single-person"
    signed = []
    if draft is not None:
        signed = await _signatures(connection, draft.nonce)
    elif glass is not None:
        signed = await _signatures(connection, glass.nonce)
    return {
        "way": way,
        "draft": None
        if draft is None
        else {
            "draft_id": draft.draft_id,
            "submitted_by": draft.submitted_by,
            "submitted_at": _text(draft.submitted_at),
            "approved_by": draft.approved_by,
            "approved_at": _text(draft.approved_at),
            "acknowledged_warnings": list(draft.acknowledged_warnings),
            "report_digest": None if draft.report_digest is None else draft.report_digest.hex(),
        },
        "break_glass": None
        if glass is None
        else {
            "break_glass_id": glass.break_glass_id,
            "person_id": glass.person_id,
            "reason": glass.reason,
            "opened_at": _text(glass.opened_at),
            "state": glass.state,
            "confirmed_by": glass.confirmed_by,
        },
        "signatures": signed,
    }


async def _signatures(connection: AsyncConnection, nonce: str | None) -> list[dict[str, Any]]:
    """Whose signatures carry this nonce: the author's and the approver's."""
    query = select(signatures).where(signatures.c.message.contains(f"\n{nonce}\n", autoescape=True))
    return [
        {"person_id": row["person_id"], "act": row["act"], "message": row["message"], "at": _text(row["at"])}
        for row in (await connection.execute(query.order_by(signatures.c.signature_id))).mappings()
    ]


async def _tier(connection: AsyncConnection, stored: StoredDecision) -> dict[str, Any]:
    summary = stored.summary
    scope = Scope(product=summary.product, jurisdiction=summary.jurisdiction)
    found = await tiers.assignment_at(connection, summary.channel_code, scope, summary.decided_at)
    return {
        "tier": summary.tier,
        "source": "policy_default" if found is None else "assignment",
        "assignment": None if found is None else await _assignment(connection, found),
    }


async def _assignment(connection: AsyncConnection, found: Assignment) -> dict[str, Any]:
    query = select(tier_overrides).where(tier_overrides.c.assignment_id == found.assignment_id)
    override = (await connection.execute(query)).mappings().first()
    asked = None if override is None else await find_change(connection, override["change_id"])
    return {
        "assignment_id": found.assignment_id,
        "tier": found.tier,
        "product": found.scope.product,
        "jurisdiction": found.scope.jurisdiction,
        "valid_from": _text(found.valid_from),
        "valid_to": _text(found.valid_to),
        "cause": found.cause.value,
        "reason": found.reason,
        "assigned_by": found.assigned_by,
        "override_expires_at": None if override is None else _text(override["expires_at"]),
        "change_request": None
        if asked is None
        else {"change_id": asked.change_id, "requested_by": asked.requested_by, "approved_by": asked.approved_by},
    }


async def _channel(connection: AsyncConnection, stored: StoredDecision) -> dict[str, Any] | None:
    channel = await registry.find_channel(connection, stored.summary.channel_code)
    if channel is None:
        return None
    return {
        "code": channel.code,
        "state_now": channel.state.value,
        "states": [
            {
                "before": None if move.state_before is None else move.state_before.value,
                "after": move.state_after.value,
                "at": _text(move.at),
                "actor": move.actor,
                "reason": move.reason,
            }
            for move in await registry.state_history(connection, channel.channel_id)
        ],
    }


async def _audit(
    connection: AsyncConnection, stored: StoredDecision, draft: Draft | None, glass: BreakGlass | None
) -> list[dict[str, Any]]:
    """The rows of the chain about the policy, its draft, and the channel until it was decided; at most a thousand."""
    summary, action, subject = stored.summary, audit_log.c.action, audit_log.c.subject
    about: list[ColumnElement[bool]] = [
        and_(action == "policy.publish", subject == str(summary.policy_version)),
        and_(
            or_(action.startswith("channel.", autoescape=True), action.startswith("tier.", autoescape=True)),
            subject == summary.channel_code,
            audit_log.c.at <= summary.decided_at,
        ),
    ]
    if draft is not None:
        of_draft = or_(action.startswith("draft.", autoescape=True), action == "whatif.report")
        about.append(and_(of_draft, subject == str(draft.draft_id)))
    if glass is not None:
        of_glass = action.startswith("break_glass.", autoescape=True)
        about.append(and_(of_glass, subject == str(glass.break_glass_id)))
    query = select(audit_log).where(or_(*about)).order_by(audit_log.c.sequence.desc()).limit(_AUDIT_ROWS)
    return [
        {
            "sequence": row["sequence"],
            "at": _text(row["at"]),
            "actor": row["actor"],
            "action": row["action"],
            "subject": row["subject"],
            "hash": row["hash"].hex(),
        }
        for row in reversed((await connection.execute(query)).mappings().all())
    ]


async def _log_digest(connection: AsyncConnection, stored: StoredDecision) -> dict[str, Any] | None:
    """The digest of the day that the decision was made on; None until it is made."""
    day = stored.summary.decided_at.astimezone(UTC).date()
    query = select(journal_digests.c.decisions, journal_digests.c.digest).where(
        journal_digests.c.day == day, journal_digests.c.retention_class == stored.summary.retention_class
    )
    row = (await connection.execute(query)).first()
    return None if row is None else {"day": day.isoformat(), "decisions": row.decisions, "digest": row.digest.hex()}


def _text(at: datetime | None) -> str | None:
    return None if at is None else instant_text(at)
