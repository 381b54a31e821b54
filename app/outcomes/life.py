"""The whole life of an application, in order: decisions, reservation, and every version of every reported fact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import channels, decision_keys, decisions, originators, reservations
from app.outcomes.state import Decided, Fact, Kind, State, counting_facts, day_of, fold
from app.outcomes.store import events_of, find_outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One thing that happened. `at` is None for what was reported: there only the day is known, if it is."""

    on: date | None
    at: datetime | None
    what: str
    counts: bool
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """An application with what happened to it, oldest first."""

    originator: str
    application_id: str
    state: State
    moments: tuple[Moment, ...]


_FACT_FIELDS = tuple(field.name for field in fields(Fact) if field.name != "kind")
_FACT_DETAILS = ("month_on_book", "instalment", "amount", "currency", "balance", "days_past_due", "rating")
_DECISIONS = (
    select(
        decision_keys.c.revision,
        decisions.c.decision_id,
        decisions.c.decided_at,
        decisions.c.outcome,
        decisions.c.next_action,
        decisions.c.channel_code,
        decisions.c.tier,
        decisions.c.product,
        decisions.c.amount,
        decisions.c.currency,
        decisions.c.policy_version,
        reservations.c.state,
        reservations.c.amount.label("reserved_amount"),
        reservations.c.reserved_at,
        reservations.c.expires_at,
        reservations.c.resolved_at,
        reservations.c.cause,
        reservations.c.posted_amount,
    )
    .join_from(
        decision_keys,
        decisions,
        (decisions.c.decision_id == decision_keys.c.decision_id)
        & (decisions.c.decided_at == decision_keys.c.decided_at)
        & (decisions.c.retention_class == decision_keys.c.retention_class),
    )
    .outerjoin(reservations, reservations.c.decision_id == decisions.c.decision_id)
    .order_by(decision_keys.c.revision)
)


async def find_originator(connection: AsyncConnection, code: str) -> int | None:
    """The number of the originator that has this code."""
    query = select(originators.c.originator_id).where(originators.c.code == code)
    return (await connection.execute(query)).scalar_one_or_none()


async def find_channel(connection: AsyncConnection, code: str) -> int | None:
    """The number of the channel that has this code."""
    return (await connection.execute(select(channels.c.channel_id).where(channels.c.code == code))).scalar_one_or_none()


async def life_of(connection: AsyncConnection, *, originator_id: int, application_id: str) -> Life | None:
    """The life of an application; None where neither a decision nor a fact names it."""
    key = (decision_keys.c.originator_id == originator_id) & (decision_keys.c.application_id == application_id)
    decided = (await connection.execute(_DECISIONS.where(key))).all()
    outcome = await find_outcome(connection, originator_id=originator_id, application_id=application_id)
    if not decided and outcome is None:
        return None
    events = [] if outcome is None else await events_of(connection, outcome.subject_id)
    facts = [_fact(row) for row in events]
    state = fold(facts, _decided(decided))
    moments = [*_decision_moments(decided), *_fact_moments(facts, events, state)]
    code = select(originators.c.code).where(originators.c.originator_id == originator_id)
    return Life(
        originator=(await connection.execute(code)).scalar_one(),
        application_id=application_id,
        state=state,
        moments=tuple(sorted(moments, key=_place)),
    )


def _fact(row: Row[*tuple[Any, ...]]) -> Fact:
    return Fact(kind=Kind(row.kind), **{name: getattr(row, name) for name in _FACT_FIELDS})


def _decided(rows: Sequence[Row[*tuple[Any, ...]]]) -> Decided | None:
    if not rows:
        return None
    latest = rows[-1]
    released = latest.state == "expired" or (latest.state == "voided" and latest.cause != "outcome")
    # What was escalated and has a reservation has been accepted since.
    return Decided(
        outcome=latest.outcome if latest.state is None else "accept",
        amount=latest.amount if latest.reserved_amount is None else latest.reserved_amount,
        currency=latest.currency,
        released=released,
    )


def _decision_moments(rows: Sequence[Row[*tuple[Any, ...]]]) -> Iterator[Moment]:
    for row in rows:
        counts = row is rows[-1]
        details = {name: getattr(row, name) for name in ("revision", "decision_id", "outcome", "next_action")}
        details |= {name: getattr(row, name) for name in ("channel_code", "tier", "product", "amount", "currency")}
        yield _moment(row.decided_at, "decided", details | {"policy_version": row.policy_version}, counts=counts)
        if row.state is None:
            continue
        yield _moment(
            row.reserved_at,
            "reserved",
            {"decision_id": row.decision_id, "amount": row.reserved_amount, "expires_at": row.expires_at},
            counts=counts,
        )
        if row.resolved_at is not None:
            resolved = {"decision_id": row.decision_id, "cause": row.cause, "posted_amount": row.posted_amount}
            yield _moment(row.resolved_at, f"reservation_{row.state}", resolved, counts=counts)


def _fact_moments(facts: Sequence[Fact], rows: Sequence[Row[*tuple[Any, ...]]], state: State) -> Iterator[Moment]:
    counting = {id(fact) for fact in counting_facts(facts)}
    for fact, row in zip(facts, rows, strict=True):
        details = {name: value for name in _FACT_DETAILS if (value := getattr(row, name)) is not None}
        if fact.discriminator:
            details["key"] = fact.discriminator
        if fact.correction:
            details["correction"] = fact.correction
        if fact.retracted:
            details["retracted"] = True
        details |= {"feed": row.feed, "received_at": row.received_at, "received_by": row.received_by}
        on = day_of(fact, state.funded_on) if fact.occurred_on is not None or state.funded_on is not None else None
        yield Moment(on=on, at=None, what=fact.kind.value, counts=id(fact) in counting, details=details)


def _moment(at: datetime, what: str, details: Mapping[str, Any], *, counts: bool) -> Moment:
    return Moment(on=at.astimezone(UTC).date(), at=at, what=what, counts=counts, details=details)


_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_ORDER = {kind.value: place for place, kind in enumerate(Kind)}


def _place(moment: Moment) -> tuple[date, datetime, int, datetime]:
    """By day; on one day what the gate did comes first, then facts in the order of their kinds and of their arrival."""
    arrived = moment.details.get("received_at", _END_OF_TIME)
    return moment.on or _END_OF_TIME.date(), moment.at or _END_OF_TIME, _ORDER.get(moment.what, -1), arrived
