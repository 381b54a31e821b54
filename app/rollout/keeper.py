"""Keeps a worker's snapshot current: a notification brings a change, a poll heals a lost one, a lease bounds both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from uuid import UUID

import asyncpg
import structlog

from app.db.background import end
from app.observability import metrics
from app.rollout.snapshot import EMPTY, Snapshot, read_snapshot

CHANNEL = "gate_snapshot"
_BEAT = "SELECT revision, policy_version, live_workers FROM gate.worker_beat($1, $2, $3, $4, $5, $6, $7, $8)"
_TIMEOUT_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class NotReadyError(Exception):
    """The worker has no snapshot, or has not confirmed it for longer than its lease: it decides nothing."""


class SnapshotKeeper:
    """Owns one direct connection, on which it listens, reads and reports. `connect` makes it, as the serving login."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        *,
        worker_id: UUID,
        engine: str,
        poll_seconds: float,
        lease_seconds: float,
        registry_lease_seconds: float,
    ) -> None:
        self._connect = connect
        self._worker_id = worker_id
        self._engine = engine
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._registry_lease = timedelta(seconds=registry_lease_seconds)
        self._started_at = datetime.now(UTC)
        self._snapshot = EMPTY
        self._confirmed_at = float("-inf")
        self._live_workers = 1
        self._connection: asyncpg.Connection | None = None
        self._dirty = asyncio.Event()
        self._refreshed = asyncio.Condition()
        self._rounds_begun = 0
        self._rounds_done = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def latest(self) -> Snapshot:
        """The snapshot as it is, lease or not: for reads that decide nothing."""
        return self._snapshot

    @property
    def live_workers(self) -> int:
        """How many workers the registry counted at the last beat, at least 1."""
        return max(1, self._live_workers)

    def current(self) -> Snapshot:
        """The snapshot to decide from.

        Raises:
            NotReadyError: past the lease, or before the first policy.
        """
        if monotonic() - self._confirmed_at > self._lease_seconds:
            raise NotReadyError("the snapshot has not been confirmed within the lease")
        if self._snapshot.policy is None:
            raise NotReadyError("no policy has been published")
        return self._snapshot

    async def start(self) -> None:
        """Begin to follow the database; returns at once, also where the database is away."""
        self._task = asyncio.create_task(self._run(), name="snapshot keeper")

    async def stop(self) -> None:
        """Stop following, and take this worker off the registry."""
        if self._task is not None:
            await end(self._task)
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await self._connection.execute(_BEAT, *self._beat_arguments(None), timeout=1)
                await self._connection.close(timeout=1)

    async def refresh(self, timeout_seconds: float) -> None:
        """Return once a round of refreshing that began after this call is done; many callers share one round.

        Raises:
            NotReadyError: where none is within the time.
        """
        wanted = self._rounds_begun + 1
        self._dirty.set()
        try:
            async with asyncio.timeout(timeout_seconds), self._refreshed:
                await self._refreshed.wait_for(lambda: self._rounds_done >= wanted)
        except TimeoutError:
            raise NotReadyError("the snapshot could not be refreshed in time") from None

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    await self._round()
            except Exception as error:  # a keeper that ended here would leave a worker that never decides again
                _log.warning("snapshot_not_refreshed", exc_info=error)
                self._drop_connection()
                await asyncio.sleep(min(0.5, self._poll_seconds))
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._dirty.wait()

    async def _round(self) -> None:
        """Confirm the snapshot or read a newer one, and tell the registry what this worker serves now."""
        self._dirty.clear()
        self._rounds_begun += 1
        this_round = self._rounds_begun
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
            await self._connection.add_listener(CHANNEL, lambda *_: self._dirty.set())
        asked_at = monotonic()
        revision = await self._beat()
        if revision != self._snapshot.revision:
            self._snapshot = await read_snapshot(self._connection, self._snapshot)
            await self._beat()
        self._confirmed_at = asked_at
        metrics.record_snapshot(policy_version=self._snapshot.policy_version or 0, revision=self._snapshot.revision)
        async with self._refreshed:
            self._rounds_done = this_round
            self._refreshed.notify_all()

    async def _beat(self) -> int:
        assert self._connection is not None
        row = await self._connection.fetchrow(_BEAT, *self._beat_arguments(self._registry_lease))
        self._live_workers = row["live_workers"]
        revision: int = row["revision"]
        return revision

    def _beat_arguments(self, lease: timedelta | None) -> tuple[object, ...]:
        return (
            self._worker_id,
            socket.gethostname(),
            os.getpid(),
            self._engine,
            self._started_at,
            self._snapshot.revision,
            self._snapshot.policy_version,
            lease,
        )

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
