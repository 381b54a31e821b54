"""Drafts of policies: draft -> in_review -> approved -> active -> retired, or rejected, or withdrawn.

Each change is one statement that calls the database's functions, as the governance login: it checks who signs, moves
the state and appends to the audit log, or does nothing at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import RowMapping, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import policy_drafts
from app.domain.canonical import Json, canonical_bytes, digest
from app.domain.compiled import CompiledPolicy
from app.domain.policy import PolicyDocument
from app.domain.policy_reader import parse_policy
from app.governance.signature import Signature
from app.policies.store import StoredPolicy

MAX_PAGE = 100


class DraftState(StrEnum):
    """Where a draft is. Rejected, withdrawn and retired are final."""

    DRAFT = "draft"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    """Waits for its time."""
    ACTIVE = "active"
    RETIRED = "retired"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A draft as it is stored.

    `contributors` wrote it and cannot approve it. `nonce` is what an approval signs together with the document.
    `closing_note` says why it was rejected or withdrawn, or how it lapsed.
    """

    draft_id: int
    state: DraftState
    name: str
    text: str
    digest: bytes
    repeats_version: int | None
    based_on: int | None
    comment: str | None
    effective_from: datetime | None
    contributors: tuple[str, ...]
    created_by: str
    created_at: datetime
    updated_at: datetime
    revision: int
    submitted_by: str | None
    submitted_at: datetime | None
    nonce: str | None
    warnings: tuple[str, ...]
    findings: tuple[str, ...]
    approved_by: str | None
    approved_at: datetime | None
    acknowledged_warnings: tuple[str, ...]
    report_digest: bytes | None
    approval_comment: str | None
    closed_by: str | None
    closed_at: datetime | None
    closing_note: str | None
    version: int | None
    activated_at: datetime | None

    def document(self) -> dict[str, Json]:
        """The document as parsed JSON."""
        document: dict[str, Json] = json.loads(self.text)
        return document

    def policy(self) -> PolicyDocument:
        """The document as typed values.

        Raises:
            PolicyError: where this version of the service cannot read it.
        """
        return parse_policy(self.document())


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftContent:
    """What a draft says: a policy that compiles, why, and from when on. `digest` is what persons sign."""

    name: str
    text: str
    comment: str | None = None
    effective_from: datetime | None = None
    repeats_version: int | None = None

    @classmethod
    def of(cls, compiled: CompiledPolicy, *, comment: str | None, effective_from: datetime | None) -> DraftContent:
        """The content of a compiled policy, which is proof that it decides."""
        content = canonical_bytes(compiled.document.document())
        return cls(name=compiled.document.name, text=content.decode(), comment=comment, effective_from=effective_from)

    @classmethod
    def repeating(cls, stored: StoredPolicy, *, comment: str | None, effective_from: datetime | None) -> DraftContent:
        """The content that brings a version back as it was."""
        return cls(
            name=stored.summary.name,
            text=stored.text,
            comment=comment,
            effective_from=effective_from,
            repeats_version=stored.version,
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical document."""
        return digest(self.text.encode())


_CREATE = text(
    "SELECT * FROM gate.draft_create(:name, :document, :digest, :repeats_version, :comment, :effective_from,"
    " :contributor, :actor, :request_id)"
)
_AMEND = text(
    "SELECT * FROM gate.draft_amend(:draft_id, :expected_revision, :name, :document, :digest, :comment,"
    " :effective_from, :contributor, :actor, :request_id)"
)
_SUBMIT = text(
    "SELECT * FROM gate.draft_submit(:draft_id, :person_id, :nonce, :digest, :warnings, :findings,"
    " :proof, :actor, :request_id)"
)
_CREATE_SUBMITTED = text(
    "SELECT submitted.* FROM gate.draft_create(:name, :document, :digest, :repeats_version, :comment, :effective_from,"
    " :contributor, :actor, :request_id) AS draft,"
    " LATERAL gate.draft_submit(draft.draft_id, :person_id, :nonce, :digest, :warnings, :findings, :proof, :actor,"
    " :request_id) AS submitted"
)
_APPROVE = text(
    "SELECT * FROM gate.draft_approve(:draft_id, :person_id, :digest, :report_digest, :acknowledged, :comment, :proof,"
    " :actor, :request_id)"
)
_CLOSE = text("SELECT * FROM gate.draft_close(:draft_id, :state, :expected_revision, :note, :actor, :request_id)")


async def create_draft(
    connection: AsyncConnection, content: DraftContent, *, contributor: str | None, change: Change
) -> Draft:
    """Store a draft on top of the active version. `contributor`: the person who writes, where one is known.

    Raises:
        InvalidChangeError: where it says to repeat a version and does not.
    """
    given = {**_content(content), "repeats_version": content.repeats_version, "contributor": contributor}
    return await _changed(connection, _CREATE, given, change)


async def amend_draft(
    connection: AsyncConnection,
    draft_id: int,
    content: DraftContent,
    *,
    expected_revision: int,
    contributor: str | None,
    change: Change,
) -> Draft:
    """Give a draft another document, on top of what is active now.

    Raises:
        UnknownSubjectError, StaleChangeError: nothing was changed.
        ConflictingChangeError: where it has been submitted.
    """
    given = {
        **_content(content),
        "draft_id": draft_id,
        "expected_revision": expected_revision,
        "contributor": contributor,
    }
    return await _changed(connection, _AMEND, given, change)


async def submit_draft(
    connection: AsyncConnection,
    draft: Draft,
    *,
    signature: Signature,
    nonce: str,
    warnings: Iterable[str],
    findings: Iterable[str] = (),
    change: Change,
) -> Draft:
    """Put a draft up for review, signed by its author. `warnings`: the codes that lint found,
    and `findings` says each in words.

    Raises:
        ForbiddenChangeError: where the signature does not hold, or its person writes no policies.
        ConflictingChangeError, StaleChangeError: where the draft has moved on.
    """
    given = {
        "draft_id": draft.draft_id,
        "person_id": signature.person_id,
        "nonce": nonce,
        "digest": draft.digest,
        "warnings": sorted(set(warnings)),
        "findings": list(findings),
        "proof": signature.proof,
    }
    return await _changed(connection, _SUBMIT, given, change)


async def create_submitted_draft(
    connection: AsyncConnection,
    content: DraftContent,
    *,
    contributor: str | None,
    signature: Signature,
    nonce: str,
    warnings: Iterable[str],
    findings: Iterable[str] = (),
    change: Change,
) -> Draft:
    """Store a draft that is in review already: one statement, so that both happen or neither does.

    Raises:
        ForbiddenChangeError, InvalidChangeError: as for `create_draft` and `submit_draft`.
    """
    given = {
        **_content(content),
        "repeats_version": content.repeats_version,
        "contributor": contributor,
        "person_id": signature.person_id,
        "nonce": nonce,
        "warnings": sorted(set(warnings)),
        "findings": list(findings),
        "proof": signature.proof,
    }
    return await _changed(connection, _CREATE_SUBMITTED, given, change)


async def approve_draft(
    connection: AsyncConnection,
    draft_id: int,
    *,
    signature: Signature,
    document_digest: bytes,
    report_digest: bytes | None,
    acknowledged: Iterable[str],
    comment: str | None,
    change: Change,
) -> Draft:
    """Approve a draft as a second person; active at once where it names no later time.

    Raises:
        ForbiddenChangeError: where the signature does not hold, or the person wrote it or approves no policies.
        StaleChangeError: where the document is another one, or another policy is active than it was made from.
        InvalidChangeError: where the report is missing or another draft's, or warnings are not acknowledged.
        ConflictingChangeError: where it is not in review, or channels have tiers that it lacks.
    """
    given = {
        "draft_id": draft_id,
        "person_id": signature.person_id,
        "digest": document_digest,
        "report_digest": report_digest,
        "acknowledged": sorted(set(acknowledged)),
        "comment": comment,
        "proof": signature.proof,
    }
    return await _changed(connection, _APPROVE, given, change)


async def close_draft(
    connection: AsyncConnection,
    draft_id: int,
    state: DraftState,
    *,
    note: str,
    expected_revision: int | None = None,
    change: Change,
) -> Draft:
    """Reject a draft that is in review, or withdraw one that is not active yet.

    Raises:
        UnknownSubjectError, StaleChangeError, ConflictingChangeError: nothing was changed.
    """
    given = {"draft_id": draft_id, "state": state.value, "expected_revision": expected_revision, "note": note}
    return await _changed(connection, _CLOSE, given, change)


async def find_draft(connection: AsyncConnection, draft_id: int) -> Draft | None:
    """A draft by its number."""
    row = (await connection.execute(select(policy_drafts).where(policy_drafts.c.draft_id == draft_id))).mappings()
    found = row.first()
    return None if found is None else _draft(found)


async def draft_of_version(connection: AsyncConnection, version: int) -> Draft | None:
    """The draft that became this version; None where it was published otherwise."""
    rows = (await connection.execute(select(policy_drafts).where(policy_drafts.c.version == version))).mappings()
    found = rows.first()
    return None if found is None else _draft(found)


async def list_drafts(
    connection: AsyncConnection,
    *,
    states: frozenset[DraftState] = frozenset(),
    before_id: int | None = None,
    limit: int = MAX_PAGE,
) -> tuple[Draft, ...]:
    """At most `limit` drafts, the newest first, beginning below `before_id`."""
    query = select(policy_drafts).order_by(policy_drafts.c.draft_id.desc()).limit(limit)
    if states:
        query = query.where(policy_drafts.c.state.in_(sorted(states)))
    if before_id is not None:
        query = query.where(policy_drafts.c.draft_id < before_id)
    return tuple(_draft(row) for row in (await connection.execute(query)).mappings())


def _content(content: DraftContent) -> dict[str, Any]:
    return {
        "name": content.name,
        "document": content.text,
        "digest": content.digest,
        "comment": content.comment,
        "effective_from": content.effective_from,
    }


async def _changed(connection: AsyncConnection, statement: Any, given: dict[str, Any], change: Change) -> Draft:
    with refusals():
        row = (
            (await connection.execute(statement, given | {"actor": change.actor, "request_id": change.request_id}))
            .mappings()
            .one()
        )
    return _draft(row)


def _draft(row: RowMapping) -> Draft:
    values: dict[str, Any] = {
        name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()
    }
    for name in ("contributors", "warnings", "findings", "acknowledged_warnings"):
        values[name] = tuple(values[name] or ())
    values["state"] = DraftState(values["state"])
    values["text"] = values.pop("document")
    return Draft(**values)
