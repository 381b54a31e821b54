"""The stored policies: reading a version, and publishing the next one.

A version never changes. Publishing compiles first: nothing is stored that could not decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, StaleChangeError, refusals
from app.db.tables import policies, policy_activations, state, workers
from app.domain.canonical import Json, canonical_bytes, digest
from app.domain.compiled import CompiledPolicy
from app.domain.policy import PolicyDocument
from app.domain.policy_changes import Difference, differences
from app.domain.policy_reader import parse_policy

MAX_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySummary:
    """A version without its document. It was active over [activated_at, retired_at)."""

    version: int
    name: str
    digest: bytes
    based_on: int | None
    comment: str | None
    created_by: str
    created_at: datetime
    activated_at: datetime | None
    retired_at: datetime | None

    @property
    def active(self) -> bool:
        """Whether decisions are made under this version."""
        return self.activated_at is not None and self.retired_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPolicy:
    """A version with its document as it was published."""

    summary: PolicySummary
    text: str

    @property
    def version(self) -> int:
        """The version's number."""
        return self.summary.version

    def document(self) -> dict[str, Json]:
        """The document as parsed JSON."""
        document: dict[str, Json] = json.loads(self.text)
        return document

    def policy(self) -> PolicyDocument:
        """The document as typed values.

        Raises:
            PolicyError: where this version of the service cannot read it.
        """
        return parse_policy(self.document())


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What publishing did. `changed` is False where the active version was the same document already.

    `revision` is what a worker must have read to serve it.
    """

    version: int
    revision: int
    changed: bool
    based_on: int | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker process that the registry counts as alive, and what it serves."""

    worker_id: UUID
    host: str
    pid: int
    engine: str
    started_at: datetime
    snapshot_revision: int
    policy_version: int | None
    seen_at: datetime
    lease_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Which worker serves what, at one moment. Confirmed is who has read `revision`, or a later one."""

    revision: int
    policy_version: int | None
    workers: tuple[Worker, ...]

    @property
    def pending(self) -> tuple[Worker, ...]:
        """The workers that do not serve it yet."""
        return tuple(worker for worker in self.workers if worker.snapshot_revision < self.revision)


# Reading --------------------------------------------------------------------------------------------------------------


async def active_policy(connection: AsyncConnection) -> StoredPolicy | None:
    """The active version; None before the first one is published."""
    query = _whole().join(state, state.c.policy_version == policies.c.version)
    return _stored((await connection.execute(query)).mappings().first())


async def find_policy(connection: AsyncConnection, version: int) -> StoredPolicy | None:
    """A version by its number."""
    query = _whole().where(policies.c.version == version)
    return _stored((await connection.execute(query)).mappings().first())


async def policy_at(connection: AsyncConnection, at: datetime) -> StoredPolicy | None:
    """The version that was active at `at`; None before the first."""
    active = policy_activations
    query = _whole().where(active.c.activated_at <= at, (active.c.retired_at.is_(None)) | (active.c.retired_at > at))
    return _stored((await connection.execute(query)).mappings().first())


async def list_policies(
    connection: AsyncConnection, *, before_version: int | None = None, limit: int = MAX_PAGE
) -> tuple[PolicySummary, ...]:
    """At most `limit` versions, the newest first, beginning below `before_version`."""
    query = _selection().order_by(policies.c.version.desc()).limit(limit)
    if before_version is not None:
        query = query.where(policies.c.version < before_version)
    return tuple(_summary(row) for row in (await connection.execute(query)).mappings())


async def read_rollout(connection: AsyncConnection, revision: int | None = None) -> Rollout:
    """The live workers, and who of them has read `revision` (the present one where none is given)."""
    row = (await connection.execute(select(state.c.revision, state.c.policy_version))).one()
    live = select(workers).where(workers.c.lease_until > func.now()).order_by(workers.c.host, workers.c.pid)
    return Rollout(
        revision=row.revision if revision is None else revision,
        policy_version=row.policy_version,
        workers=tuple(_worker(found) for found in (await connection.execute(live)).mappings()),
    )


# Publishing -----------------------------------------------------------------------------------------------------------

_PUBLISH = text(
    "SELECT * FROM gate.policy_publish(:name, :document, :digest, :expected_active, :comment, :actor, :request_id)"
)


async def publish(
    connection: AsyncConnection,
    compiled: CompiledPolicy,
    *,
    expected_active: int | None,
    comment: str | None,
    change: Change,
) -> Published:
    """Make the document the next version and the active one. The caller's transaction makes it so.

    `compiled` is proof that it decides. `expected_active` guards a change that was made on top of a version. Where the
    active version is the same document, nothing is stored, so a publish whose answer was lost can be repeated.

    Raises:
        StaleChangeError: where another version than `expected_active` is active.
        ConflictingChangeError: where channels are assigned to a tier that the document does not have.
    """
    document = compiled.document
    content = canonical_bytes(document.document())
    before = await active_policy(connection)
    if expected_active is not None and (before is None or before.version != expected_active):
        raise StaleChangeError("another policy version has been published since")
    if before is not None and before.summary.digest == digest(content):
        revision = (await connection.execute(select(state.c.revision))).scalar_one()
        return Published(
            version=before.version,
            revision=revision,
            changed=False,
            based_on=before.summary.based_on,
            differences=(),
        )
    given = {
        "name": document.name,
        "document": content.decode(),
        "digest": digest(content),
        "expected_active": expected_active,
        "comment": comment,
        "actor": change.actor,
        "request_id": change.request_id,
    }
    with refusals():
        row = (await connection.execute(_PUBLISH, given)).mappings().one()
    stored = await find_policy(connection, row["version"])
    assert stored is not None
    based_on = stored.summary.based_on
    base = before if before is None or before.version == based_on else await find_policy(connection, based_on or 0)
    return Published(
        version=row["version"],
        revision=row["revision"],
        changed=True,
        based_on=based_on,
        differences=() if base is None else differences(base.policy(), document),
    )


def _selection() -> Select[Any]:
    active = policy_activations
    columns = [column for column in policies.c if column.name != "document"]
    return select(*columns, active.c.activated_at, active.c.retired_at).join_from(
        policies, active, active.c.version == policies.c.version, isouter=True
    )


def _whole() -> Select[Any]:
    return _selection().add_columns(policies.c.document)


def _stored(row: RowMapping | None) -> StoredPolicy | None:
    return None if row is None else StoredPolicy(summary=_summary(row), text=row["document"])


def _summary(row: Mapping[str, Any] | RowMapping) -> PolicySummary:
    return PolicySummary(
        version=row["version"],
        name=row["name"],
        digest=bytes(row["digest"]),
        based_on=row["based_on"],
        comment=row["comment"],
        created_by=row["created_by"],
        created_at=row["created_at"].astimezone(UTC),
        activated_at=row["activated_at"] and row["activated_at"].astimezone(UTC),
        retired_at=row["retired_at"] and row["retired_at"].astimezone(UTC),
    )


def _worker(row: RowMapping) -> Worker:
    return Worker(
        worker_id=row["worker_id"],
        host=row["host"],
        pid=row["pid"],
        engine=row["engine"],
        started_at=row["started_at"].astimezone(UTC),
        snapshot_revision=row["snapshot_revision"],
        policy_version=row["policy_version"],
        seen_at=row["seen_at"].astimezone(UTC),
        lease_until=row["lease_until"].astimezone(UTC),
    )
