"""What has to be done for outcomes while the service runs: waking facts whose application has come, and the figures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import sqlalchemy.exc
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.background import end
from app.observability import metrics
from app.outcomes.feeds import list_feeds
from app.outcomes.state import Flag
from app.outcomes.store import count_flags, oldest_waiting, wake

_WAKE_SECONDS = 2.0
_FIGURES_SECONDS = 30.0
_WAKE_LIMIT = 500
"""How many waiting applications one statement looks at: they are locked together where they have come."""

_log = structlog.get_logger(__name__)


class OutcomeWatch:
    """Runs in every worker; any number of them may do all of it at once."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def start(self) -> None:
        """Begin."""
        self._tasks = (
            asyncio.create_task(_repeat(self.wake_all, _WAKE_SECONDS, "waiting outcomes"), name="waiting outcomes"),
            asyncio.create_task(_repeat(self.report, _FIGURES_SECONDS, "outcome figures"), name="outcome figures"),
        )

    async def stop(self) -> None:
        """Stop."""
        for task in self._tasks:
            await end(task)

    async def wake_all(self) -> None:
        """Let facts take effect whose application has come since they were reported.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away; the next turn tries again.
        """
        reached: int | None = 0
        while reached is not None:
            async with self._engine.connect() as connection:
                reached, woken = await wake(connection, after=reached, limit=_WAKE_LIMIT)
            if woken:
                _log.info("outcomes_woken", count=woken)

    async def report(self) -> None:
        """Set the gauges.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away; the next turn tries again.
        """
        now = datetime.now(UTC)
        async with self._engine.connect() as connection:
            flags = await count_flags(connection)
            waiting, since = await oldest_waiting(connection)
            feeds = await list_feeds(connection, originator_id=None)
        for flag in Flag:
            metrics.OUTCOME_CONTRADICTIONS.labels(flag.value).set(flags.get(flag.value, 0))
        metrics.OUTCOMES_WAITING.set(waiting)
        metrics.OUTCOMES_WAITING_OLDEST.set(0.0 if since is None else (now - since).total_seconds())
        metrics.FEEDS_LATE.set(sum(feed.is_late(now.date()) for feed in feeds))


async def _repeat(work: Callable[[], Awaitable[None]], period_seconds: float, kind: str) -> None:
    while True:
        try:
            await work()
        except (OSError, TimeoutError, sqlalchemy.exc.SQLAlchemyError) as error:
            _log.warning("outcome_watch_failed", kind=kind, exc_info=error)
        await asyncio.sleep(period_seconds)
