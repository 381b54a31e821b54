"""Decisions as they are answered and read back. Amounts are in minor units, instants in UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from app.api.schemas.common import Instant, RequestModel
from app.domain.application import MAX_REVISIONS
from app.domain.channel import ChannelState
from app.domain.fields import Source
from app.domain.reasons import NextAction, Outcome
from app.journal.reader import MAX_PAGE
from app.screening.explanation import Language
from app.screening.payload import Code

Shown: TypeAlias = bool | int | str | list[bool | int | str] | None
"""An observed value or a threshold in its JSON form; fractions are decimal text."""
RuleCode: TypeAlias = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,31}$")]
AdverseEffect: TypeAlias = Annotated[str, Field(json_schema_extra={"enum": ["reject", "escalate"]})]


class NoticeText(BaseModel):
    """One text in both languages."""

    en: str
    zh: str


class NoticeReason(BaseModel):
    """A principal reason as the applicant's notice may give it."""

    code: str | None = Field(description="The rule; null where it is confidential.")
    text: NoticeText
    source: Source | None = Field(description="Whose data it rests on; null where the rule is confidential.")


class Amount(BaseModel):
    """Money in minor units."""

    amount: int = Field(ge=0)
    currency: str = Field(description="ISO 4217.")


class CounterOffer(Amount):
    """What the applicant may have instead: accept it by a new revision with this amount or less."""

    valid_until: datetime


class DecisionDocument(BaseModel):
    """The answer to an application: the same bytes whenever the same request is repeated."""

    decision_id: UUID
    application_id: str
    revision: int = Field(ge=1, le=MAX_REVISIONS)
    channel_code: str = Field(description="The channel's own code, also where an alias was sent.")
    outcome: Outcome
    next_action: NextAction = Field(
        description="`proceed`, `review` (a person decides), `held` (the limit of the source is used up), "
        "`counter_offer` (a smaller amount is possible), `decline`."
    )
    reasons: list[NoticeReason] = Field(max_length=4, description="The principal reasons, the most severe first.")
    tier: str
    policy_version: int = Field(ge=1)
    ceiling: Amount | None = Field(description="The most that can be lent; null where it could not be verified.")
    counter_offer: CounterOffer | None
    decided_at: datetime
    due_at: datetime | None = Field(description="By when the applicant must hear of what a person decides.")


class RecordedReason(BaseModel):
    """A failed or undecidable rule, whole."""

    code: str
    field: str
    observed: Shown = Field(description="Null where the field was unknown; `cause` says why.")
    threshold: Shown
    effect: AdverseEffect
    cause: str | None = Field(description="Why the field was unknown.")
    text: NoticeText
    source: Source
    priority: int
    confidential: bool
    principal: bool = Field(description="Whether the notice names it.")


class AppliedCap(BaseModel):
    """A cap that counted."""

    cap: str
    amount: int


class MissingCap(BaseModel):
    """A cap that could not be computed, and which unknown field is why."""

    cap: str
    field: str
    cause: str


class RecordedCeiling(Amount):
    """The ceiling with every cap that it is the least of."""

    binding: str
    applied: list[AppliedCap]
    not_applied: list[MissingCap]
    income_used: int | None = Field(description="Monthly income that counted, after the haircut for weak proof.")


class RecordedStanding(BaseModel):
    """How the channel stood."""

    channel_id: int
    code: str
    state: ChannelState
    served: bool
    tier: str
    rules_tier: str
    ceiling_tier: str


class DecisionRecord(BaseModel):
    """Everything that was decided and from what; with the input it makes a replay exact."""

    engine: str
    decision_id: UUID
    policy_version: int
    at: datetime
    standing: RecordedStanding
    facts: dict[str, bool | int | str]
    not_evaluated: list[str] = Field(description="Rules whose facts were not gathered.")
    outcome: Outcome
    next_action: NextAction
    reasons: list[RecordedReason]
    ceiling: RecordedCeiling
    counter_offer: CounterOffer | None
    due_at: datetime | None


class DecisionSummaryDocument(BaseModel):
    """One row of the list that analysts, reviewers and admins see."""

    decision_id: UUID
    decided_at: datetime
    originator: str
    application_id: str
    revision: int
    channel_code: str
    sub_id: str | None
    product: str
    jurisdiction: str | None
    tier: str
    policy_version: int
    engine: str
    outcome: Outcome
    next_action: NextAction
    amount: int
    currency: str
    term_months: int
    ceiling_amount: int | None
    offered_amount: int | None
    reason_codes: list[str]
    retention_class: str
    erased_at: datetime | None


class DecisionDetail(DecisionSummaryDocument):
    """A decision with everything that is stored of it, and what it would have been under the other tiers."""

    response: DecisionDocument
    record: DecisionRecord | None = Field(description="Null where the person's data has been erased.")
    input: dict[str, Any] | None = Field(description="The request; null where the person's data has been erased.")
    outcomes_by_tier: dict[str, Outcome] | None = Field(
        description="What the request alone comes to under each tier of its policy version, all else equal. Computed "
        "when it is asked for; null where there is nothing left to compute it from."
    )
    tier_decisive: bool | None = Field(description="Whether another tier would have led to another outcome.")


class DecisionPage(BaseModel):
    """Decisions, newest first."""

    items: list[DecisionDocument] | list[DecisionSummaryDocument]
    next_cursor: str | None = Field(
        description="Send it as `cursor` for what follows; null at the end. A page may be short, even empty, and still "
        "have a next one: a rare filter over a long log is answered in parts."
    )


class DataSource(BaseModel):
    """Whose data a reason rests on."""

    code: Source
    name: str


class ExplainedReason(BaseModel):
    """A reason in the language asked for. What follows `data_source` is for analysts, reviewers and admins."""

    code: str | None = Field(description="Null where the rule is confidential and the caller may not see it.")
    text: str
    data_source: DataSource | None
    field: str | None = None
    observed: Shown = None
    threshold: Shown = None
    effect: str | None = None
    cause: str | None = None
    confidential: bool | None = None


class ExplainedCap(BaseModel):
    """One cap of the ceiling."""

    cap: str
    name: str
    applied: bool
    binding: bool = Field(description="Whether it is the least of those that applied.")
    why_not: str | None = Field(description="Why it did not apply, where it did not.")
    amount: int | None = Field(default=None, description="For analysts, reviewers and admins.")


class ExplainedCeiling(BaseModel):
    """The most that this applicant may borrow through this channel's tier, and why."""

    amount: int | None
    currency: str
    stands: bool = Field(description="False where a cap that the policy insists on could not be applied.")
    caps: list[ExplainedCap]


class ExplainedOffer(CounterOffer):
    """The counter-offer in words."""

    text: str


class ExplainedTier(BaseModel):
    """The tier that the channel stood in."""

    code: str
    name: str | None


class Rights(BaseModel):
    """What the applicant may do about it."""

    human_review: str
    contest: str


class ExplanationDocument(BaseModel):
    """A decision in words, in the language that `Accept-Language` prefers."""

    decision_id: UUID
    application_id: str
    revision: int
    language: Language
    outcome: Outcome
    next_action: NextAction
    decided_at: datetime
    due_at: datetime | None
    policy_version: int
    tier: ExplainedTier
    notice: str = Field(description="The notice to the applicant, in lines. It never holds what is confidential.")
    principal_reasons: list[ExplainedReason]
    other_reasons: list[ExplainedReason] = Field(description="For analysts, reviewers and admins; else empty.")
    ceiling: ExplainedCeiling | None = Field(description="Null where the person's data has been erased.")
    counter_offer: ExplainedOffer | None
    rights: Rights
    erased_at: datetime | None


class DecisionQuery(RequestModel):
    """The filters of the list. Any other is refused, so that a typing error never widens a list."""

    channel: Code | None = Field(default=None, description="Code of the channel, or an alias.")
    outcome: Outcome | None = None
    next_action: NextAction | None = None
    tier: Code | None = None
    product: Code | None = None
    policy_version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    reason_code: RuleCode | None = Field(default=None, description="Decisions with this reason among all of theirs.")
    decided_from: Instant | None = Field(default=None, description="Decided at or after.")
    decided_to: Instant | None = Field(default=None, description="Decided before.")
    originator: Code | None = Field(default=None, description="Code of the originator, for who may see several.")
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(default=None, max_length=128, description="`next_cursor` of the page before.")
