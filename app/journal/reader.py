"""Reads the decision log: one decision, a page of them, or all of them in order.

A decision's id is a UUIDv7 made from the instant that it was decided at, so that an id alone names the partition. Lists
go month by month, newest first, and by id within a month: the primary key of each partition holds that order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, any_, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import channel_aliases, channels, decision_keys, decisions, originators
from app.domain.canonical import canonical_bytes, instant_text
from app.journal.cursor import Position, decode_cursor, encode_cursor

MAX_PAGE = 200
"""The most decisions on one page."""

_CLOCK_SLACK = timedelta(seconds=1)
"""How far an id's millisecond and `decided_at` may lie apart."""
_PAGE_SECONDS = 2.0
_STREAM_ROWS = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TIMESTAMP_SHIFT = 80
"""The first 48 of 128 bits of a UUIDv7 are its millisecond."""

_MONTHS = text("""
    SELECT DISTINCT right(c.relname, 7)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'gate' AND c.relispartition AND c.relname ~ '^decisions_[a-z]+_[0-9]{4}_[0-9]{2}$'
    ORDER BY 1
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionSummary:
    """A decision as far as it can be asked for. Amounts are in minor units of `currency`."""

    decision_id: UUID
    decided_at: datetime
    retention_class: str
    originator_id: int
    originator_code: str
    application_id: str
    revision: int
    channel_code: str
    sub_id: str | None
    product: str
    jurisdiction: str | None
    tier: str
    policy_version: int
    engine: str
    outcome: str
    next_action: str
    amount: int
    currency: str
    term_months: int
    ceiling_amount: int | None
    offered_amount: int | None
    reason_codes: tuple[str, ...]
    erased_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredDecision:
    """A decision and the bytes that were answered."""

    summary: DecisionSummary
    response: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision(AnsweredDecision):
    """A decision with the bytes that were received and thought as well; erasing a person's data takes those."""

    input: bytes | None
    record: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFilter:
    """Which decisions. None means any; the time is half-open: [decided_from, decided_to)."""

    originator_id: int | None = None
    channel_code: str | None = None
    """A code or an alias of it."""
    outcome: str | None = None
    next_action: str | None = None
    tier: str | None = None
    product: str | None = None
    policy_version: int | None = None
    reason_code: str | None = None
    decided_from: datetime | None = None
    decided_to: datetime | None = None

    def question(self) -> bytes:
        """The filter as bytes: a cursor belongs to one question."""
        return canonical_bytes(
            {
                field.name: instant_text(value) if isinstance(value, datetime) else value
                for field in fields(self)
                if (value := getattr(self, field.name)) is not None
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Decisions, newest first, and where the list continues. `next_cursor` None: there are no more.

    A page may be short, even empty, and still have a next one: a rare filter over years of log is answered in parts.
    """

    decisions: tuple[AnsweredDecision, ...]
    next_cursor: str | None


_SUMMARY_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(
    select(originators.c.code).where(originators.c.originator_id == decisions.c.originator_id).scalar_subquery()
    if field.name == "originator_code"
    else decisions.c[field.name]
    for field in fields(DecisionSummary)
)
_SUMMARY_NAMES = tuple(field.name for field in fields(DecisionSummary))
_ANSWERED = select(*_SUMMARY_COLUMNS, decisions.c.response)
_STORED = select(*_SUMMARY_COLUMNS, decisions.c.response, decisions.c.input, decisions.c.record)


async def decision_by_id(
    connection: AsyncConnection, decision_id: UUID, *, originator_id: int | None = None
) -> StoredDecision | None:
    """The decision with this id, or None where there is none (of this originator, where one is given)."""
    decided_at = instant_of(decision_id)
    if decided_at is None:
        return None
    query = _STORED.where(
        decisions.c.decision_id == decision_id,
        decisions.c.decided_at.between(decided_at - _CLOCK_SLACK, decided_at + _CLOCK_SLACK),
    )
    if originator_id is not None:
        query = query.where(decisions.c.originator_id == originator_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _stored(row)


async def decision_of_application(
    connection: AsyncConnection, *, originator_id: int, application_id: str, revision: int | None = None
) -> StoredDecision | None:
    """The decision on one revision of an application, or on the latest one that was decided."""
    key = select(decision_keys).where(
        decision_keys.c.originator_id == originator_id, decision_keys.c.application_id == application_id
    )
    if revision is None:
        key = key.order_by(decision_keys.c.revision.desc()).limit(1)
    else:
        key = key.where(decision_keys.c.revision == revision)
    held = key.subquery()
    query = _STORED.select_from(
        decisions.join(
            held,
            and_(
                decisions.c.decision_id == held.c.decision_id,
                decisions.c.decided_at == held.c.decided_at,
                decisions.c.retention_class == held.c.retention_class,
            ),
        )
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _stored(row)


async def list_decisions(
    connection: AsyncConnection, wanted: DecisionFilter, *, limit: int, cursor: str | None = None
) -> Page:
    """At most `limit` decisions (1 to `MAX_PAGE`), newest first, from where `cursor` stopped.

    Raises:
        CursorError: where the cursor was not given for this filter.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"a page holds 1 to {MAX_PAGE} decisions")
    question = wanted.question()
    position = Position(decided_before=_END_OF_TIME) if cursor is None else decode_cursor(cursor, question)
    stop_at = monotonic() + _PAGE_SECONDS
    found: list[AnsweredDecision] = []
    for start, end in reversed(await _months(connection)):
        begin, finish = _overlap(start, end, wanted, position.decided_before)
        if begin >= finish:
            continue
        query = _ANSWERED.where(*_conditions(wanted, begin, finish)).order_by(decisions.c.decision_id.desc())
        if position.below is not None:
            query = query.where(decisions.c.decision_id < position.below)
        rows = (await connection.execute(query.limit(limit - len(found) + 1))).all()
        found.extend(_answered(row) for row in rows)
        if len(found) > limit:
            last = found[limit - 1].summary
            here = (
                Position(decided_before=end, below=last.decision_id) if len(rows) > 1 else Position(decided_before=end)
            )
            return Page(decisions=tuple(found[:limit]), next_cursor=encode_cursor(here, question))
        position = Position(decided_before=start)
        if monotonic() > stop_at:
            return Page(decisions=tuple(found), next_cursor=encode_cursor(position, question))
    return Page(decisions=tuple(found), next_cursor=None)


async def stream_decisions(
    connection: AsyncConnection, wanted: DecisionFilter, *, limit: int | None = None
) -> AsyncIterator[Sequence[StoredDecision]]:
    """Every decision, oldest first, in batches through a cursor of the server: memory does not grow with the log."""
    left = limit
    for query in await _queries_by_month(connection, wanted, _STORED):
        if left == 0:
            return
        ordered = query.order_by(decisions.c.decision_id).limit(left)
        async with connection.stream(ordered, execution_options={"yield_per": _STREAM_ROWS}) as result:
            async for rows in result.partitions():
                yield [_stored(row) for row in rows]
                left = left and left - len(rows)


async def count_decisions(connection: AsyncConnection, wanted: DecisionFilter) -> int:
    """How many decisions `stream_decisions` gives."""
    queries = await _queries_by_month(connection, wanted, select(func.count()).select_from(decisions))
    return sum([int((await connection.execute(query)).scalar_one()) for query in queries])


def instant_of(decision_id: UUID) -> datetime | None:
    """The millisecond that a UUIDv7 was made at; None for any other UUID (RFC 9562, section 5.7)."""
    milliseconds = decision_id.int >> _TIMESTAMP_SHIFT
    if decision_id.version != 7 or milliseconds >= (_END_OF_TIME - _EPOCH) // _MILLISECOND:
        return None
    return _EPOCH + milliseconds * _MILLISECOND


async def _queries_by_month(
    connection: AsyncConnection, wanted: DecisionFilter, base: Select[Any]
) -> list[Select[Any]]:
    spans = [_overlap(start, end, wanted, _END_OF_TIME) for start, end in await _months(connection)]
    return [base.where(*_conditions(wanted, begin, finish)) for begin, finish in spans if begin < finish]


async def _months(connection: AsyncConnection) -> list[tuple[datetime, datetime]]:
    """The months that the log has partitions for, oldest first, as [start, end)."""
    months = [name.split("_") for name in (await connection.execute(_MONTHS)).scalars()]
    return [_month(int(year), int(month)) for year, month in months]


def _month(year: int, month: int) -> tuple[datetime, datetime]:
    start = datetime(year, month, 1, tzinfo=UTC)
    return start, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def _overlap(start: datetime, end: datetime, wanted: DecisionFilter, before: datetime) -> tuple[datetime, datetime]:
    return max(start, wanted.decided_from or start), min(end, wanted.decided_to or end, before)


def _conditions(wanted: DecisionFilter, begin: datetime, finish: datetime) -> Iterator[ColumnElement[bool]]:
    """What a decision of one month must fulfil. The bounds of the id say the time again, for the primary key."""
    yield decisions.c.decided_at >= begin
    yield decisions.c.decided_at < finish
    yield decisions.c.decision_id >= _lowest_id(begin - _CLOCK_SLACK)
    yield decisions.c.decision_id < _lowest_id(finish + _CLOCK_SLACK)
    if wanted.originator_id is not None:
        yield decisions.c.originator_id == wanted.originator_id
    if wanted.channel_code is not None:
        yield decisions.c.channel_id == _channel_id(wanted.channel_code)
    for name in ("outcome", "next_action", "tier", "product", "policy_version"):
        value = getattr(wanted, name)
        if value is not None:
            yield decisions.c[name] == value
    if wanted.reason_code is not None:
        yield literal(wanted.reason_code) == any_(decisions.c.reason_codes)


def _channel_id(code: str) -> ColumnElement[int]:
    by_code = select(channels.c.channel_id).where(channels.c.code == code)
    by_alias = select(channel_aliases.c.channel_id).where(channel_aliases.c.alias == code)
    return by_code.union_all(by_alias).limit(1).scalar_subquery()


def _lowest_id(at: datetime) -> UUID:
    """The least UUID whose first 48 bits are this millisecond."""
    return UUID(int=max(0, (at - _EPOCH) // _MILLISECOND) << _TIMESTAMP_SHIFT)


def _summary(values: Sequence[Any]) -> DecisionSummary:
    named = dict(zip(_SUMMARY_NAMES, values, strict=True))
    named["reason_codes"] = tuple(named["reason_codes"])
    return DecisionSummary(**named)


def _answered(row: Sequence[Any]) -> AnsweredDecision:
    *summary, response = row
    return AnsweredDecision(summary=_summary(summary), response=response)


def _stored(row: Sequence[Any]) -> StoredDecision:
    *summary, response, input_, record = row
    return StoredDecision(summary=_summary(summary), response=response, input=input_, record=record)
