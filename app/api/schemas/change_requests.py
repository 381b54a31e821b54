"""Change requests, as the API reads and shows them: what two persons do to channels, tiers and budgets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from app.api.schemas.budgets import MAX_UNITS, BudgetFields
from app.api.schemas.common import AnswerModel, Code, Instant, Jurisdiction, ProductCode, Reason, RequestModel, TierCode
from app.api.schemas.governance import PageQuery
from app.api.schemas.policies import Comment
from app.api.schemas.signed import SHOWN_DIGEST, SHOWN_PROOF, SIGNED, Digest, Nonce, Proof, example
from app.channels.tiers import Cause
from app.domain.channel import ChannelState
from app.governance.requests import ChangeRequest

# What is asked --------------------------------------------------------------------------------------------------------


class ChangeQuery(PageQuery):
    """A page of change requests, newest first."""

    state: Literal["pending", "applied", "rejected", "withdrawn"] | None = None


class ChannelStateRequest(RequestModel):
    """A channel moves to another state: the payload is `{"from": ..., "to": ...}`."""

    model_config = example(
        kind="channel.state",
        channel="campus-group",
        before="proposed",
        after="probation",
        reason="diligence passed",
        **SIGNED,
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

    model_config = example(
        kind="tier.assign",
        channel="loan-market",
        tier="general",
        valid_to="2027-01-31T00:00:00Z",
        reason="trial",
        **SIGNED,
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

    model_config = example(
        kind="budget.set",
        channel="loan-market",
        period="monthly",
        measure="count",
        limit=80,
        reason="the first 50 were good",
        **SIGNED,
    )

    kind: Literal["budget.set"]
    reason: Reason
    nonce: Nonce
    proof: Proof


class BudgetEndRequest(RequestModel):
    """An open budget ends: the payload is `{"budget_id": ...}`."""

    model_config = example(
        kind="budget.end", channel="loan-market", budget_id=3, reason="off probation for good", **SIGNED
    )

    kind: Literal["budget.end"]
    channel: Annotated[Code | None, Field(description="Whose it is; null: of all channels together.")] = None
    budget_id: Annotated[int, Field(ge=1, le=MAX_UNITS)]
    reason: Reason
    nonce: Nonce
    proof: Proof


class ChangeApproval(RequestModel):
    """The second person's signature: act `approve`, subject `request/<id>`, its nonce."""

    model_config = example(payload_digest=SHOWN_DIGEST, proof=SHOWN_PROOF)

    payload_digest: Digest
    comment: Comment | None = None
    proof: Proof


# What is answered -----------------------------------------------------------------------------------------------------


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
