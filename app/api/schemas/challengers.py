"""The challenger and the findings of lint as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.api.schemas.common import AnswerModel, Reason, RequestModel
from app.domain.lint_findings import FieldUsage, Finding
from app.policies.challenger import FULL_SAMPLE_PPM, ReasonShift, ShadowCell, ShadowReport, StoredChallenger

Comment = Annotated[Reason, Field(description="Why, for the audit log.")]


class LintQuery(RequestModel):
    """How a policy is linted."""

    against_log: Annotated[
        bool, Field(description="Tell fields that the applications of the last 30 days never carried.")
    ] = False


class FindingDocument(AnswerModel):
    """One thing that lint found."""

    severity: Annotated[Literal["error", "warning"], Field(description="An error keeps a draft from approval.")]
    code: Annotated[str, Field(description="Stable; approvals acknowledge warnings by it.", examples=["L07-shadowed"])]
    row: str
    column: str
    detail: str

    @classmethod
    def of(cls, finding: Finding) -> Self:
        """The document of a finding."""
        return cls(
            severity=finding.severity,
            code=finding.code.value,
            row=finding.row,
            column=finding.column,
            detail=finding.detail,
        )


class LintReport(AnswerModel):
    """What lint found: errors first, then in the order of the document."""

    errors: int
    warnings: int
    applications: Annotated[int | None, Field(description="How many applications fields were looked for in.")]
    findings: tuple[FindingDocument, ...]

    @classmethod
    def of(cls, findings: tuple[Finding, ...], usage: FieldUsage | None) -> Self:
        """The report of findings."""
        errors = sum(finding.severity == "error" for finding in findings)
        return cls(
            errors=errors,
            warnings=len(findings) - errors,
            applications=None if usage is None else usage.applications,
            findings=tuple(FindingDocument.of(finding) for finding in findings),
        )


class ChallengerQuery(RequestModel):
    """How a challenger is evaluated."""

    sample: Annotated[float, Field(ge=0.000001, le=1, description="The share of decisions that it is tried on.")] = 1.0
    comment: Comment | None = None


class CommentQuery(RequestModel):
    """Why."""

    comment: Comment | None = None


class ReportQuery(RequestModel):
    """The hours that a report covers: those that begin in [from, to)."""

    since: Annotated[AwareDatetime | None, Field(alias="from", description="RFC 3339.")] = None
    until: Annotated[AwareDatetime | None, Field(alias="to", description="RFC 3339.")] = None


class ChallengerDocument(AnswerModel):
    """A policy that is evaluated beside the active one, without effect."""

    number: int
    name: str
    digest: Annotated[str, Field(description="SHA-256 of the canonical document, hex.")]
    sample: float
    comment: str | None
    set_by: str
    set_at: datetime
    cleared_at: Annotated[datetime | None, Field(description="Null while it is evaluated.")]

    @classmethod
    def of(cls, challenger: StoredChallenger) -> Self:
        """The document of a challenger."""
        return cls(
            number=challenger.number,
            name=challenger.name,
            digest=challenger.digest.hex(),
            sample=challenger.sample_ppm / FULL_SAMPLE_PPM,
            comment=challenger.comment,
            set_by=challenger.set_by,
            set_at=challenger.set_at,
            cleared_at=challenger.cleared_at,
        )


class ShadowCellDocument(AnswerModel):
    """Decisions of one channel and tier by the outcome that they had and the one that they would have had."""

    channel: str
    tier: str
    before: str
    after: Annotated[str, Field(description="`refused`: the challenger does not read such an application.")]
    evaluations: int
    examples: Annotated[tuple[UUID, ...], Field(description="Ids of a few of these decisions.")]

    @classmethod
    def of(cls, cell: ShadowCell) -> Self:
        """The document of a cell."""
        return cls(
            channel=cell.channel,
            tier=cell.tier,
            before=cell.before,
            after=cell.after,
            evaluations=cell.evaluations,
            examples=cell.examples,
        )


class ReasonShiftDocument(AnswerModel):
    """A reason that came or went."""

    channel: str
    tier: str
    code: str
    gained: int
    lost: int

    @classmethod
    def of(cls, shift: ReasonShift) -> Self:
        """The document of a shift."""
        return cls(channel=shift.channel, tier=shift.tier, code=shift.code, gained=shift.gained, lost=shift.lost)


class ChallengerReport(AnswerModel):
    """The challenger and what it would have decided. The last few seconds may be missing."""

    challenger: ChallengerDocument
    evaluations: int
    flips: int
    agreement: Annotated[float | None, Field(description="The share that it would have decided alike.")]
    errors: Annotated[int, Field(description="Decisions whose evaluation failed.")]
    dropped: Annotated[int, Field(description="Decisions that were sampled and never evaluated.")]
    outcomes: tuple[ShadowCellDocument, ...]
    reasons: tuple[ReasonShiftDocument, ...]

    @classmethod
    def of(cls, challenger: StoredChallenger, report: ShadowReport) -> Self:
        """The document of a report."""
        total = report.evaluations
        return cls(
            challenger=ChallengerDocument.of(challenger),
            evaluations=total,
            flips=report.flips,
            agreement=round(1 - report.flips / total, 6) if total else None,
            errors=report.errors,
            dropped=report.dropped,
            outcomes=tuple(ShadowCellDocument.of(cell) for cell in report.cells),
            reasons=tuple(ReasonShiftDocument.of(shift) for shift in report.reasons),
        )
