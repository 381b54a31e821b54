"""API keys: their text, their check against the rows of a snapshot, and their life in the database.

A key is `cgk_<key id>_<secret>`. The secret is 32 random bytes, so one round of SHA-256 hides it as well as a slow hash
would: there is nothing to guess. Only the hash is stored.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any, TypeAlias

import asyncpg

from app.db.changes import Change
from app.identities.principal import ORIGINATOR_ROLES, OriginatorId, Principal, Refusal, Role, known_roles

_PREFIX = b"cgk_"
_START = b"Bearer cgk_"
_NO_HASH = bytes(32)

Row: TypeAlias = "Mapping[str, Any] | asyncpg.Record"

KEY_ROWS_SQL = """
SELECT k.key_id, k.originator_id, o.code AS originator_code, k.person_id, k.secret_hash, k.label, k.roles,
       k.rate_limit_per_second, k.created_at, k.expires_at, k.revoked_at
FROM gate.api_keys k LEFT JOIN gate.originators o USING (originator_id)
"""
"""The rows that `KeyRing.from_rows` reads."""
_CREATE = "gate.api_key_create($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"


class KeyChangeError(Exception):
    """A change of keys that cannot be made. The text names no secret."""


class UnknownKeyError(KeyChangeError):
    """No key has this id."""


class UnknownOriginatorError(KeyChangeError):
    """No originator has this code."""


@dataclass(frozen=True, slots=True)
class _Entry:
    secret_hash: bytes
    principal: Principal
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyRing:
    """The keys of one snapshot. Immutable, so one check reads one state of all keys."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[bytes, _Entry] | None = None) -> None:
        self._entries = dict(entries or {})

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> KeyRing:
        """The ring of the rows that `KEY_ROWS_SQL` reads."""
        return cls(
            {
                row["key_id"].encode(): _Entry(
                    secret_hash=bytes(row["secret_hash"]),
                    principal=Principal(
                        subject=f"key:{row['key_id']}",
                        roles=known_roles(row["roles"]),
                        person_id=row["person_id"],
                        originator_id=row["originator_id"],
                        originator_code=row["originator_code"],
                        key_id=row["key_id"],
                        rate_limit_per_second=row["rate_limit_per_second"],
                    ),
                    expires_at=row["expires_at"],
                    revoked_at=row["revoked_at"],
                )
                for row in rows
            }
        )

    def __len__(self) -> int:
        return len(self._entries)

    def authenticate(self, authorization: bytes | str, now: datetime) -> Principal | Refusal:
        """Whose key the value of an Authorization header is. A key is valid over [created, expiry or revocation).

        An unknown id costs the same comparison as a wrong secret. That a key ended is said only to who holds it.
        """
        if isinstance(authorization, str):
            authorization = authorization.encode("utf-8", "replace")
        if not authorization.startswith(_START):
            if authorization[:7].lower() != b"bearer " or authorization[7:].lstrip()[:4] != _PREFIX:
                return Refusal.NOT_A_KEY
            authorization = b"Bearer " + authorization[7:].lstrip()
        key_id, _, secret = authorization[11:].partition(b"_")
        entry = self._entries.get(key_id)
        expected = _NO_HASH if entry is None else entry.secret_hash
        if not compare_digest(sha256(secret).digest(), expected) or entry is None:
            return Refusal.INVALID
        if entry.revoked_at is not None and now >= entry.revoked_at:
            return Refusal.REVOKED
        if entry.expires_at is not None and now >= entry.expires_at:
            return Refusal.EXPIRED
        return entry.principal


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key. `text` holds the secret and is known at this moment only; it stays out of `repr`."""

    key_id: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What is known of a key afterwards."""

    key_id: str
    label: str
    originator_code: str | None
    person_id: str | None
    roles: tuple[str, ...]
    rate_limit_per_second: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> str:
        """`revoked`, `expired`, `ending` (a revocation lies ahead) or `valid`."""
        if self.revoked_at is not None and now >= self.revoked_at:
            return "revoked"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return "valid" if self.revoked_at is None else "ending"


async def register_originator(connection: asyncpg.Connection, *, code: str, name: str, change: Change) -> OriginatorId:
    """The id of the originator with this code, registered now where it was not. `connection` is governance's.

    Raises:
        KeyChangeError: where the code is not 1 to 64 letters, digits, dots, hyphens and underscores.
    """
    try:
        number = await connection.fetchval(
            "SELECT gate.originator_register($1, $2, $3, $4)", code, name, change.actor, change.request_id
        )
    except asyncpg.CheckViolationError:
        raise KeyChangeError("an originator's code is 1 to 64 letters, digits, dots, hyphens or underscores") from None
    return OriginatorId(number)


async def issue(
    connection: asyncpg.Connection,
    *,
    label: str,
    roles: Iterable[Role],
    originator_code: str | None = None,
    person_id: str | None = None,
    rate_limit_per_second: int | None = None,
    expires_at: datetime | None = None,
    change: Change,
) -> IssuedKey:
    """Make a key. `connection` is that of the governance login. Workers learn of the key with their next snapshot.

    Raises:
        KeyChangeError: where the roles are none, or need an originator that is not given.
        UnknownOriginatorError: where the originator is not registered.
    """
    granted = sorted(set(roles))
    if not granted:
        raise KeyChangeError("a key needs at least one role")
    if originator_code is None and not ORIGINATOR_ROLES.isdisjoint(granted):
        raise KeyChangeError("a key for origination or outcomes belongs to an originator")
    if rate_limit_per_second is not None and rate_limit_per_second < 1:
        raise KeyChangeError("a rate limit is at least 1 per second")
    issued = _new_key()
    given = _new_row(
        issued,
        label=label,
        roles=granted,
        originator_code=originator_code,
        person_id=person_id,
        rate_limit_per_second=rate_limit_per_second,
        expires_at=expires_at,
        change=change,
    )
    try:
        await connection.execute(f"SELECT {_CREATE}", *given)
    except asyncpg.PostgresError as error:
        if error.sqlstate == "CG404":
            raise UnknownOriginatorError("no originator has this code") from None
        raise
    return issued


async def rotate(
    connection: asyncpg.Connection,
    key_id: str,
    *,
    overlap: timedelta,
    now: datetime,
    expires_at: datetime | None = None,
    change: Change,
) -> IssuedKey:
    """A new key with the rights of an old one, which ends `overlap` from now. Both or neither happens.

    Without `expires_at` the new key lives as long as the old one was made for.

    Raises:
        UnknownKeyError: where no key has this id.
        KeyChangeError: where the old key has ended or is ending already, or the overlap is negative.
    """
    if overlap < timedelta(0):
        raise KeyChangeError("an overlap cannot be negative")
    old = await _record(connection, key_id)
    if old.state(now) != "valid":
        raise KeyChangeError(f"the key is {old.state(now)}: issue a new one")
    if expires_at is None and old.expires_at is not None:
        expires_at = now + (old.expires_at - old.created_at)
    issued = _new_key()
    given = _new_row(
        issued,
        label=old.label,
        roles=sorted(known_roles(old.roles)),
        originator_code=old.originator_code,
        person_id=old.person_id,
        rate_limit_per_second=old.rate_limit_per_second,
        expires_at=expires_at,
        change=change,
    )
    # One statement, not a transaction: between two of them this process would hold the fence that decisions pass.
    await connection.execute(
        f"SELECT {_CREATE}, gate.api_key_revoke($11, $12, $9, $13, $10)",
        *given,
        key_id,
        now + overlap,
        f"rotated to {issued.key_id}",
    )
    return issued


async def revoke(connection: asyncpg.Connection, key_id: str, *, at: datetime, reason: str, change: Change) -> bool:
    """End a key at `at`, now or later. False where it ends no later already; a revocation is never taken back.

    Raises:
        UnknownKeyError: where no key has this id.
    """
    try:
        ended: bool = await connection.fetchval(
            "SELECT gate.api_key_revoke($1, $2, $3, $4, $5)", key_id, at, change.actor, reason, change.request_id
        )
    except asyncpg.PostgresError as error:
        if error.sqlstate == "CG404":
            raise UnknownKeyError("no API key has this id") from None
        raise
    return ended


def _new_key() -> IssuedKey:
    key_id = secrets.token_hex(8)
    return IssuedKey(key_id=key_id, text=f"cgk_{key_id}_{secrets.token_urlsafe(32)}")


def _new_row(
    issued: IssuedKey,
    *,
    label: str,
    roles: Iterable[Role],
    originator_code: str | None,
    person_id: str | None,
    rate_limit_per_second: int | None,
    expires_at: datetime | None,
    change: Change,
) -> tuple[object, ...]:
    """The arguments of `_CREATE`."""
    secret = issued.text.split("_", 2)[2]
    return (
        issued.key_id,
        originator_code,
        person_id,
        sha256(secret.encode()).digest(),
        label,
        [role.value for role in roles],
        rate_limit_per_second,
        expires_at,
        change.actor,
        change.request_id,
    )


async def list_keys(connection: asyncpg.Connection) -> tuple[KeyRecord, ...]:
    """Every key that was ever made, by originator and age."""
    rows = await connection.fetch(f"{KEY_ROWS_SQL} ORDER BY o.code NULLS LAST, k.created_at, k.key_id")
    return tuple(_key_record(row) for row in rows)


async def _record(connection: asyncpg.Connection, key_id: str) -> KeyRecord:
    row = await connection.fetchrow(f"{KEY_ROWS_SQL} WHERE k.key_id = $1", key_id)
    if row is None:
        raise UnknownKeyError("no API key has this id")
    return _key_record(row)


def _key_record(row: Row) -> KeyRecord:
    return KeyRecord(
        key_id=row["key_id"],
        label=row["label"],
        originator_code=row["originator_code"],
        person_id=row["person_id"],
        roles=tuple(row["roles"]),
        rate_limit_per_second=row["rate_limit_per_second"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
