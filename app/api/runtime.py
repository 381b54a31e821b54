"""What one worker process holds while it serves: connections, snapshot, journal and identities."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import asyncpg
import httpx
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from app.db.engine import connect, dispose, make_engine
from app.domain.record import ENGINE
from app.events.dispatcher import Dispatcher, Schedule
from app.events.guard import UrlGuard, parse_networks
from app.events.secrets import SecretKeys
from app.governance.whatif_runs import RunState, end_run
from app.identities.keys import KeyRing
from app.identities.oidc import OidcConfig, OidcVerifier
from app.identities.principal import OriginatorId
from app.identities.rate_limit import RateLimiter
from app.journal.entry import JournalEntry
from app.journal.writer import JournalWriter
from app.observability import metrics
from app.outcomes.watch import OutcomeWatch
from app.rollout.keeper import NotReadyError, SnapshotKeeper
from app.rollout.upkeep import Upkeep
from app.screening.decide import DecisionDesk
from app.screening.held import HeldDesk
from app.settings import Settings
from app.shadow.runner import ShadowRunner
from app.version import VERSION
from app.whatif.launcher import Launcher

_START_WAIT_SECONDS = 5.0
"""A worker that accepts connections before it can decide would refuse what its neighbours take."""


_STATEMENT_SECONDS = 10.0
"""How long a read or a change may take, waits for locks included."""
_KEEPER_SECONDS = 2.0


class Runtime:
    """The worker's state; routes reach it as `request.app.state.gate`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.read_engine: AsyncEngine = make_engine(
            settings.serving_url(), pool_size=settings.read_pool_size, statement_timeout_seconds=_STATEMENT_SECONDS
        )
        self.admin_engine: AsyncEngine = make_engine(
            settings.governance_url(),
            pool_size=settings.admin_pool_size,
            statement_timeout_seconds=_STATEMENT_SECONDS,
            autocommit=True,
        )
        self.keeper = SnapshotKeeper(
            self._connect_keeper,
            worker_id=uuid7(),
            engine=ENGINE,
            poll_seconds=settings.snapshot_poll_seconds,
            lease_seconds=settings.lease_seconds,
            registry_lease_seconds=settings.registry_lease_seconds,
        )
        self.writer = JournalWriter(
            self._connect_writer,
            queue_limit=settings.flush_queue_limit,
            batch_limit=settings.flush_batch_limit,
            deadline_seconds=settings.flush_deadline_seconds,
            partitions_ahead_months=settings.partitions_ahead_months,
        )
        self.desk = DecisionDesk(
            keeper=self.keeper,
            writer=self.writer,
            read_engine=self.read_engine,
            deadline_seconds=settings.flush_deadline_seconds,
            observe=self._observe,
        )
        self.shadow = ShadowRunner(self.keeper, self.read_engine)
        self.upkeep = Upkeep(self.read_engine, partitions_ahead_months=settings.partitions_ahead_months)
        self.held = HeldDesk(self.read_engine, self.keeper)
        self.outcomes = OutcomeWatch(self.read_engine)
        self.webhook_keys = None if settings.webhook_keys is None else SecretKeys.parse(settings.webhook_keys)
        self.webhook_guard = UrlGuard(
            networks=parse_networks(settings.webhook_networks), loopback=settings.webhook_loopback
        )
        self.dispatcher = Dispatcher(
            self.read_engine,
            keys=self.webhook_keys,
            guard=self.webhook_guard,
            schedule=Schedule(
                timeout_seconds=settings.webhook_timeout_seconds,
                first_retry_seconds=settings.webhook_retry_seconds,
                longest_retry_seconds=settings.webhook_retry_limit_seconds,
            ),
        )
        self.what_ifs = Launcher(settings.governance_url(), settings.extract_directory, self._what_if_ended)
        self.limiter = RateLimiter(
            default_per_second=settings.rate_limit_per_second, live_workers=lambda: self.keeper.live_workers
        )
        self._http = httpx.AsyncClient()
        self.oidc = self._oidc_verifier()

    def keyring(self) -> KeyRing:
        """The API keys of the current snapshot.

        Raises:
            NotReadyError: before the first one. Nobody's key is wrong then.
        """
        if self.keeper.latest.revision < 0:
            raise NotReadyError("the keys have not been read yet")
        return self.keeper.latest.keyring

    def now(self) -> datetime:
        """The server's time."""
        return datetime.now(UTC)

    async def start(self) -> None:
        """Follow the database; return once decisions can be made, or after a while without it, to say so to callers."""
        metrics.record_worker_started(VERSION)
        await self.keeper.start()
        await self.writer.start()
        with contextlib.suppress(NotReadyError, TimeoutError):
            await self.keeper.refresh(_START_WAIT_SECONDS)
            async with asyncio.timeout(_START_WAIT_SECONDS):
                while not self.writer.available:  # noqa: ASYNC110 - once, for some milliseconds
                    await asyncio.sleep(0.005)
        await self.upkeep.start()
        await self.shadow.start()
        await self.held.start()
        await self.dispatcher.start()
        await self.outcomes.start()

    async def stop(self) -> None:
        """Finish what is queued, then let everything go."""
        await self.what_ifs.stop()
        await self.outcomes.stop()
        await self.dispatcher.stop()
        await self.held.stop()
        await self.upkeep.stop()
        await self.writer.stop()
        await self.shadow.stop()
        await self.keeper.stop()
        if self.oidc is not None:
            await self.oidc.close()
        await self._http.aclose()
        await dispose(self.read_engine)
        await dispose(self.admin_engine)

    def _observe(self, entry: JournalEntry) -> None:
        self.shadow.offer(entry)

    async def _what_if_ended(self, run_id: int, code: int) -> None:
        """Write down the end of a run whose process could not do so itself: it was killed, say for its memory."""
        with contextlib.suppress(DBAPIError, OSError, TimeoutError):  # then its silence tells, a minute later
            async with self.admin_engine.connect() as connection:
                await end_run(connection, run_id, RunState.FAILED, failure=f"its process ended with {code}")

    async def _connect_keeper(self) -> asyncpg.Connection:
        return await connect(
            self.settings.serving_url(),
            purpose="snapshot",
            timeout_seconds=_KEEPER_SECONDS,
            command_timeout_seconds=_KEEPER_SECONDS,
        )

    async def _connect_writer(self, timeout_seconds: float) -> asyncpg.Connection:
        return await connect(self.settings.serving_url(), purpose="journal", timeout_seconds=timeout_seconds)

    def _oidc_verifier(self) -> OidcVerifier | None:
        settings = self.settings
        if settings.oidc_issuer is None or settings.oidc_audience is None:
            return None
        config = OidcConfig(
            issuer=settings.oidc_issuer,
            audience=settings.oidc_audience,
            jwks_url=settings.oidc_jwks_url,
            roles_claim=settings.oidc_roles_claim,
        )
        return OidcVerifier(config, http=self._http, originators=self._originator)

    def _originator(self, code: str) -> OriginatorId | None:
        found = self.keeper.latest.originators.get(code)
        return None if found is None else OriginatorId(found)
