"""Policies as the API shows them, and the shape of their document. The compiler, not pydantic, reads a document."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from app.api.schemas.challengers import FindingDocument
from app.api.schemas.common import AnswerModel, Reason, RequestModel
from app.domain.compiled import CompiledPolicy
from app.domain.errors import PolicyProblem
from app.domain.policy_changes import Difference
from app.policies.store import PolicySummary, Rollout, StoredPolicy, Worker

MAX_WAIT_SECONDS = 30
MAX_VERSION = 2**31 - 1

Comment = Annotated[Reason, Field(description="Why, for the audit log.")]
Mode = Annotated[
    Literal["single-person"],
    Field(description="One person may publish alone: this installation asks for no second one."),
]
ThresholdValue: TypeAlias = StrictBool | StrictInt | Decimal | StrictStr


# What is asked --------------------------------------------------------------------------------------------------------


class PublishQuery(RequestModel):
    """How a publish is carried out."""

    wait: Annotated[
        float, Field(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait until all live workers serve it.")
    ] = 0.0
    comment: Comment | None = None


class WaitQuery(RequestModel):
    """How a small change is carried out."""

    wait: Annotated[
        float, Field(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait until all live workers serve it.")
    ] = 0.0


class VersionQuery(RequestModel):
    """A page of versions, newest first."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before.")] = None


class ThresholdChange(RequestModel):
    """One threshold of one rule for one tier."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"value": 600, "comment": "approved losses are low"}]})

    value: Annotated[
        ThresholdValue | Annotated[tuple[ThresholdValue, ...], Field(min_length=1, max_length=1000)] | None,
        Field(description="Money in minor units. Null: the rule does not apply to the tier."),
    ]
    comment: Comment | None = None


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BilingualText(_Section):
    """A text in both languages."""

    en: Annotated[str, Field(max_length=500)]
    zh: Annotated[str, Field(max_length=500)]


class TierRow(_Section):
    """A tier; rank 1 is the most trusted."""

    code: str
    rank: Annotated[int, Field(ge=1, le=20)]
    name: BilingualText


class ConditionRow(_Section):
    """When a rule applies."""

    field: str
    op: Literal["at_least", "at_most", "above", "below", "is", "is_not", "one_of", "none_of", "known"]
    value: Any
    if_missing: Literal["reject", "escalate", "pass"] | dict[str, Literal["reject", "escalate", "pass"]] = "escalate"


class RuleRow(_Section):
    """One row of the table: the requirement that must hold, by tier, and what follows where it does not."""

    code: str
    when: list[ConditionRow] = []
    field: str
    op: Literal["at_least", "at_most", "above", "below", "is", "is_not", "one_of", "none_of", "known"]
    thresholds: Annotated[dict[str, Any], Field(description="One for every tier; null: does not apply to the tier.")]
    effect: Literal["reject", "escalate"] | dict[str, Literal["reject", "escalate"]]
    if_missing: Literal["reject", "escalate", "pass"] | dict[str, Literal["reject", "escalate", "pass"]] | None = None
    priority: int = 0
    confidential: bool = False
    reason: BilingualText
    missing_reason: BilingualText | None = None


class PolicyBody(BaseModel):
    """A whole policy. `docs/policy-authoring.md` explains every section; `channel-gate policy show` prints one."""

    model_config = ConfigDict(extra="forbid", title="PolicyBody")

    name: str
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    tiers: list[TierRow]
    default_tier: str
    probation: dict[str, str]
    consent_required: bool
    jurisdictions: list[str] | None = None
    products: dict[str, dict[str, Any]]
    attributes: list[dict[str, Any]] = []
    income: dict[str, Any]
    ceiling: dict[str, Any]
    offer_valid_days: int
    rules: list[RuleRow]
    cases: list[dict[str, Any]] = []


# What is answered -----------------------------------------------------------------------------------------------------


class DifferenceDocument(AnswerModel):
    """One thing that changed."""

    path: str
    before: Any
    after: Any
    text: Annotated[
        str, Field(description="The same, to read.", examples=["BU03 bureau.score for general: 620 -> 640"])
    ]

    @classmethod
    def of(cls, difference: Difference) -> Self:
        """The document of a difference."""
        return cls(path=difference.path, before=difference.before, after=difference.after, text=str(difference))


class PolicyFault(AnswerModel):
    """Something wrong in one row and column of a policy."""

    row: str
    column: str
    detail: str


class WorkerDocument(AnswerModel):
    """A live worker process and what it serves."""

    worker_id: UUID
    host: str
    pid: int
    engine: str
    started_at: datetime
    snapshot_revision: int
    policy_version: int | None
    seen_at: datetime
    lease_until: datetime
    confirmed: bool

    @classmethod
    def of(cls, worker: Worker, revision: int) -> Self:
        """The document of a worker."""
        return cls(**asdict(worker), confirmed=worker.snapshot_revision >= revision)


class RolloutDocument(AnswerModel):
    """Which worker serves what. Confirmed: every live worker has read `revision` or a later one."""

    revision: int
    policy_version: int | None
    confirmed: bool
    workers: tuple[WorkerDocument, ...]

    @classmethod
    def of(cls, rollout: Rollout) -> Self:
        """The document of a rollout."""
        return cls(
            revision=rollout.revision,
            policy_version=rollout.policy_version,
            confirmed=not rollout.pending,
            workers=tuple(WorkerDocument.of(worker, rollout.revision) for worker in rollout.workers),
        )


class PublishedRollout(AnswerModel):
    """How far a publish has come."""

    revision: int
    confirmed: bool
    live_workers: int
    pending: tuple[WorkerDocument, ...]

    @classmethod
    def of(cls, rollout: Rollout) -> Self:
        """The document of a rollout."""
        return cls(
            revision=rollout.revision,
            confirmed=not rollout.pending,
            live_workers=len(rollout.workers),
            pending=tuple(WorkerDocument.of(worker, rollout.revision) for worker in rollout.pending),
        )


class CaseResults(AnswerModel):
    """What came of the policy's own cases. A whole policy whose cases fail is refused; a small change tells them."""

    total: int
    failed: tuple[PolicyFault, ...]

    @classmethod
    def of(cls, compiled: CompiledPolicy, problems: tuple[PolicyProblem, ...]) -> Self:
        """The results of a policy."""
        faults = tuple(PolicyFault(row=each.row, column=each.column, detail=each.detail) for each in problems)
        return cls(total=len(compiled.document.cases), failed=faults)


class PublishedPolicy(AnswerModel):
    """What publishing did."""

    version: int
    mode: Mode
    changed: Annotated[bool, Field(description="False where the active version was this document already.")]
    based_on: int | None
    differences: Annotated[tuple[DifferenceDocument, ...], Field(description="Against the version before.")]
    cases: CaseResults
    rollout: PublishedRollout


class ValidatedPolicy(AnswerModel):
    """A document that compiles, and what publishing it would change."""

    valid: Literal[True]
    name: str
    rules: int
    cases: CaseResults
    findings: Annotated[tuple[FindingDocument, ...], Field(description="What lint finds, without asking the log.")]
    compared_with: Annotated[int | None, Field(description="The active version.")]
    differences: tuple[DifferenceDocument, ...]


class PolicySummaryDocument(AnswerModel):
    """A version without its document; active over [activated_at, retired_at)."""

    version: int
    name: str
    active: bool
    digest: Annotated[str, Field(description="SHA-256 of the canonical document, hex.")]
    based_on: int | None
    comment: str | None
    created_by: str
    created_at: datetime
    activated_at: datetime | None
    retired_at: datetime | None

    @classmethod
    def of(cls, summary: PolicySummary) -> Self:
        """The document of a summary."""
        return cls(
            version=summary.version,
            name=summary.name,
            active=summary.active,
            digest=summary.digest.hex(),
            based_on=summary.based_on,
            comment=summary.comment,
            created_by=summary.created_by,
            created_at=summary.created_at,
            activated_at=summary.activated_at,
            retired_at=summary.retired_at,
        )


class PolicyPage(AnswerModel):
    """One page of versions, newest first."""

    active_version: int | None
    items: tuple[PolicySummaryDocument, ...]
    next_cursor: str | None


class PolicyVersionDocument(AnswerModel):
    """A version as it will always be: whether it is active now is in the list."""

    version: int
    name: str
    digest: Annotated[str, Field(description="SHA-256 of the canonical document, hex.")]
    based_on: int | None
    comment: str | None
    created_by: str
    created_at: datetime
    document: dict[str, Any]

    @classmethod
    def of(cls, stored: StoredPolicy) -> Self:
        """The document of a stored version."""
        summary = stored.summary
        return cls(
            version=summary.version,
            name=summary.name,
            digest=summary.digest.hex(),
            based_on=summary.based_on,
            comment=summary.comment,
            created_by=summary.created_by,
            created_at=summary.created_at,
            document=stored.document(),
        )
