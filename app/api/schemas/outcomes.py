"""Outcomes, feeds, costs and the life of an application, as the API reads and shows them. Money is in minor units."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.api.schemas.common import AnswerModel, Code, RequestModel
from app.domain.fields import MAX_MONEY
from app.outcomes.costs import Cost, CostKind, RecordedCost
from app.outcomes.feeds import Feed
from app.outcomes.life import Life, Moment
from app.outcomes.payload import Currency, Day, Reference
from app.outcomes.state import Flag, Status
from app.outcomes.store import Booked, Outcome, Result

ApplicationId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/+=@-]{1,64}$")]


class BookedDocument(AnswerModel):
    """What became of one event."""

    result: Result
    application_status: Annotated[Status, Field(description="Where the application stands now.")]
    flags: Annotated[tuple[Flag, ...], Field(description="What contradicts itself in the facts of the application.")]

    @classmethod
    def of(cls, booked: Booked) -> Self:
        """As it is answered."""
        return cls(result=booked.result, application_status=booked.status, flags=booked.flags)


class BookedList(AnswerModel):
    """One result for each event, in order."""

    results: tuple[BookedDocument, ...]


class OutcomeQuery(RequestModel):
    """A page of applications."""

    cursor: Annotated[str | None, Field(max_length=200)] = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class ContradictionQuery(OutcomeQuery):
    """A page of applications, of those with one contradiction."""

    flag: Flag | None = None


class OutcomeDocument(AnswerModel):
    """What the facts about one application add up to."""

    originator: str
    application_id: Annotated[str | None, Field(description="Null once its time is over.")]
    first_heard_at: datetime
    decision_id: UUID | None
    channel_code: str | None
    currency: str | None
    accepted_amount: int | None
    status: str
    funded_on: date | None
    funded_amount: int | None
    outstanding: int
    first_due_on: date | None
    first_paid_on: date | None
    performance_on: date | None
    days_past_due: int | None
    worst_days_past_due: int | None
    closed_on: date | None
    flags: tuple[str, ...]

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """As it is shown."""
        return cls(**{name: getattr(outcome, name) for name in cls.model_fields})


class OutcomePage(AnswerModel):
    """Applications in the order in which they were first heard of."""

    items: tuple[OutcomeDocument, ...]
    next_cursor: str | None


class MomentDocument(AnswerModel):
    """One thing that happened to an application."""

    on: Annotated[date | None, Field(description="The day; null for a month on book of a loan without funding.")]
    at: Annotated[datetime | None, Field(description="The instant, of what the gate itself did.")]
    what: Annotated[str, Field(description="`decided`, `reserved`, `reservation_<state>`, or the kind of an event.")]
    counts: Annotated[bool, Field(description="False: a later version or revision has taken its place.")]
    details: dict[str, Any]

    @classmethod
    def of(cls, moment: Moment) -> Self:
        """As it is shown."""
        return cls(on=moment.on, at=moment.at, what=moment.what, counts=moment.counts, details=dict(moment.details))


class ApplicationDocument(AnswerModel):
    """The whole life of an application, in order."""

    originator: str
    application_id: str
    status: Status
    flags: tuple[Flag, ...]
    funded_on: date | None
    funded_amount: int | None
    outstanding: int
    days_past_due: int | None
    worst_days_past_due: int | None
    closed_on: date | None
    life: tuple[MomentDocument, ...]

    @classmethod
    def of(cls, life: Life) -> Self:
        """As it is shown."""
        state = life.state
        return cls(
            originator=life.originator,
            application_id=life.application_id,
            status=state.status,
            flags=tuple(sorted(state.flags)),
            funded_on=state.funded_on,
            funded_amount=state.funded_amount,
            outstanding=state.outstanding,
            days_past_due=state.days_past_due,
            worst_days_past_due=state.worst_days_past_due,
            closed_on=state.closed_on,
            life=tuple(MomentDocument.of(moment) for moment in life.moments),
        )


class FeedStatement(RequestModel):
    """How far a feed of performance is complete."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"performance_complete_through": "2026-10-31", "channels": ["search-ads"]}]}
    )

    performance_complete_through: Annotated[Day, Field(description="To the end of this day.")]
    channels: Annotated[
        tuple[Code, ...] | None,
        Field(min_length=1, max_length=1_000, description="Which channels it brings; null: all of the originator's."),
    ] = None


class FeedDocument(AnswerModel):
    """What a feed last stated."""

    originator: str
    feed: str
    channels: tuple[str, ...] | None
    performance_complete_through: date
    late: Annotated[bool, Field(description="A month that ended more than 10 days ago is not complete.")]
    stated_at: datetime
    stated_by: str

    @classmethod
    def of(cls, feed: Feed, today: date) -> Self:
        """As it is shown."""
        return cls(
            originator=feed.originator,
            feed=feed.code,
            channels=feed.channels,
            performance_complete_through=feed.performance_complete_through,
            late=feed.is_late(today),
            stated_at=feed.stated_at,
            stated_by=feed.stated_by,
        )


class FeedList(AnswerModel):
    """Feeds by originator and code."""

    items: tuple[FeedDocument, ...]


class CostRequest(RequestModel):
    """A cost of a channel."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "media",
                    "starts_on": "2026-10-01",
                    "ends_on": "2026-10-31",
                    "currency": "CNY",
                    "amount": 12500000,
                    "reference": "INV-4711",
                }
            ]
        }
    )

    kind: CostKind
    starts_on: Day
    ends_on: Annotated[Day, Field(description="The last day, included.")]
    currency: Currency
    amount: Annotated[int, Field(ge=0, le=MAX_MONEY, strict=True)]
    reference: Annotated[Reference | None, Field(description="Tells costs of one period apart: an invoice.")] = None
    correction: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 0

    @model_validator(mode="after")
    def _has_a_period(self) -> Self:
        if self.ends_on < self.starts_on:
            raise PydanticCustomError("gate_period", "must not end before it begins")
        return self

    def cost(self) -> Cost:
        """The cost."""
        return Cost(
            kind=self.kind,
            starts_on=self.starts_on,
            ends_on=self.ends_on,
            currency=self.currency,
            amount=self.amount,
            reference=self.reference or "",
            correction=self.correction,
        )


class CostQuery(OutcomeQuery):
    """Costs whose period touches [from, to)."""

    from_: Annotated[Day | None, Field(alias="from")] = None
    to: Day | None = None


class CostDocument(AnswerModel):
    """A cost that counts."""

    kind: CostKind
    starts_on: date
    ends_on: date
    currency: str
    amount: int
    reference: str | None
    correction: int
    recorded_at: datetime
    recorded_by: str

    @classmethod
    def of(cls, recorded: RecordedCost) -> Self:
        """As it is shown."""
        cost = recorded.cost
        return cls(
            kind=cost.kind,
            starts_on=cost.starts_on,
            ends_on=cost.ends_on,
            currency=cost.currency,
            amount=cost.amount,
            reference=cost.reference or None,
            correction=cost.correction,
            recorded_at=recorded.recorded_at,
            recorded_by=recorded.recorded_by,
        )


class CostPage(AnswerModel):
    """Costs in the order in which they were recorded."""

    items: tuple[CostDocument, ...]
    next_cursor: str | None


class CostAnswer(AnswerModel):
    """Whether the cost is new."""

    recorded: Annotated[bool, Field(description="False: exactly this was recorded already.")]
