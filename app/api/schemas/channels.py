"""Channels, tier assignments and the named list, as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.api.schemas.common import (
    AnswerModel,
    Code,
    Instant,
    Jurisdiction,
    Line,
    ProductCode,
    Reason,
    RequestModel,
    TierCode,
)
from app.channels.named_list import ListedChannel
from app.channels.registry import RegisteredChannel, StateChange
from app.channels.tiers import Assignment, Cause
from app.domain.channel import ChannelKind, ChannelState

Services = Annotated[tuple[Line, ...], Field(max_length=50)]
Cursor = Annotated[str, Field(max_length=200, description="`next_cursor` of the page before.")]


# What is asked --------------------------------------------------------------------------------------------------------


class ChannelQuery(RequestModel):
    """Filters of the list; all that are given must hold."""

    kind: ChannelKind | None = None
    state: Annotated[tuple[ChannelState, ...], Field(description="Give it again for more.")] = ()
    owner: Line | None = None
    expiring_within_days: Annotated[
        int | None, Field(ge=1, le=3650, description="Served channels whose validity ends within so many days.")
    ] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Cursor | None = None


class TierQuery(RequestModel):
    """Which tier held for a product and jurisdiction at a moment; without a moment: now."""

    product: ProductCode | None = None
    jurisdiction: Jurisdiction | None = None
    at: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Cursor | None = None


class ChannelRegistration(RequestModel):
    """A channel to put on the list."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "broker-two",
                    "name": "Broker two 中介二号",
                    "kind": "intermediary",
                    "owner": "channel-team",
                    "agreement_id": "AG-2026-017",
                    "services": ["lead generation"],
                    "valid_to": "2030-01-01T00:00:00Z",
                    "reason": "agreement signed",
                }
            ]
        }
    )

    code: Code
    name: Line
    kind: ChannelKind
    owner: Annotated[Line, Field(description="The team or person that answers for the channel.")]
    state: Annotated[
        Literal[ChannelState.PROPOSED, ChannelState.PROBATION, ChannelState.ACTIVE, ChannelState.SUSPENDED],
        Field(description="Where a channel that exists already enters; a new one is proposed."),
    ] = ChannelState.PROPOSED
    agreement_id: Line | None = None
    services: Services = ()
    valid_from: Annotated[Instant | None, Field(description="Now, where it is absent.")] = None
    valid_to: Annotated[Instant | None, Field(description="The first moment at which it is not valid any more.")] = None
    reason: Reason | None = None


class ChannelAmendment(RequestModel):
    """What changes; what is absent stays, and a null clears `agreement_id` or `valid_to`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"owner": "partnerships", "valid_to": "2031-01-01T00:00:00Z", "reason": "renewed"}]
        }
    )

    name: Line | None = None
    owner: Line | None = None
    agreement_id: Line | None = None
    services: Services | None = None
    valid_from: Instant | None = None
    valid_to: Instant | None = None
    reason: Reason | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set - {"reason"}:
            raise PydanticCustomError("gate_amendment_empty", "must change something")
        for name in ("name", "owner", "services", "valid_from"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise PydanticCustomError(f"gate_{name}_null", f"{name} must not be null")
        return self

    def changes(self) -> dict[str, object]:
        """The fields that were given, without the reason."""
        return {name: getattr(self, name) for name in self.model_fields_set if name != "reason"}


class StateMove(RequestModel):
    """A move to another state."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"state": "suspended", "open_reservations": "keep", "reason": "complaints about false promises"}
            ]
        }
    )

    state: Literal[ChannelState.PROBATION, ChannelState.ACTIVE, ChannelState.SUSPENDED, ChannelState.EXITED]
    open_reservations: Annotated[
        Literal["keep", "void"],
        Field(
            description="What becomes of the channel's accepts that are not funded yet: they stay, or are voided with "
            "the move, where it is suspended or exits."
        ),
    ] = "keep"
    reason: Reason

    @model_validator(mode="after")
    def _voids_below(self) -> Self:
        if self.open_reservations == "void" and self.state not in {ChannelState.SUSPENDED, ChannelState.EXITED}:
            raise PydanticCustomError("gate_void_served", "only a channel that is suspended or exits can void")
        return self


class TierRequest(RequestModel):
    """A tier for a scope over [valid_from, valid_to)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"tier": "risk", "product": "unsecured_consumer", "reason": "losses above expectation"}]
        }
    )

    tier: TierCode
    product: Annotated[ProductCode | None, Field(description="Null: every product.")] = None
    jurisdiction: Annotated[Jurisdiction | None, Field(description="Null: every jurisdiction.")] = None
    valid_from: Annotated[Instant | None, Field(description="Now, where it is absent.")] = None
    valid_to: Annotated[Instant | None, Field(description="The first moment at which it does not hold.")] = None
    cause: Cause = Cause.MANUAL
    reason: Reason


# What is answered -----------------------------------------------------------------------------------------------------


class ChannelDocument(AnswerModel):
    """A registered channel."""

    code: str
    name: str
    kind: ChannelKind
    state: ChannelState
    owner: str
    agreement_id: str | None
    services: tuple[str, ...]
    aliases: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime | None
    expired: bool
    expires_within_days: Annotated[int | None, Field(description="The warning that is due: 60, 30 or 7 days.")]
    revision: Annotated[int, Field(description="The number in the ETag; grows with every change.")]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, channel: RegisteredChannel, at: datetime) -> Self:
        """The document of a channel at a moment."""
        return cls(**channel.shown(at))


class StateChangeDocument(AnswerModel):
    """One move of a channel from one state to another."""

    state_before: ChannelState | None
    state_after: ChannelState
    at: datetime
    actor: str
    reason: str | None


class ChannelDetail(ChannelDocument):
    """A channel with its history."""

    state_history: Annotated[tuple[StateChangeDocument, ...], Field(description="Newest first.")]

    @classmethod
    def with_history(cls, channel: RegisteredChannel, history: tuple[StateChange, ...], at: datetime) -> Self:
        """The document of a channel and its moves."""
        moves = tuple(StateChangeDocument.model_validate(move, from_attributes=True) for move in history)
        return cls(**channel.shown(at), state_history=moves)


class ChannelPage(AnswerModel):
    """One page of the list, in the order of the codes."""

    items: tuple[ChannelDocument, ...]
    next_cursor: str | None


class AssignmentDocument(AnswerModel):
    """A tier assignment over [valid_from, valid_to)."""

    assignment_id: int
    product: str | None
    jurisdiction: str | None
    tier: str
    valid_from: datetime
    valid_to: datetime | None
    cause: Cause
    reason: str | None
    assigned_by: str

    @classmethod
    def of(cls, assignment: Assignment) -> Self:
        """The document of an assignment."""
        return cls(
            assignment_id=assignment.assignment_id,
            product=assignment.scope.product,
            jurisdiction=assignment.scope.jurisdiction,
            tier=assignment.tier,
            valid_from=assignment.valid_from,
            valid_to=assignment.valid_to,
            cause=assignment.cause,
            reason=assignment.reason,
            assigned_by=assignment.assigned_by,
        )


class TierAtMoment(AnswerModel):
    """Which tier held. On probation, the policy's probation tiers hold where they are stricter."""

    at: datetime
    product: str | None
    jurisdiction: str | None
    tier: Annotated[str | None, Field(description="Null where nothing was assigned and no policy was active.")]
    source: Literal["assignment", "policy_default", "none"]
    assignment: AssignmentDocument | None
    policy_version: Annotated[int | None, Field(description="Whose default it is, where nothing was assigned.")]


class TierPage(AnswerModel):
    """The answer for the moment, and the assignments of all scopes, the latest made first."""

    effective: TierAtMoment
    items: tuple[AssignmentDocument, ...]
    next_cursor: str | None


class ListedChannelDocument(AnswerModel):
    """One row of the named list."""

    code: str
    aliases: tuple[str, ...]
    name: str
    kind: ChannelKind
    state: ChannelState
    agreement_id: str | None
    services: tuple[str, ...]
    owner: str
    valid_from: datetime
    valid_to: datetime | None
    tier: Annotated[str | None, Field(description="For every product and jurisdiction that has no tier of its own.")]

    @classmethod
    def of(cls, listed: ListedChannel, default_tier: str | None) -> Self:
        """The row of a channel."""
        channel = listed.channel
        return cls(
            code=channel.code,
            aliases=channel.aliases,
            name=channel.name,
            kind=channel.kind,
            state=channel.state,
            agreement_id=channel.agreement_id,
            services=channel.services,
            owner=channel.owner,
            valid_from=channel.valid_from,
            valid_to=channel.valid_to,
            tier=listed.tier or default_tier,
        )


class NamedListDocument(AnswerModel):
    """The named list at a moment."""

    at: datetime
    items: tuple[ListedChannelDocument, ...]
