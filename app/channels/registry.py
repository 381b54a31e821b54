"""The registry of channels: reading it, and every change that can be made to it.

Changes go through functions of the database, as the governance login, inside a transaction of the caller's: each takes
the fence, bumps the revision that workers follow, and appends to the audit log, or does nothing at all.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.channels.expiry import expires_within_days, expiring, in_service
from app.db.changes import Change, refusals
from app.db.tables import channel_aliases, channel_state_changes, channels
from app.domain.channel import ChannelId, ChannelKind, ChannelState

MAX_PAGE = 200
MAX_HISTORY = 500

AMENDABLE = frozenset({"name", "owner", "agreement_id", "services", "valid_from", "valid_to"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredChannel:
    """A channel as it is registered. Validity is [valid_from, valid_to); no end means open.

    `revision` is that of the channel's last change, tier assignments included; it only ever grows.
    """

    channel_id: ChannelId
    code: str
    name: str
    kind: ChannelKind
    state: ChannelState
    owner: str
    agreement_id: str | None
    services: tuple[str, ...]
    valid_from: datetime
    valid_to: datetime | None
    aliases: tuple[str, ...]
    revision: int
    created_at: datetime
    updated_at: datetime

    def expires_within_days(self, at: datetime) -> int | None:
        """The shortest warning that is due: 7, 30 or 60; None where the end is further away, open, or past."""
        return expires_within_days(self.valid_to, at)

    def expired(self, at: datetime) -> bool:
        """Whether the validity has run out."""
        return self.valid_to is not None and at >= self.valid_to

    def shown(self, at: datetime) -> dict[str, object]:
        """The channel as documents show it at a moment: without the database's own id, with what has run out."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["channel_id"]
        return fields | {"expired": self.expired(at), "expires_within_days": self.expires_within_days(at)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """One move of a channel from one state to another; the first has none before it."""

    state_before: ChannelState | None
    state_after: ChannelState
    at: datetime
    actor: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What is stated when a channel is put on the list."""

    code: str
    name: str
    kind: ChannelKind
    owner: str
    valid_from: datetime
    valid_to: datetime | None = None
    state: ChannelState = ChannelState.PROPOSED
    agreement_id: str | None = None
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFilter:
    """Which channels a list shows: those for which everything that is given holds.

    `expiring_within_days` keeps served channels whose validity ends in (at, at + days].
    """

    kind: ChannelKind | None = None
    states: frozenset[ChannelState] = frozenset()
    owner: str | None = None
    expiring_within_days: int | None = None


# Reading --------------------------------------------------------------------------------------------------------------


async def list_channels(
    connection: AsyncConnection,
    where: ChannelFilter,
    *,
    at: datetime,
    after_code: str | None = None,
    limit: int = MAX_PAGE,
) -> tuple[RegisteredChannel, ...]:
    """At most `limit` channels in the order of their codes, beginning after `after_code`."""
    query = selection().order_by(channels.c.code).limit(limit)
    if where.kind is not None:
        query = query.where(channels.c.kind == where.kind.value)
    if where.states:
        query = query.where(channels.c.state.in_(sorted(where.states)))
    if where.owner is not None:
        query = query.where(channels.c.owner == where.owner)
    if where.expiring_within_days is not None:
        query = query.where(expiring(at, where.expiring_within_days))
    if after_code is not None:
        query = query.where(channels.c.code > after_code)
    return tuple(channel_of(row) for row in (await connection.execute(query)).mappings())


async def find_channel(connection: AsyncConnection, code: str) -> RegisteredChannel | None:
    """The channel with this code; aliases are not looked at."""
    row = (await connection.execute(selection().where(channels.c.code == code))).mappings().first()
    return None if row is None else channel_of(row)


async def state_history(connection: AsyncConnection, channel_id: ChannelId) -> tuple[StateChange, ...]:
    """The channel's moves, newest first; at most `MAX_HISTORY`."""
    moves = channel_state_changes
    query = (
        select(moves.c.state_before, moves.c.state_after, moves.c.at, moves.c.actor, moves.c.reason)
        .where(moves.c.channel_id == channel_id)
        .order_by(moves.c.change_id.desc())
        .limit(MAX_HISTORY)
    )
    return tuple(
        StateChange(
            state_before=None if row["state_before"] is None else ChannelState(row["state_before"]),
            state_after=ChannelState(row["state_after"]),
            at=row["at"].astimezone(UTC),
            actor=row["actor"],
            reason=row["reason"],
        )
        for row in (await connection.execute(query)).mappings()
    )


async def list_expiring(
    connection: AsyncConnection, *, at: datetime, within_days: int
) -> tuple[RegisteredChannel, ...]:
    """The served channels whose validity ends within so many days, or has ended; the first end first."""
    query = (
        selection()
        .where(in_service(), channels.c.valid_to <= at + timedelta(days=within_days))
        .order_by(channels.c.valid_to, channels.c.code)
    )
    return tuple(channel_of(row) for row in (await connection.execute(query)).mappings())


def selection() -> Select[Any]:
    """All columns of all channels, with their aliases, as `channel_of` reads them."""
    aliases = (
        select(func.coalesce(func.array_agg(channel_aliases.c.alias), text("'{}'::text[]")))
        .where(channel_aliases.c.channel_id == channels.c.channel_id)
        .scalar_subquery()
    )
    return select(channels, aliases.label("aliases"))


# Changing -------------------------------------------------------------------------------------------------------------

_REGISTER = text(
    "SELECT * FROM gate.channel_register(:code, :name, :kind, :state, :owner, :agreement_id, :services, :valid_from,"
    " :valid_to, :actor, :reason, :request_id)"
)
_AMEND = text("SELECT * FROM gate.channel_amend(:code, :changes, :expected_revision, :actor, :reason, :request_id)")
_SET_STATE = text(
    "SELECT * FROM gate.channel_set_state(:code, :state, :expected_revision, :actor, :reason, :request_id)"
)
_KILL = text(
    "SELECT k.voided, (k.channel).* FROM gate.channel_kill(:code, :state, :expected_revision, :actor, :reason,"
    " :request_id) k"
)
_ALIAS_PUT = text("SELECT gate.channel_alias_put(:code, :alias, :actor, :request_id)")
_ALIAS_REMOVE = text("SELECT gate.channel_alias_remove(:code, :alias, :actor, :request_id)")


async def register(
    connection: AsyncConnection, registration: Registration, *, reason: str | None, change: Change
) -> RegisteredChannel:
    """Put a channel on the list.

    Raises:
        ConflictingChangeError: where its code is a channel's or an alias already.
        InvalidChangeError: where its validity ends before it begins.
    """
    given: dict[str, Any] = {
        "code": registration.code,
        "name": registration.name,
        "kind": registration.kind.value,
        "state": registration.state.value,
        "owner": registration.owner,
        "agreement_id": registration.agreement_id,
        "services": list(registration.services),
        "valid_from": registration.valid_from,
        "valid_to": registration.valid_to,
    }
    with refusals():
        row = (await connection.execute(_REGISTER, {**given, "reason": reason, **_by(change)})).mappings().one()
    return channel_of({**row, "aliases": ()})


async def amend(
    connection: AsyncConnection,
    code: str,
    changes: Mapping[str, object],
    *,
    expected_revision: int | None,
    reason: str | None,
    change: Change,
) -> RegisteredChannel:
    """Change any of `AMENDABLE`; a None clears what may be empty. `expected_revision` guards against lost updates.

    Raises:
        UnknownSubjectError, StaleChangeError, InvalidChangeError: nothing was changed.
    """
    plain = {
        name: value.isoformat() if isinstance(value, datetime) else list(value) if isinstance(value, tuple) else value
        for name, value in changes.items()
    }
    given = {"code": code, "changes": json.dumps(plain), "expected_revision": expected_revision, "reason": reason}
    with refusals():
        row = (await connection.execute(_AMEND, {**given, **_by(change)})).mappings().one()
    return await _with_aliases(connection, row)


async def set_state(
    connection: AsyncConnection,
    code: str,
    state: ChannelState,
    *,
    reason: str,
    expected_revision: int | None = None,
    change: Change,
) -> RegisteredChannel:
    """Move a channel to another state. Once this has committed, no accept for a suspended channel can commit.

    Raises:
        ConflictingChangeError: where the present state does not lead there.
        UnknownSubjectError, StaleChangeError: nothing was changed.
    """
    given = {"code": code, "state": state.value, "expected_revision": expected_revision, "reason": reason}
    with refusals():
        row = (await connection.execute(_SET_STATE, {**given, **_by(change)})).mappings().one()
    return await _with_aliases(connection, row)


async def kill(
    connection: AsyncConnection,
    code: str,
    state: ChannelState,
    *,
    reason: str,
    expected_revision: int | None = None,
    change: Change,
) -> tuple[RegisteredChannel, int]:
    """Suspend a channel or let it exit, and void its open reservations in the same transaction; how many they were.

    Raises:
        ConflictingChangeError: where the present state does not lead there.
        InvalidChangeError: where the new state is one that is served.
        UnknownSubjectError, StaleChangeError: nothing was changed.
    """
    given = {"code": code, "state": state.value, "expected_revision": expected_revision, "reason": reason}
    with refusals():
        row = (await connection.execute(_KILL, {**given, **_by(change)})).mappings().one()
    return await _with_aliases(connection, row), row["voided"]


async def put_alias(connection: AsyncConnection, code: str, alias: str, *, change: Change) -> None:
    """Let another tag mean this channel; does nothing where it does already.

    Raises:
        ConflictingChangeError: where the tag is a channel's code or another channel's alias.
        UnknownSubjectError: no channel has the code.
    """
    with refusals():
        await connection.execute(_ALIAS_PUT, {"code": code, "alias": alias, **_by(change)})


async def remove_alias(connection: AsyncConnection, code: str, alias: str, *, change: Change) -> bool:
    """Take a tag from this channel; false where it was not one of its tags.

    Raises:
        UnknownSubjectError: no channel has the code.
    """
    with refusals():
        removed = await connection.scalar(_ALIAS_REMOVE, {"code": code, "alias": alias, **_by(change)})
    return bool(removed)


def _by(change: Change) -> dict[str, str]:
    return {"actor": change.actor, "request_id": change.request_id}


async def _with_aliases(connection: AsyncConnection, row: RowMapping) -> RegisteredChannel:
    query = select(channel_aliases.c.alias).where(channel_aliases.c.channel_id == row["channel_id"])
    aliases: Iterable[str] = (await connection.execute(query)).scalars()
    return replace(channel_of({**row, "aliases": ()}), aliases=tuple(sorted(aliases)))


def channel_of(row: Mapping[str, Any] | RowMapping) -> RegisteredChannel:
    """A row of `selection`."""
    return RegisteredChannel(
        channel_id=ChannelId(row["channel_id"]),
        code=row["code"],
        name=row["name"],
        kind=ChannelKind(row["kind"]),
        state=ChannelState(row["state"]),
        owner=row["owner"],
        agreement_id=row["agreement_id"],
        services=tuple(row["services"]),
        valid_from=row["valid_from"].astimezone(UTC),
        valid_to=row["valid_to"] and row["valid_to"].astimezone(UTC),
        aliases=tuple(sorted(row["aliases"])),
        revision=row["revision"],
        created_at=row["created_at"].astimezone(UTC),
        updated_at=row["updated_at"].astimezone(UTC),
    )
