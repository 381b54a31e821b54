"""Webhook endpoints: where an originator is told, made and ended by governance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.db.tables import originators, webhook_endpoints, webhook_secrets
from app.events.guard import UrlGuard
from app.events.secrets import NewSecret, SecretKeys, new_secret


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRecord:
    """What is known of a secret afterwards. It signs over [created_at, ends_at)."""

    number: int
    created_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an originator is told. `kinds` is None for every kind of event."""

    endpoint_id: UUID
    originator: str
    url: str
    kinds: tuple[str, ...] | None
    description: str | None
    created_by: str
    created_at: datetime
    disabled_by: str | None
    disabled_at: datetime | None
    secrets: tuple[SecretRecord, ...]


_CREATE = text(
    "SELECT gate.webhook_create(:endpoint_id, :originator, :url, :kinds, :description, :salt, :key_id, :actor,"
    " :request_id)"
)
_ROTATE = text("SELECT gate.webhook_rotate(:endpoint_id, :salt, :key_id, :overlap, :actor, :reason, :request_id)")
_DISABLE = text("SELECT gate.webhook_disable(:endpoint_id, :actor, :reason, :request_id)")


async def create_endpoint(
    connection: AsyncConnection,
    *,
    originator: str,
    url: str,
    kinds: Sequence[str] | None,
    description: str | None,
    guard: UrlGuard,
    keys: SecretKeys,
    change: Change,
) -> tuple[Endpoint, NewSecret]:
    """Register an endpoint; it hears of what happens from now on.

    Raises:
        BlockedUrlError: where no webhook may lead there.
        UnknownSubjectError, InvalidChangeError: where the originator or a kind is unknown.
    """
    guard.check_form(url)
    endpoint_id, secret = uuid4(), new_secret(keys)
    given = {
        "endpoint_id": endpoint_id,
        "originator": originator,
        "url": url,
        "kinds": None if kinds is None else sorted(set(kinds)),
        "description": description,
        "salt": secret.salt,
        "key_id": secret.key_id,
    }
    with refusals():
        await connection.execute(_CREATE, given | _by(change))
    return await _one(connection, endpoint_id), secret


async def rotate_secret(
    connection: AsyncConnection,
    endpoint_id: UUID,
    *,
    overlap: timedelta,
    reason: str | None,
    keys: SecretKeys,
    change: Change,
) -> tuple[Endpoint, NewSecret]:
    """A new secret. Those before it sign beside it until `overlap` from now.

    Raises:
        UnknownSubjectError, ConflictingChangeError: where there is no such endpoint, or it is disabled.
    """
    secret = new_secret(keys)
    given = {"endpoint_id": endpoint_id, "salt": secret.salt, "key_id": secret.key_id, "overlap": overlap}
    with refusals():
        await connection.execute(_ROTATE, given | {"reason": reason} | _by(change))
    return await _one(connection, endpoint_id), secret


async def disable_endpoint(connection: AsyncConnection, endpoint_id: UUID, *, reason: str, change: Change) -> Endpoint:
    """End an endpoint for good; what was still to be sent there is given up.

    Raises:
        UnknownSubjectError, ConflictingChangeError: where there is no such endpoint, or it is disabled already.
    """
    with refusals():
        await connection.execute(_DISABLE, {"endpoint_id": endpoint_id, "reason": reason} | _by(change))
    return await _one(connection, endpoint_id)


async def list_endpoints(
    connection: AsyncConnection, *, originator_id: int | None = None, endpoint_id: UUID | None = None
) -> tuple[Endpoint, ...]:
    """The endpoints of an originator (None: of all), by originator and age, disabled ones included."""
    query = (
        select(webhook_endpoints, originators.c.code.label("originator"))
        .join_from(webhook_endpoints, originators)
        .order_by(originators.c.code, webhook_endpoints.c.created_at, webhook_endpoints.c.endpoint_id)
    )
    if originator_id is not None:
        query = query.where(webhook_endpoints.c.originator_id == originator_id)
    if endpoint_id is not None:
        query = query.where(webhook_endpoints.c.endpoint_id == endpoint_id)
    rows = (await connection.execute(query)).all()
    kept = webhook_secrets.c
    held = (
        select(kept.endpoint_id, kept.number, kept.created_at, kept.ends_at)
        .where(kept.endpoint_id.in_([row.endpoint_id for row in rows]))
        .order_by(kept.number.desc())
    )
    secrets: dict[UUID, list[SecretRecord]] = defaultdict(list)
    for row in await connection.execute(held):
        secrets[row.endpoint_id].append(SecretRecord(number=row.number, created_at=row.created_at, ends_at=row.ends_at))
    return tuple(
        Endpoint(
            endpoint_id=row.endpoint_id,
            originator=row.originator,
            url=row.url,
            kinds=None if row.kinds is None else tuple(row.kinds),
            description=row.description,
            created_by=row.created_by,
            created_at=row.created_at,
            disabled_by=row.disabled_by,
            disabled_at=row.disabled_at,
            secrets=tuple(secrets[row.endpoint_id]),
        )
        for row in rows
    )


async def find_endpoint(
    connection: AsyncConnection, endpoint_id: UUID, *, originator_id: int | None = None
) -> Endpoint | None:
    """One endpoint, where the originator may see it."""
    found = await list_endpoints(connection, originator_id=originator_id, endpoint_id=endpoint_id)
    return found[0] if found else None


async def _one(connection: AsyncConnection, endpoint_id: UUID) -> Endpoint:
    (endpoint,) = await list_endpoints(connection, endpoint_id=endpoint_id)
    return endpoint


def _by(change: Change) -> dict[str, str]:
    return {"actor": change.actor, "request_id": change.request_id}
