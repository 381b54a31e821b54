"""Makes the extract agree with the log: reads the days that it lacks, and reads again those that have changed.

A day is compared by its number of decisions and the digest of its hours: with the journal's own where the day has been
digested, otherwise with what the log holds now. A day whose rows are not what was digested is not extracted at all.
Works as the governance login, which may read the digests and the audit log.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError
from sqlalchemy import Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import audit_log, decisions, dropped_months, journal_digests
from app.domain.channel import ChannelId, ChannelState, Standing
from app.domain.compiled import CompiledPolicy
from app.domain.errors import PolicyError
from app.domain.settlement import Facts
from app.journal.digest import RETENTION_CLASSES
from app.screening.payload import PAYLOAD
from app.screening.policy_library import PolicyLibrary, UnknownVersionError
from app.whatif.extract import DayFile, ExtractDirectory, ExtractError, LogExtract, Selection
from app.whatif.packing import Context, Packer
from app.whatif.run import CancelledError
from app.whatif.standing import assigned_tier

_as_jsonb_prints = json.JSONEncoder(ensure_ascii=False).encode
_DAY = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STREAM_ROWS = 500
_PACKED_ROWS = 8_192
_HOURS = 24


class LogChangedError(Exception):
    """The log is not what its digests say: nobody should decide anything by it before `journal verify` has spoken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LogDay:
    """A day as the log has it. `digest` None: it has not been digested yet."""

    retention_class: str
    day: date
    decisions: int
    digest: str | None

    @property
    def key(self) -> tuple[str, str]:
        return self.retention_class, self.day.isoformat()


@dataclass(slots=True)
class _Hours:
    """The digest of a day's hours while its decisions come by, in the order of their ids."""

    day: date
    retention_class: str
    counts: list[int] = field(default_factory=lambda: [0] * _HOURS)
    hashes: list[Any] = field(default_factory=lambda: [hashlib.sha256() for _ in range(_HOURS)])

    def add(self, row: Row[Any]) -> None:
        hour = row.decided_at.astimezone(UTC).hour
        self.counts[hour] += 1
        self.hashes[hour].update(row_hash(row))

    def digest(self) -> str:
        digests = [made.hexdigest() if count else "" for made, count in zip(self.hashes, self.counts, strict=True)]
        return hours_digest(self.day, self.retention_class, self.counts, digests)


def hours_digest(day: date, retention_class: str, counts: list[int], digests: list[str]) -> str:
    """The journal's digest of a day, but for the chain: so it can be made without the day before."""
    document = [day.isoformat(), retention_class, counts, digests]
    return hashlib.sha256(_as_jsonb_prints(document).encode()).hexdigest()


def row_hash(row: Any) -> bytes:
    """The hash of a decision as `gate.journal_hours` makes it (docs/retention.md has the arithmetic)."""
    document = [
        str(row.decision_id), (row.decided_at - _EPOCH) // timedelta(microseconds=1), row.retention_class,
        row.originator_id, row.application_id, row.revision, row.channel_id, row.product, row.tier, row.policy_version,
        row.outcome, row.next_action, row.amount, row.currency, row.term_months, list(row.reason_codes),
        bytes(row.fingerprint).hex(), bytes(row.content_digest).hex(), hashlib.sha256(row.response).hexdigest(),
    ]  # fmt: skip
    return hashlib.sha256(_as_jsonb_prints(document).encode()).digest()


async def reconcile(
    connection: AsyncConnection,
    directory: Path,
    selection: Selection,
    *,
    library: PolicyLibrary | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> LogExtract:
    """Bring the days of a period up to date and give them as a source. Holds a few thousand rows at a time.

    `connection` is the governance login's, in one REPEATABLE READ transaction, so that counts, rows and the audit log
    are of one moment. `on_progress` hears the decisions read and to be read. What
    was read before a cancellation or an error is kept.

    Raises:
        ExtractError: where the directory cannot be used.
        LogChangedError: where a day of the log is not what was digested.
        CancelledError: where `is_cancelled` said so.
    """
    place = ExtractDirectory(directory)
    reading = _Reading(connection, place, library or PolicyLibrary(), on_progress, is_cancelled)
    with place.locked():
        days = place.index()
        dropped = await _dropped(connection)
        for key in [key for key in days if (key[0], key[1][:7]) in dropped]:
            del days[key]
        sequence, erased_at = await _audit_position(connection)
        present = [day for day in await _log_days(connection, selection) if (day.key[0], day.key[1][:7]) not in dropped]
        stale = [day for day in present if not await _is_current(connection, place, days, day)]
        unread = {day.key for day in stale}
        again = await _erased_since(connection, {key: days[key] for key in days if key not in unread}, erased_at)
        stale += [day for day in present if day.key in again]
        for key in list(days):
            if key in again:
                del days[key]  # also one that this period does not ask for: what was erased must not stay anywhere
            elif key not in unread:
                days[key] = replace(days[key], audit_sequence=sequence)
        reading.total = sum(day.decisions for day in stale)
        try:
            for day in stale:
                days[day.key] = await reading.day(day, sequence)
        finally:
            place.write_index(days)
    return LogExtract(directory, [days[day.key] for day in present], selection)


# What the log has -----------------------------------------------------------------------------------------------------


async def _log_days(connection: AsyncConnection, selection: Selection) -> list[_LogDay]:
    """Every day of a period that has decisions: as digested, and after the last digest as counted now."""
    digested = await connection.execute(select(journal_digests).order_by(journal_digests.c.day))
    found = []
    last: date | None = None
    for row in digested:
        last = row.day
        if row.decisions and selection.may_hold(row.day):
            hours = [bytes(each).hex() for each in row.hour_digests]
            made = hours_digest(row.day, row.retention_class, list(row.hour_decisions), hours)
            found.append(
                _LogDay(retention_class=row.retention_class, day=row.day, decisions=row.decisions, digest=made)
            )
    day = func.date_trunc("day", decisions.c.decided_at, "UTC").label("day")
    counted = select(decisions.c.retention_class, day, func.count().label("decisions")).group_by(
        decisions.c.retention_class, day
    )
    if last is not None:
        counted = counted.where(decisions.c.decided_at >= _midnight(last + _DAY))
    for row in await connection.execute(counted):
        at = row.day.astimezone(UTC).date()
        if selection.may_hold(at):
            found.append(_LogDay(retention_class=row.retention_class, day=at, decisions=row.decisions, digest=None))
    return sorted(found, key=lambda each: (each.day, each.retention_class))


async def _dropped(connection: AsyncConnection) -> set[tuple[str, str]]:
    """Months whose time was over. What a hold keeps of them is evidence, and no part of a what-if."""
    rows = await connection.execute(select(dropped_months.c.retention_class, dropped_months.c.month))
    return {(row.retention_class, row.month.isoformat()[:7]) for row in rows}


async def _audit_position(connection: AsyncConnection) -> tuple[int, int]:
    """The last entry of the audit log, and the last erasure of a person in it; 0 where there is none."""
    erasures = func.max(audit_log.c.sequence).filter(audit_log.c.action == "person.erase")
    row = (await connection.execute(select(func.max(audit_log.c.sequence), erasures))).one()
    return row[0] or 0, row[1] or 0


async def _is_current(
    connection: AsyncConnection, place: ExtractDirectory, days: Mapping[tuple[str, str], DayFile], day: _LogDay
) -> bool:
    held = days.get(day.key)
    if held is None or held.decisions != day.decisions or not place.is_whole(held):
        return False
    if day.digest is not None:
        return held.log_digest == day.digest
    hours = await connection.execute(
        text("SELECT hour, decisions, digest FROM gate.journal_hours(:retention_class, :day)"),
        {"retention_class": day.retention_class, "day": day.day},
    )
    counts, digests = [0] * _HOURS, [""] * _HOURS
    for row in hours:
        counts[row.hour], digests[row.hour] = row.decisions, bytes(row.digest).hex()
    return held.log_digest == hours_digest(day.day, day.retention_class, counts, digests)


async def _erased_since(
    connection: AsyncConnection, held: Mapping[tuple[str, str], DayFile], erased_at: int
) -> set[tuple[str, str]]:
    """The days of which more is erased in the log than in the extract. Looked for only where someone was erased."""
    doubtful = {key: day for key, day in held.items() if day.audit_sequence < erased_at}
    if not doubtful:
        return set()
    day = func.date_trunc("day", decisions.c.decided_at, "UTC").label("day")
    first, last = min(key[1] for key in doubtful), max(key[1] for key in doubtful)
    counted = (
        select(decisions.c.retention_class, day, func.count().label("erased"))
        .where(
            decisions.c.erased_at.is_not(None),
            decisions.c.decided_at >= _midnight(date.fromisoformat(first)),
            decisions.c.decided_at < _midnight(date.fromisoformat(last) + _DAY),
        )
        .group_by(decisions.c.retention_class, day)
    )
    rows = await connection.execute(counted)
    erased = {(row.retention_class, row.day.astimezone(UTC).date().isoformat()): row.erased for row in rows}
    return {key for key, held_day in doubtful.items() if erased.get(key, 0) != held_day.erased}


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


# Reading one day ------------------------------------------------------------------------------------------------------


class _Reading:
    """Reads days of the log into files."""

    def __init__(
        self,
        connection: AsyncConnection,
        place: ExtractDirectory,
        library: PolicyLibrary,
        on_progress: Callable[[int, int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._place = place
        self._library = library
        self._on_progress = on_progress
        self._is_cancelled = is_cancelled
        self._done = 0
        self.total = 0

    async def day(self, day: _LogDay, audit_sequence: int) -> DayFile:
        """Read one day, and hold what was read against its digest."""
        if day.retention_class not in RETENTION_CLASSES:
            raise ExtractError(f"there is no retention class {day.retention_class}")
        made = DayFile(
            retention_class=day.retention_class,
            day=day.day.isoformat(),
            decisions=0,
            erased=0,
            unreadable=0,
            log_digest="",
            audit_sequence=audit_sequence,
            file_digest="",
        )
        policies = await self._policies(day)
        hours = _Hours(day.day, day.retention_class)
        packer = Packer({name for policy in policies.values() for name in policy.attributes})
        erased = unreadable = 0
        with self._place.writer(made.name, packer.schema) as write:
            async for rows in self._rows(day):
                if self._is_cancelled():
                    raise CancelledError
                for row in rows:
                    hours.add(row)
                    readable = _pack(packer, row, policies.get(row.policy_version))
                    erased += row.erased_at is not None
                    unreadable += not readable and row.erased_at is None
                if len(packer) >= _PACKED_ROWS:
                    write(packer.batch())
                self._done += len(rows)
                self._on_progress(self._done, max(self.total, self._done))
            write(packer.batch())
            digest = hours.digest()
            if day.digest is not None and digest != day.digest:
                raise LogChangedError(f"{day.day} {day.retention_class} is not what was digested")
        return replace(
            made,
            decisions=sum(hours.counts),
            erased=erased,
            unreadable=unreadable,
            log_digest=digest,
            file_digest=self._place.digest_of(made.name),
        )

    async def _policies(self, day: _LogDay) -> dict[int, CompiledPolicy]:
        """The versions that decided that day, as far as this version of the service can compile them."""
        versions = select(decisions.c.policy_version).distinct().where(*_of_day(day))
        found = {}
        for version in (await self._connection.execute(versions)).scalars().all():
            try:
                found[version] = await self._library.policy(self._connection, version)
            except (UnknownVersionError, PolicyError):
                continue  # its decisions are counted as unreadable
        return found

    async def _rows(self, day: _LogDay) -> AsyncIterator[list[Row[Any]]]:
        query = select(decisions).where(*_of_day(day)).order_by(decisions.c.decision_id)
        async with self._connection.stream(query, execution_options={"yield_per": _STREAM_ROWS}) as result:
            async for rows in result.partitions():
                yield list(rows)


def _of_day(day: _LogDay) -> tuple[Any, ...]:
    return (
        decisions.c.retention_class == day.retention_class,
        decisions.c.decided_at >= _midnight(day.day),
        decisions.c.decided_at < _midnight(day.day + _DAY),
    )


def _pack(packer: Packer, row: Row[Any], policy: CompiledPolicy | None) -> bool:
    """Add one decision; whether its request could be read.

    Raises:
        LogChangedError: where input and record are not what was decided from.
    """
    context = Context(
        row_id=row.decision_id.bytes,
        decided_at=row.decided_at,
        channel_code=row.channel_code,
        tier=row.tier,
        policy_version=row.policy_version,
        outcome=row.outcome,
        next_action=row.next_action,
        ceiling_amount=row.ceiling_amount,
        offered_amount=row.offered_amount,
        reason_codes=",".join(row.reason_codes),
        readable=False,
        erased=row.erased_at is not None,
    )
    if row.erased_at is not None:
        packer.add(context, None)
        return False
    if row.input is None or row.record is None or hashlib.sha256(row.input + row.record).digest() != row.content_digest:
        raise LogChangedError(f"input or record of decision {row.decision_id} has been changed")
    try:
        if policy is None:
            raise ValueError("the policy cannot be compiled")
        whole = _whole(context, policy, orjson.loads(row.record))
        packer.add(whole, _request(row.input))
    except (KeyError, TypeError, ValueError):
        packer.add(context, None)
        return False
    return True


def _whole(context: Context, policy: CompiledPolicy, record: Mapping[str, Any]) -> Context:
    stored = record["standing"]
    assigned = _assigned_tier(policy, stored["state"], stored["tier"], stored["rules_tier"], stored["ceiling_tier"])
    facts = record["facts"]
    return replace(
        context,
        readable=True,
        channel_state=stored["state"],
        served=stored["served"],
        assigned_tier=assigned,
        facts=Facts.from_document(facts).values() if facts else {},
    )


@lru_cache(maxsize=1_024)
def _assigned_tier(policy: CompiledPolicy, state: str, tier: str, rules_tier: str, ceiling_tier: str) -> str | None:
    """The channel's own tier, as far as the way it stood tells; there are only so many ways to stand."""
    standing = Standing(
        channel_id=ChannelId(0),
        code="",
        state=ChannelState(state),
        served=True,
        tier=tier,
        rules_tier=rules_tier,
        ceiling_tier=ceiling_tier,
    )
    return assigned_tier(policy, standing)


def _request(stored: bytes) -> Mapping[str, Any]:
    """The stored request, read as the hot path reads it, or plainly where the schema has become stricter since."""
    try:
        return PAYLOAD.validate_json(stored)
    except ValidationError:
        document: Mapping[str, Any] = orjson.loads(stored)
        return document
