"""What has to be looked after while the service runs: partitions laid out ahead, and figures that change by the day."""

from __future__ import annotations

import asyncio
import contextlib

import sqlalchemy.exc
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.channels.expiry import count_expiring
from app.observability import metrics

_PERIOD_SECONDS = 600.0
_BUSIEST = """
    SELECT c.code FROM gate.channel_days d JOIN gate.channels c USING (channel_id)
    WHERE d.day >= current_date - 30 GROUP BY c.code ORDER BY sum(d.decisions) DESC, c.code LIMIT :limit
"""

_log = structlog.get_logger(__name__)


class Upkeep:
    """Runs in every worker; whatever it does may be done by any number of them at once."""

    def __init__(self, engine: AsyncEngine, *, partitions_ahead_months: int) -> None:
        self._engine = engine
        self._partitions_ahead_months = partitions_ahead_months
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run(), name="upkeep")

    async def stop(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except (OSError, TimeoutError, sqlalchemy.exc.SQLAlchemyError) as error:
                _log.warning("upkeep_failed", exc_info=error)
            await asyncio.sleep(_PERIOD_SECONDS)

    async def round(self) -> None:
        """Lay out partitions, and report how far ahead they reach, which channels expire and which are the busiest.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away; the next round tries again.
        """
        async with self._engine.begin() as connection:
            ensure = text("SELECT gate.partitions_ensure(:ahead)")
            await connection.execute(ensure, {"ahead": self._partitions_ahead_months})
        async with self._engine.connect() as connection:
            metrics.PARTITIONS_AHEAD.set(
                (await connection.execute(text("SELECT gate.partitions_ahead()"))).scalar_one()
            )
            busiest = await connection.execute(text(_BUSIEST), {"limit": metrics.CHANNEL_LABEL_LIMIT})
            metrics.CHANNEL_LABELS.reserve(busiest.scalars())
            metrics.record_channels_expiring(await count_expiring(connection))
