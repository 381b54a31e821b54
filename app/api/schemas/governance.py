"""Drafts, break-glass and change requests, as the API reads and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints

from app.api.schemas.budgets import MAX_UNITS, BudgetFields
from app.api.schemas.common import AnswerModel, Code, Instant, Jurisdiction, ProductCode, Reason, RequestModel, TierCode
from app.api.schemas.policies import Comment, DifferenceDocument
from app.channels.tiers import Cause
from app.domain.channel import ChannelState
from app.domain.policy_changes import Difference
from app.governance.break_glass import BreakGlass
from app.governance.drafts import Draft, DraftState
from app.governance.persons import Rules
from app.governance.reports import Report
from app.governance.requests import ChangeRequest

MAX_NUMBER = 2**31 - 1

_SHOWN_PROOF = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
_SHOWN_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_SIGNED = {"nonce": "f4c9385fdf8f4c0b8a1d2b3c4d5e6f70", "proof": _SHOWN_PROOF}


def _example(**shown: Any) -> ConfigDict:
    """An example of the form: a real proof fits one statement of one person."""
    return ConfigDict(json_schema_extra={"examples": [shown]})


Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[Hex32, Field(description="SHA-256, hex.")]
Proof = Annotated[
    Hex32,
    Field(description="Proof that the caller signed, hex. `docs/governance.md` says what is signed and how."),
]
Nonce = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9-]{16,64}$"),
    Field(description="Of the signer's own, new each time."),
]
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


class ChangeQuery(PageQuery):
    """A page of change requests, newest first."""

    state: Literal["pending", "applied", "rejected", "withdrawn"] | None = None


class RollbackRequest(RequestModel):
    """A version to bring back, signed by who asks: act `submit`, subject `policy`, the digest of that version.

    In the single-person mode it takes no signature.
    """

    model_config = _example(version=3, comment="too many escalations", **_SIGNED)

    version: Annotated[int, Field(ge=1, le=MAX_NUMBER)]
    comment: Reason
    nonce: Nonce | None = None
    proof: Proof | None = None


class Submission(RequestModel):
    """The author's signature: act `submit`, subject `policy`."""

    model_config = _example(**_SIGNED)

    nonce: Nonce
    proof: Proof


class Approval(RequestModel):
    """The second person's signature: act `approve`, subject `draft/<id>`, the draft's nonce."""

    model_config = _example(
        document_digest=_SHOWN_DIGEST,
        report_digest=_SHOWN_DIGEST,
        acknowledged_warnings=["L07-shadowed"],
        proof=_SHOWN_PROOF,
    )

    document_digest: Digest
    report_digest: Annotated[Digest | None, Field(description="Of a what-if report on this very draft.")] = None
    acknowledged_warnings: Annotated[tuple[WarningCode, ...], Field(max_length=100)] = ()
    comment: Comment | None = None
    proof: Proof


class Closing(RequestModel):
    """Why something is ended."""

    model_config = _example(reason="the figures are of another month")

    reason: Reason


class BreakGlassRequest(RequestModel):
    """A version or a draft to put into effect alone: act `break-glass`, subject `policy`, moment `expires_at`."""

    model_config = _example(
        version=3, expires_at="2026-11-25T08:00:00Z", reason="every application escalates", **_SIGNED
    )

    version: Annotated[int | None, Field(ge=1, le=MAX_NUMBER)] = None
    draft_id: Annotated[int | None, Field(ge=1, le=MAX_NUMBER)] = None
    expires_at: Instant
    reason: Reason
    nonce: Nonce
    proof: Proof


class Confirmation(RequestModel):
    """The second person's signature: act `confirm`, subject `break-glass/<id>`, its nonce."""

    model_config = _example(document_digest=_SHOWN_DIGEST, proof=_SHOWN_PROOF)

    document_digest: Digest
    comment: Comment | None = None
    proof: Proof


class ChannelStateRequest(RequestModel):
    """A channel moves to another state: the payload is `{"from": ..., "to": ...}`."""

    model_config = _example(
        kind="channel.state",
        channel="campus-group",
        before="proposed",
        after="probation",
        reason="diligence passed",
        **_SIGNED,
    )

    kind: Literal["channel.state"]
    channel: Code
    before: ChannelState
    after: ChannelState
    reason: Reason
    nonce: Nonce
    proof: Proof


class TierAssignmentRequest(RequestModel):
    """A scope gets a tier from the approval on. `manual` is an override and has an end; other causes have none."""

    model_config = _example(
        kind="tier.assign",
        channel="loan-market",
        tier="general",
        valid_to="2027-01-31T00:00:00Z",
        reason="trial",
        **_SIGNED,
    )

    kind: Literal["tier.assign"]
    channel: Code
    tier: TierCode
    product: ProductCode | None = None
    jurisdiction: Jurisdiction | None = None
    cause: Cause = Cause.MANUAL
    valid_to: Instant | None = None
    reason: Reason
    nonce: Nonce
    proof: Proof


class BudgetRequest(BudgetFields):
    """A scope's budget is opened or gets other limits. The subject is the channel's code, or `*`; the payload is the
    rest of the budget, every field of it, null where it is absent.
    """

    model_config = _example(
        kind="budget.set",
        channel="loan-market",
        period="monthly",
        measure="count",
        limit=80,
        reason="the first 50 were good",
        **_SIGNED,
    )

    kind: Literal["budget.set"]
    reason: Reason
    nonce: Nonce
    proof: Proof


class BudgetEndRequest(RequestModel):
    """An open budget ends: the payload is `{"budget_id": ...}`."""

    model_config = _example(
        kind="budget.end", channel="loan-market", budget_id=3, reason="off probation for good", **_SIGNED
    )

    kind: Literal["budget.end"]
    channel: Annotated[Code | None, Field(description="Whose it is; null: of all channels together.")] = None
    budget_id: Annotated[int, Field(ge=1, le=MAX_UNITS)]
    reason: Reason
    nonce: Nonce
    proof: Proof


class ChangeApproval(RequestModel):
    """The second person's signature: act `approve`, subject `request/<id>`, its nonce."""

    model_config = _example(payload_digest=_SHOWN_DIGEST, proof=_SHOWN_PROOF)

    payload_digest: Digest
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


class ChangeRequestDocument(AnswerModel):
    """A change that takes two persons."""

    change_id: int
    kind: str
    subject: str
    payload: dict[str, Any]
    digest: Annotated[str, Field(description="Of the canonical payload: what both persons sign.")]
    reason: str
    state: Literal["pending", "applied", "rejected", "withdrawn"]
    requested_by: str
    requested_at: datetime
    nonce: str
    approved_by: str | None
    closed_by: str | None
    closed_at: datetime | None
    closing_note: str | None

    @classmethod
    def of(cls, asked: ChangeRequest) -> Self:
        """The document of a request."""
        values = {name: getattr(asked, name) for name in cls.model_fields}
        return cls(**values | {"digest": asked.digest.hex(), "payload": asked.content()})


class ChangeRequestPage(AnswerModel):
    """One page, newest first."""

    items: tuple[ChangeRequestDocument, ...]
    next_cursor: str | None
