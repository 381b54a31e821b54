"""The challenger: setting and clearing it, and the report of what it would have decided."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import challengers, shadow_hours, shadow_losses, shadow_reasons
from app.domain.canonical import canonical_bytes, digest
from app.domain.compiled import CompiledPolicy

MAX_EXAMPLES = 5
FULL_SAMPLE_PPM = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChallenger:
    """A policy that was set to be evaluated beside the active one, over [set_at, cleared_at)."""

    number: int
    name: str
    digest: bytes
    sample_ppm: int
    comment: str | None
    set_by: str
    set_at: datetime
    cleared_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowCell:
    """How many decisions of a channel and tier had one outcome, and would have had the other; ids of a few of them."""

    channel: str
    tier: str
    before: str
    after: str
    evaluations: int
    examples: tuple[UUID, ...]

    @property
    def agrees(self) -> bool:
        """Whether the challenger would have decided alike."""
        return self.before == self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonShift:
    """How often the challenger gave a reason that the active policy did not, and the other way round."""

    channel: str
    tier: str
    code: str
    gained: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """What workers have stored of one challenger; the last few seconds may be missing."""

    cells: tuple[ShadowCell, ...]
    reasons: tuple[ReasonShift, ...]
    errors: int
    dropped: int

    @property
    def evaluations(self) -> int:
        """How many decisions were compared."""
        return sum(cell.evaluations for cell in self.cells)

    @property
    def flips(self) -> int:
        """How many of them the challenger would have made otherwise."""
        return sum(cell.evaluations for cell in self.cells if not cell.agrees)


_SET = text("SELECT * FROM gate.challenger_set(:name, :document, :digest, :sample_ppm, :comment, :actor, :request_id)")
_CLEAR = text("SELECT gate.challenger_clear(:comment, :actor, :request_id)")


async def set_challenger(
    connection: AsyncConnection, compiled: CompiledPolicy, *, sample_ppm: int, comment: str | None, change: Change
) -> tuple[StoredChallenger, bool]:
    """Make the policy the challenger in place of the one before; whether that changed anything.

    The same document at the same rate changes nothing, so a request whose answer was lost can be repeated.
    """
    content = canonical_bytes(compiled.document.document())
    given = {
        "name": compiled.document.name,
        "document": content.decode(),
        "digest": digest(content),
        "sample_ppm": sample_ppm,
        "comment": comment,
        "actor": change.actor,
        "request_id": change.request_id,
    }
    with refusals():
        number, changed = (await connection.execute(_SET, given)).one()
    row = (await connection.execute(_challengers().where(challengers.c.challenger_id == number))).mappings().one()
    return _challenger(row), changed


async def clear_challenger(connection: AsyncConnection, *, comment: str | None, change: Change) -> None:
    """Evaluate no challenger any more; its report stays.

    Raises:
        UnknownSubjectError: where there is none.
    """
    given = {"comment": comment, "actor": change.actor, "request_id": change.request_id}
    with refusals():
        await connection.execute(_CLEAR, given)


async def latest_challenger(connection: AsyncConnection) -> StoredChallenger | None:
    """The challenger, or the last one where none is evaluated now."""
    query = _challengers().order_by(challengers.c.challenger_id.desc()).limit(1)
    row = (await connection.execute(query)).mappings().first()
    return None if row is None else _challenger(row)


async def shadow_report(
    connection: AsyncConnection, number: int, *, since: datetime | None = None, until: datetime | None = None
) -> ShadowReport:
    """The report of a challenger over the hours that begin in [since, until)."""

    def of(table: Any, query: Select[Any]) -> Select[Any]:
        query = query.where(table.c.challenger_id == number)
        if since is not None:
            query = query.where(table.c.hour >= since)
        return query if until is None else query.where(table.c.hour < until)

    hours, shifts, losses = shadow_hours.c, shadow_reasons.c, shadow_losses.c
    # One string of ids an hour: array_agg cannot put arrays of different lengths together.
    ids = func.string_agg(func.array_to_string(hours.examples, ","), ",")
    key = (hours.channel, hours.tier, hours.before, hours.after)
    cells = of(shadow_hours, select(*key, func.sum(hours.evaluations), ids)).group_by(*key).order_by(*key)
    reason_key = (shifts.channel, shifts.tier, shifts.code)
    reasons = of(shadow_reasons, select(*reason_key, func.sum(shifts.gained), func.sum(shifts.lost)))
    lost = of(shadow_losses, select(func.sum(losses.errors), func.sum(losses.dropped)))
    errors, dropped = (await connection.execute(lost)).one()
    return ShadowReport(
        cells=tuple(
            ShadowCell(
                channel=channel,
                tier=tier,
                before=before,
                after=after,
                evaluations=int(evaluations),
                examples=tuple(UUID(each) for each in examples.split(",")[:MAX_EXAMPLES]),
            )
            for channel, tier, before, after, evaluations, examples in await connection.execute(cells)
        ),
        reasons=tuple(
            ReasonShift(channel=channel, tier=tier, code=code, gained=int(gained), lost=int(missing))
            for channel, tier, code, gained, missing in await connection.execute(
                reasons.group_by(*reason_key).order_by(*reason_key)
            )
        ),
        errors=int(errors or 0),
        dropped=int(dropped or 0),
    )


def _challengers() -> Select[Any]:
    return select(*(column for column in challengers.c if column.name not in {"document", "cleared_by"}))


def _challenger(row: RowMapping) -> StoredChallenger:
    return StoredChallenger(
        number=row["challenger_id"],
        name=row["name"],
        digest=bytes(row["digest"]),
        sample_ppm=row["sample_ppm"],
        comment=row["comment"],
        set_by=row["set_by"],
        set_at=row["set_at"].astimezone(UTC),
        cleared_at=row["cleared_at"] and row["cleared_at"].astimezone(UTC),
    )
