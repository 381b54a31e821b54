"""Break-glass: one person changes the active policy at once, for a time; unless a second one confirms, it is undone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import break_glass, policies
from app.governance.drafts import DraftContent
from app.governance.signature import Signature

MAX_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    """One emergency: who, why, until when, and what came of it (`open`, `confirmed`, `reverted`, `superseded`)."""

    break_glass_id: int
    state: str
    version: int
    digest: bytes
    returns_to: int
    reason: str
    person_id: str
    nonce: str
    opened_at: datetime
    expires_at: datetime
    confirmed_by: str | None
    ended_at: datetime | None
    ended_by: str | None


_OPEN = text(
    "SELECT break_glass_id FROM gate.break_glass_open(:person_id, :nonce, :name, :document, :digest, :expected_active,"
    " :expires_at, :reason, :proof, :actor, :request_id)"
)
_CONFIRM = text(
    "SELECT break_glass_id FROM gate.break_glass_confirm(:break_glass_id, :person_id, :digest, :comment, :proof,"
    " :actor, :request_id)"
)
_END = text("SELECT break_glass_id FROM gate.break_glass_end(:break_glass_id, :reason, :actor, :request_id)")


async def open_break_glass(
    connection: AsyncConnection,
    content: DraftContent,
    *,
    signature: Signature,
    nonce: str,
    expires_at: datetime,
    expected_active: int | None,
    reason: str,
    change: Change,
) -> BreakGlass:
    """Make a document active without a second person, until `expires_at` at the latest.

    Raises:
        ForbiddenChangeError: where the signature does not hold.
        InvalidChangeError: without a reason, or with an end that is past or too far away.
        ConflictingChangeError: where one is open, or there is nothing to return to.
        StaleChangeError: where another version than `expected_active` is active.
    """
    given = {
        "person_id": signature.person_id,
        "nonce": nonce,
        "name": content.name,
        "document": content.text,
        "digest": content.digest,
        "expected_active": expected_active,
        "expires_at": expires_at,
        "reason": reason,
        "proof": signature.proof,
    }
    return await _changed(connection, _OPEN, given, change)


async def confirm_break_glass(
    connection: AsyncConnection,
    break_glass_id: int,
    *,
    signature: Signature,
    document_digest: bytes,
    comment: str | None,
    change: Change,
) -> BreakGlass:
    """Let the change stand, as a second person.

    Raises:
        ForbiddenChangeError: where the signature does not hold, or is that of who broke the glass.
        UnknownSubjectError, ConflictingChangeError, StaleChangeError: nothing was changed.
    """
    given = {
        "break_glass_id": break_glass_id,
        "person_id": signature.person_id,
        "digest": document_digest,
        "comment": comment,
        "proof": signature.proof,
    }
    return await _changed(connection, _CONFIRM, given, change)


async def end_break_glass(
    connection: AsyncConnection, break_glass_id: int, *, reason: str, change: Change
) -> BreakGlass:
    """Bring the policy before back now.

    Raises:
        UnknownSubjectError, ConflictingChangeError: nothing was changed.
    """
    return await _changed(connection, _END, {"break_glass_id": break_glass_id, "reason": reason}, change)


async def find_break_glass(connection: AsyncConnection, break_glass_id: int) -> BreakGlass | None:
    """One by its number."""
    row = (await connection.execute(_selection().where(break_glass.c.break_glass_id == break_glass_id))).mappings()
    found = row.first()
    return None if found is None else _break_glass(found)


async def break_glass_of_version(connection: AsyncConnection, version: int) -> BreakGlass | None:
    """The one that made this version active."""
    found = (await connection.execute(_selection().where(break_glass.c.version == version))).mappings().first()
    return None if found is None else _break_glass(found)


async def list_break_glass(
    connection: AsyncConnection, *, before_id: int | None = None, limit: int = MAX_PAGE
) -> tuple[BreakGlass, ...]:
    """At most `limit`, the newest first, beginning below `before_id`."""
    query = _selection().order_by(break_glass.c.break_glass_id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(break_glass.c.break_glass_id < before_id)
    return tuple(_break_glass(row) for row in (await connection.execute(query)).mappings())


def _selection() -> Any:
    return select(break_glass, policies.c.digest).join_from(
        break_glass, policies, policies.c.version == break_glass.c.version
    )


async def _changed(connection: AsyncConnection, statement: Any, given: dict[str, Any], change: Change) -> BreakGlass:
    with refusals():
        number = (
            await connection.execute(statement, given | {"actor": change.actor, "request_id": change.request_id})
        ).scalar_one()
    row = (await connection.execute(_selection().where(break_glass.c.break_glass_id == number))).mappings().one()
    return _break_glass(row)


def _break_glass(row: RowMapping) -> BreakGlass:
    values: dict[str, Any] = {
        name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()
    }
    return BreakGlass(**values)
