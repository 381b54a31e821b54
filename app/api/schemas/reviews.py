"""Reviews, as the API reads and shows them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import Field, StringConstraints

from app.api.schemas.common import AnswerModel, Code, Line, RequestModel
from app.api.schemas.signed import SHOWN_PROOF, Digest, Nonce, Proof, example
from app.domain.review import Age, Resolution, ReviewKind, ReviewState, proposal_digest
from app.reviews.queue import MAX_PAGE, Action, Review
from app.reviews.work import LEASE, LONGEST_LEASE

Note = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x20\x7f][^\x00-\x09\x0b-\x1f\x7f]{0,1999}$"),
    Field(description="For the history of the review. Only an erasure blanks it."),
]


class ReviewQuery(RequestModel):
    """A page of reviews, those first that are due first. Filters narrow it together."""

    closed: Annotated[bool, Field(description="Those that wait for nobody any more, in place of the others.")] = False
    state: ReviewState | None = None
    kind: ReviewKind | None = None
    age: Annotated[
        Age | None,
        Field(description="Open for: less than 24 hours, 20 days, 28 days, 30 days, or longer."),
    ] = None
    holder: Annotated[Line | None, Field(description="Whose claim has not run out.")] = None
    channel: Annotated[Code | None, Field(description="Code of the channel.")] = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    cursor: Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before.")] = None


class ClaimRequest(RequestModel):
    """For how long the caller wants to hold a review. Without a body: half an hour."""

    model_config = example(lease_minutes=30)

    lease_minutes: Annotated[int, Field(ge=1, le=LONGEST_LEASE // timedelta(minutes=1))] = LEASE // timedelta(minutes=1)


class ResolutionRequest(RequestModel):
    """What a reviewer decides, and why. Signed (act `request`, subject `review.accept:<decision_id>`, the proposal)
    where accepting takes two persons, outside the single-person mode.
    """

    model_config = example(resolution="reject", reason="the employer does not know the applicant")

    resolution: Resolution
    reason: Note
    nonce: Nonce | None = None
    proof: Proof | None = None


class ReviewApproval(RequestModel):
    """The second person's signature: act `approve`, subject `review/<decision_id>`, the proposal's nonce."""

    model_config = example(proposal_digest="9f" * 32, proof=SHOWN_PROOF)

    proposal_digest: Digest
    proof: Proof


class ReviewDecline(RequestModel):
    """Why what was proposed goes back into the queue."""

    model_config = example(reason="the payslip is of another person")

    reason: Note


class PriorityRequest(RequestModel):
    """Which reviews come first among those that are not urgent."""

    model_config = example(priority=1, reason="the applicant called twice")

    priority: Annotated[
        int, Field(ge=1, le=5, description="1 comes first. An escalation begins with 3, a contest with 2.")
    ]
    reason: Note


class ContestRequest(RequestModel):
    """What the applicant says against the reject."""

    model_config = example(reason="the judgment was lifted in October")

    reason: Note | None = None


class ReviewDocument(AnswerModel):
    """A decision that a person looks at. Amounts are in minor units; the decision itself stays as it was made."""

    decision_id: UUID
    originator: str
    application_id: str
    revision: int
    channel: str
    product: str
    tier: str
    outcome: Annotated[str, Field(description="What the gate decided.")]
    amount: int
    currency: str
    ceiling_amount: int | None
    reason_codes: tuple[str, ...]
    kind: ReviewKind
    state: ReviewState
    age: Annotated[Age, Field(description="How long it has waited, or had waited when it was resolved.")]
    opened_at: Annotated[datetime, Field(description="When the 30 days began: completed application, or contest.")]
    due_at: datetime
    priority: int
    two_persons: Annotated[
        bool,
        Field(description="Accepting takes two persons: against a reject rule, above the ceiling, or without one."),
    ]
    holder: Annotated[str | None, Field(description="Who may resolve it, until `held_until`.")]
    held_until: datetime | None
    proposal: Annotated[str | None, Field(description="What the first person has signed, and the second one signs.")]
    proposal_digest: str | None
    nonce: str | None
    proposed_by: str | None
    approved_by: str | None
    single_person: Annotated[bool, Field(description="It was accepted by one person, where that was enough.")]
    resolved_at: datetime | None
    resolved_by: str | None
    version: int

    @classmethod
    def of(cls, review: Review, at: datetime) -> Self:
        """The document of a review at an instant. A claim that has run out is none."""
        own = {name: getattr(review, name) for name in cls.model_fields if hasattr(review, name) and name != "age"}
        held = review.held_until is not None and review.held_until > at
        return cls(
            **own
            | {
                "channel": review.channel_code,
                "age": review.age(at),
                "holder": review.holder if held else None,
                "held_until": review.held_until if held else None,
                "proposal_digest": None if review.proposal is None else proposal_digest(review.proposal).hex(),
            }
        )


class ReviewPage(AnswerModel):
    """A page of reviews."""

    items: tuple[ReviewDocument, ...]
    next_cursor: str | None


class ActionDocument(AnswerModel):
    """Something that was done about a review."""

    at: datetime
    action: str
    actor: str
    note: Annotated[str | None, Field(description="Null where there was none, or it has been erased.")]
    facts: Annotated[dict[str, Any] | None, Field(description="What an acceptance rested on.")]

    @classmethod
    def of(cls, action: Action) -> Self:
        """The document of an action."""
        return cls(**{name: getattr(action, name) for name in cls.model_fields})


class ReviewHistory(AnswerModel):
    """Everything that was done about a review, oldest first."""

    items: tuple[ActionDocument, ...]


class ResolutionDocument(AnswerModel):
    """What a review has come to, for the origination system. While it is open, `outcome` is null."""

    decision_id: UUID
    application_id: str
    revision: int
    kind: ReviewKind
    state: ReviewState
    outcome: Annotated[Resolution | None, Field(description="What a person has decided; null while nobody has.")]
    due_at: datetime
    resolved_at: datetime | None

    @classmethod
    def of(cls, review: Review) -> Self:
        """The document of what has become of a review; that something is proposed stays within the house."""
        state = ReviewState.OPEN if review.state is ReviewState.PROPOSED else review.state
        outcome = {ReviewState.ACCEPTED: Resolution.ACCEPT, ReviewState.REJECTED: Resolution.REJECT}.get(state)
        own = {name: getattr(review, name) for name in cls.model_fields if name not in ("state", "outcome")}
        return cls(**own, state=state, outcome=outcome)
