"""The queue as it is read. It follows from the decision log, which `gather` reads on; see docs/decisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, Select, and_, exists, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import channels, decision_keys, decisions, originators, review_actions, reviews
from app.domain.review import AGE_FROM, Age, ReviewKind, ReviewState, age_of, opened_between

MAX_PAGE = 200

_GATHER = text("SELECT gate.reviews_gather(:all)")
_SUPERSEDE = text("SELECT gate.reviews_supersede()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One decision that a person looks at, or has looked at. `amount` and `ceiling_amount` in minor units.

    `holder` may resolve it until `held_until`. `two_persons`: accepting it takes a second one. `version` grows with
    every change.
    """

    decision_id: UUID
    originator: str
    originator_id: int
    application_id: str
    revision: int
    channel_code: str
    product: str
    tier: str
    outcome: str
    amount: int
    currency: str
    ceiling_amount: int | None
    reason_codes: tuple[str, ...]
    kind: ReviewKind
    state: ReviewState
    opened_at: datetime
    due_at: datetime
    priority: int
    two_persons: bool
    holder: str | None
    held_until: datetime | None
    proposal: str | None
    nonce: str | None
    proposed_by: str | None
    approved_by: str | None
    single_person: bool
    resolved_at: datetime | None
    resolved_by: str | None
    version: int

    def age(self, at: datetime) -> Age:
        """How long it has waited, or had waited when it was resolved."""
        return age_of(self.opened_at, self.resolved_at or at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that was done about a review."""

    at: datetime
    action: str
    actor: str
    note: str | None
    facts: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewFilter:
    """Which reviews are asked for. `closed`: those that wait for nobody any more."""

    closed: bool = False
    state: ReviewState | None = None
    kind: ReviewKind | None = None
    age: Age | None = None
    holder: str | None = None
    channel_code: str | None = None
    originator_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in the order of due dates: just after that review."""

    due_at: datetime
    decision_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How the queue stands: open reviews by age, and for how long the oldest has been open (seconds; None: none)."""

    open: dict[Age, int]
    oldest_seconds: float | None


async def gather(connection: AsyncConnection, *, whole_log: bool = False) -> int:
    """Take what the log has to review into the queue; how many that were."""
    return int((await connection.execute(_GATHER, {"all": whole_log})).scalar_one())


async def supersede(connection: AsyncConnection) -> int:
    """Close the reviews that an amendment has overtaken; how many that were."""
    return int((await connection.execute(_SUPERSEDE)).scalar_one())


async def find_review(
    connection: AsyncConnection, decision_id: UUID, *, originator_id: int | None = None
) -> Review | None:
    """The review of a decision, where there is one (of that originator, where one is given)."""
    query = _query().where(reviews.c.decision_id == decision_id)
    if originator_id is not None:
        query = query.where(reviews.c.originator_id == originator_id)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else _review(row)


async def list_reviews(
    connection: AsyncConnection, wanted: ReviewFilter, *, at: datetime, after: Place | None, limit: int
) -> tuple[Review, ...]:
    """At most `limit` reviews, those first that are due first. What an amendment has overtaken is not open."""
    query = _query().where(*_conditions(wanted, at)).order_by(reviews.c.due_at, reviews.c.decision_id).limit(limit)
    if after is not None:
        query = query.where(tuple_(reviews.c.due_at, reviews.c.decision_id) > tuple_(after.due_at, after.decision_id))
    return tuple(_review(row) for row in (await connection.execute(query)).mappings())


async def history(connection: AsyncConnection, decision_id: UUID) -> tuple[Action, ...]:
    """What was done about a review, in order."""
    query = (
        select(*(review_actions.c[name] for name in Action.__dataclass_fields__))
        .where(review_actions.c.decision_id == decision_id)
        .order_by(review_actions.c.action_id)
    )
    rows = (await connection.execute(query)).mappings()
    return tuple(Action(**{**row, "at": row["at"].astimezone(UTC)}) for row in rows)


async def figures(connection: AsyncConnection, at: datetime) -> Figures:
    """How the queue stands at an instant."""
    counted: list[ColumnElement[Any]] = []
    for age in AGE_FROM:
        oldest, newest = opened_between(age, at)
        counted.append(func.count().filter(and_(True, *_opened(oldest, newest))).label(age.value))
    query = select(*counted, func.min(reviews.c.opened_at).label("oldest")).where(
        reviews.c.resolved_at.is_(None), ~_overtaken()
    )
    row = (await connection.execute(query)).mappings().one()
    return Figures(
        open={age: row[age.value] for age in AGE_FROM},
        oldest_seconds=None if row["oldest"] is None else (at - row["oldest"]).total_seconds(),
    )


_OF_REVIEWS = (
    *("decision_id", "originator_id", "application_id", "revision", "product", "kind", "state", "opened_at", "due_at"),
    *("priority", "two_persons", "holder", "held_until", "proposal", "nonce", "proposed_by", "approved_by"),
    *("single_person", "resolved_at", "resolved_by", "version"),
)
_OF_DECISIONS = ("channel_code", "tier", "outcome", "amount", "currency", "ceiling_amount", "reason_codes")


def _query() -> Select[Any]:
    decided = and_(
        decisions.c.decision_id == reviews.c.decision_id,
        decisions.c.decided_at == reviews.c.decided_at,
        decisions.c.retention_class == reviews.c.retention_class,
    )
    return select(
        originators.c.code.label("originator"),
        *(reviews.c[name] for name in _OF_REVIEWS),
        *(decisions.c[name] for name in _OF_DECISIONS),
    ).select_from(
        reviews.join(decisions, decided).join(originators, originators.c.originator_id == reviews.c.originator_id)
    )


def _conditions(wanted: ReviewFilter, at: datetime) -> Iterator[ColumnElement[bool]]:
    closed = wanted.closed or wanted.state in {ReviewState.ACCEPTED, ReviewState.REJECTED, ReviewState.SUPERSEDED}
    if closed:
        yield reviews.c.resolved_at.is_not(None)
    else:
        yield reviews.c.resolved_at.is_(None)
        yield ~_overtaken()
    if wanted.state is not None:
        yield reviews.c.state == wanted.state.value
    if wanted.kind is not None:
        yield reviews.c.kind == wanted.kind.value
    if wanted.holder is not None:
        yield and_(reviews.c.holder == wanted.holder, reviews.c.held_until > at)
    if wanted.channel_code is not None:
        yield reviews.c.channel_id == (
            select(channels.c.channel_id).where(channels.c.code == wanted.channel_code).scalar_subquery()
        )
    if wanted.originator_id is not None:
        yield reviews.c.originator_id == wanted.originator_id
    if wanted.age is not None:
        yield from _opened(*opened_between(wanted.age, at))


def _opened(oldest: datetime | None, newest: datetime | None) -> Iterator[ColumnElement[bool]]:
    if oldest is not None:
        yield reviews.c.opened_at > oldest
    if newest is not None:
        yield reviews.c.opened_at <= newest


def _overtaken() -> ColumnElement[bool]:
    return exists().where(
        decision_keys.c.originator_id == reviews.c.originator_id,
        decision_keys.c.application_id == reviews.c.application_id,
        decision_keys.c.revision > reviews.c.revision,
    )


def _review(row: RowMapping) -> Review:
    values: dict[str, Any] = {
        name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()
    }
    values["kind"], values["state"] = ReviewKind(values["kind"]), ReviewState(values["state"])
    values["reason_codes"] = tuple(values["reason_codes"])
    return Review(**values)
