"""The audit log and an auditor's bundle, as the API shows them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field

from app.api.schemas.common import AnswerModel, RequestModel


class AuditQuery(RequestModel):
    """A page of the audit log, oldest first."""

    after: Annotated[int, Field(ge=0, le=2**53, description="Begin after this row.")] = 0
    cursor: Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before.")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class AuditRow(AnswerModel):
    """One admin change: `hash` is SHA-256 over the hash before and the payload's text."""

    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    request_id: str | None
    payload: Annotated[dict[str, Any], Field(description="Before, after and why.")]
    previous_hash: str
    hash: str

    @classmethod
    def of(cls, row: Any) -> Self:
        """The document of a row."""
        return cls(
            sequence=row.sequence,
            at=row.at,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            request_id=row.request_id,
            payload=json.loads(row.payload),
            previous_hash=row.previous_hash.hex(),
            hash=row.hash.hex(),
        )


class AuditPage(AnswerModel):
    """One page of the audit log, oldest first."""

    items: tuple[AuditRow, ...]
    next_cursor: str | None


class DecisionBundle(AnswerModel):
    """Everything that an auditor needs of one decision."""

    decision: dict[str, Any]
    policy: dict[str, Any] | None
    approval: dict[str, Any]
    tier: dict[str, Any]
    channel: dict[str, Any] | None
    audit: tuple[dict[str, Any], ...]
    log_digest: Annotated[dict[str, Any] | None, Field(description="Null until the day's digest is made.")]
