"""Drafts, reports and break-glass, as the API reads and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints

from app.api.schemas.common import AnswerModel, Instant, Reason, RequestModel
from app.api.schemas.policies import Comment, DifferenceDocument
from app.api.schemas.signed import SHOWN_DIGEST, SHOWN_PROOF, SIGNED, Digest, Nonce, Proof, example
from app.domain.policy_changes import Difference
from app.governance.break_glass import BreakGlass
from app.governance.drafts import Draft, DraftState
from app.governance.persons import Rules
from app.governance.reports import Report

MAX_NUMBER = 2**31 - 1

WarningCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]


# What is asked --------------------------------------------------------------------------------------------------------


class DraftQuery(RequestModel):
    """What is said about a draft besides its document."""

    comment: Comment | None = None
    effective_from: Annotated[Instant | None, Field(description="At once when approved, without it.")] = None


class DraftListQuery(RequestModel):
    """A page of drafts, newest first."""

    state: Annotated[tuple[DraftState, ...], Field(description="Any of these; again for more.")] = ()
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before.")] = None


class PageQuery(RequestModel):
    """A page, newest first."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before.")] = None


class RollbackRequest(RequestModel):
    """A version to bring back, signed by who asks: act `submit`, subject `policy`, the digest of that version.

    In the single-person mode it takes no signature.
    """

    model_config = example(version=3, comment="too many escalations", **SIGNED)

    version: Annotated[int, Field(ge=1, le=MAX_NUMBER)]
    comment: Reason
    nonce: Nonce | None = None
    proof: Proof | None = None


class Submission(RequestModel):
    """The author's signature: act `submit`, subject `policy`."""

    model_config = example(**SIGNED)

    nonce: Nonce
    proof: Proof


class Approval(RequestModel):
    """The second person's signature: act `approve`, subject `draft/<id>`, the draft's nonce."""

    model_config = example(
        document_digest=SHOWN_DIGEST,
        report_digest=SHOWN_DIGEST,
        acknowledged_warnings=["L07-shadowed"],
        proof=SHOWN_PROOF,
    )

    document_digest: Digest
    report_digest: Annotated[Digest | None, Field(description="Of a what-if report on this very draft.")] = None
    acknowledged_warnings: Annotated[tuple[WarningCode, ...], Field(max_length=100)] = ()
    comment: Comment | None = None
    proof: Proof


class Closing(RequestModel):
    """Why something is ended."""

    model_config = example(reason="the figures are of another month")

    reason: Reason


class BreakGlassRequest(RequestModel):
    """A version or a draft to put into effect alone: act `break-glass`, subject `policy`, moment `expires_at`."""

    model_config = example(version=3, expires_at="2026-11-25T08:00:00Z", reason="every application escalates", **SIGNED)

    version: Annotated[int | None, Field(ge=1, le=MAX_NUMBER)] = None
    draft_id: Annotated[int | None, Field(ge=1, le=MAX_NUMBER)] = None
    expires_at: Instant
    reason: Reason
    nonce: Nonce
    proof: Proof


class Confirmation(RequestModel):
    """The second person's signature: act `confirm`, subject `break-glass/<id>`, its nonce."""

    model_config = example(document_digest=SHOWN_DIGEST, proof=SHOWN_PROOF)

    document_digest: Digest
    comment: Comment | None = None
    proof: Proof


# What is answered -----------------------------------------------------------------------------------------------------


class RulesDocument(AnswerModel):
    """What changes take here."""

    single_person: bool
    report_required: Annotated[bool, Field(description="Counts where `single_person` is false.")]
    break_glass_hours_max: int

    @classmethod
    def of(cls, rules: Rules) -> Self:
        """The document of the rules."""
        return cls(
            single_person=rules.single_person,
            report_required=rules.report_required,
            break_glass_hours_max=rules.break_glass_hours_max,
        )


class DraftSummaryDocument(AnswerModel):
    """A draft without its document."""

    draft_id: int
    state: DraftState
    name: str
    digest: str
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
    nonce: Annotated[str | None, Field(description="What an approval signs besides the document.")]
    warnings: Annotated[tuple[str, ...], Field(description="Codes of what lint found when it was submitted.")]
    findings: Annotated[tuple[str, ...], Field(description="The same in words, each with its row and column.")]
    approved_by: str | None
    approved_at: datetime | None
    acknowledged_warnings: tuple[str, ...]
    report_digest: str | None
    closed_by: str | None
    closed_at: datetime | None
    closing_note: str | None
    version: int | None
    activated_at: datetime | None

    @classmethod
    def fields_of(cls, draft: Draft) -> dict[str, Any]:
        """The values of a draft."""
        values = {name: getattr(draft, name) for name in DraftSummaryDocument.model_fields}
        report = draft.report_digest
        return values | {"digest": draft.digest.hex(), "report_digest": None if report is None else report.hex()}

    @classmethod
    def of(cls, draft: Draft) -> Self:
        """The document of a draft."""
        return cls(**cls.fields_of(draft))


class DraftDocument(DraftSummaryDocument):
    """A draft with its document, and what it changes of the version that it is based on."""

    document: dict[str, Any]
    differences: tuple[DifferenceDocument, ...]

    @classmethod
    def whole(cls, draft: Draft, found: tuple[Difference, ...]) -> Self:
        """The document of a draft."""
        return cls(
            **cls.fields_of(draft),
            document=draft.document(),
            differences=tuple(DifferenceDocument.of(each) for each in found),
        )


class DraftPage(AnswerModel):
    """One page of drafts, newest first."""

    items: tuple[DraftSummaryDocument, ...]
    next_cursor: str | None


class Differences(AnswerModel):
    """What changes from one version to another."""

    before: int
    after: int
    differences: tuple[DifferenceDocument, ...]


class ReportDocument(AnswerModel):
    """A what-if report on a draft; a list leaves its text out."""

    report_id: int
    draft_id: int
    document_digest: str
    report_digest: str
    created_by: str
    created_at: datetime
    text: Annotated[str | None, Field(description="What `report_digest` was made of.")]

    @classmethod
    def of(cls, report: Report) -> Self:
        """The document of a report."""
        return cls(
            report_id=report.report_id,
            draft_id=report.draft_id,
            document_digest=report.document_digest.hex(),
            report_digest=report.report_digest.hex(),
            created_by=report.created_by,
            created_at=report.created_at,
            text=report.text,
        )


class ReportPage(AnswerModel):
    """Reports on a draft, newest first."""

    items: tuple[ReportDocument, ...]
    next_cursor: str | None


class BreakGlassDocument(AnswerModel):
    """One emergency."""

    break_glass_id: int
    state: Literal["open", "confirmed", "reverted", "superseded"]
    version: int
    digest: str
    returns_to: int
    reason: str
    person_id: str
    nonce: str
    opened_at: datetime
    expires_at: datetime
    confirmed_by: str | None
    ended_at: datetime | None
    ended_by: str | None

    @classmethod
    def of(cls, each: BreakGlass) -> Self:
        """The document of a break-glass."""
        values = {name: getattr(each, name) for name in cls.model_fields}
        return cls(**values | {"digest": each.digest.hex()})


class BreakGlassPage(AnswerModel):
    """One page, newest first."""

    items: tuple[BreakGlassDocument, ...]
    next_cursor: str | None
