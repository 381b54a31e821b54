"""What has to be looked after while the service runs: partitions laid out ahead, figures of the day, what falls due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import sqlalchemy.exc
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.channels.budget_figures import read_figures
from app.channels.expiry import count_expiring
from app.db.background import end
from app.invariants.verify import latest_run
from app.observability import metrics
from app.reviews import queue

_PERIOD_SECONDS = 600.0
_TICK_SECONDS = 2.0
"""How late a scheduled policy, the end of a break-glass or of an override may be, on top of what it takes."""
_TICK = text("SELECT * FROM gate.governance_tick()")
_FIGURES_SECONDS = 15.0
_REVIEWS_SECONDS = 15.0
"""How late the figures of the queue may be, and the end of a review that an amendment has overtaken."""
_EXPIRE = text("SELECT gate.reservations_expire(:limit)")
_EXPIRE_LIMIT = 500
"""How many reservations one statement ends: few enough that no flush waits long for their budgets."""
_BUSIEST = text("""
    SELECT c.code
    FROM gate.channels c
    LEFT JOIN (SELECT channel_id, sum(decisions) AS decisions FROM gate.channel_days
               WHERE day >= current_date - 30 GROUP BY channel_id) digested USING (channel_id)
    LEFT JOIN (SELECT channel_id, count(*) AS decisions
               FROM (SELECT channel_id FROM gate.decisions ORDER BY decision_id DESC LIMIT :latest) latest
               GROUP BY channel_id) logged USING (channel_id)
    WHERE digested.decisions IS NOT NULL OR logged.decisions IS NOT NULL
    ORDER BY digested.decisions DESC NULLS LAST, logged.decisions DESC NULLS LAST, c.code
    LIMIT :limit
""")
"""The busiest channels: by the digests of 30 days, then by the log's newest decisions, whose ids grow with time."""
_LATEST_DECISIONS = 10_000
_RANK_WITHIN_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class Upkeep:
    """Runs in every worker; whatever it does may be done by any number of them at once."""

    def __init__(self, engine: AsyncEngine, *, partitions_ahead_months: int) -> None:
        # The clock takes the fence that decisions pass: the server must let go of it without waiting for this process.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._partitions_ahead_months = partitions_ahead_months
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def start(self) -> None:
        """Begin; returns once the busiest channels have their labels, or soon where the database does not answer."""
        try:
            async with asyncio.timeout(_RANK_WITHIN_SECONDS):
                await self.rank_channels()
        except (OSError, TimeoutError, sqlalchemy.exc.SQLAlchemyError) as error:
            _log.warning("upkeep_failed", kind="channel labels", exc_info=error)
        self._tasks = (
            asyncio.create_task(_repeat(self.round, _PERIOD_SECONDS, "round"), name="upkeep"),
            asyncio.create_task(_repeat(self.tick, _TICK_SECONDS, "governance clock"), name="governance clock"),
            asyncio.create_task(_repeat(self.expire, _TICK_SECONDS, "reservations"), name="reservations"),
            asyncio.create_task(_repeat(self.figures, _FIGURES_SECONDS, "figures of budgets"), name="budgets"),
            asyncio.create_task(_repeat(self.reviews, _REVIEWS_SECONDS, "reviews"), name="reviews"),
        )

    async def stop(self) -> None:
        """Stop."""
        for task in self._tasks:
            await end(task)

    async def round(self) -> None:
        """Lay out partitions and periods of budgets, and report how far ahead they reach and which channels expire.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away; the next round tries again.
        """
        async with self._engine.connect() as connection:
            ensure = text("SELECT gate.partitions_ensure(:ahead)")
            await connection.execute(ensure, {"ahead": self._partitions_ahead_months})
            await connection.execute(text("SELECT gate.budget_periods_ensure()"))
        async with self._engine.connect() as connection:
            metrics.PARTITIONS_AHEAD.set(
                (await connection.execute(text("SELECT gate.partitions_ahead()"))).scalar_one()
            )
            metrics.record_channels_expiring(await count_expiring(connection))

    async def rank_channels(self) -> None:
        """Reserve labels for the busiest channels, before the first decision takes one.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away; labels then go by who comes first.
        """
        given = {"limit": metrics.CHANNEL_LABEL_LIMIT, "latest": _LATEST_DECISIONS}
        async with self._engine.connect() as connection:
            metrics.CHANNEL_LABELS.reserve((await connection.execute(_BUSIEST, given)).scalars())

    async def expire(self) -> None:
        """End the reservations that nobody has funded in time. Replicas share them: none is ended twice.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away; the next tick tries again.
        """
        async with self._engine.connect() as connection:
            while expired := (await connection.execute(_EXPIRE, {"limit": _EXPIRE_LIMIT})).scalar_one():
                _log.info("reservations_expired", count=expired)

    async def figures(self) -> None:
        """Report how much is left of budgets, and what waits for them.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away; the next time tells.
        """
        async with self._engine.connect() as connection:
            figures = await read_figures(connection)
        metrics.record_budgets((use.name, use.cap, use.used, use.left) for use in figures.budgets)
        metrics.RESERVATIONS_OPEN.set(figures.reservations_open)
        for state, count in figures.resolved_day.items():
            metrics.RESERVATIONS_RESOLVED.labels(state).set(count)
        for kind, count in figures.overruns_day.items():
            metrics.BUDGET_OVERRUNS.labels(kind).set(count)
        metrics.HELD_WAITING.set(figures.held_waiting)
        metrics.HELD_OLDEST.set(figures.held_oldest_seconds)

    async def reviews(self) -> None:
        """Bring the queue of reviews up to the log, close what was amended, and report how it stands; report also what
        was found when somebody last looked whether the figures agree.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away; the next round tries again.
        """
        async with self._engine.connect() as connection:
            await queue.gather(connection)
            closed = await queue.supersede(connection)
            figures = await queue.figures(connection, datetime.now(UTC))
            verified = await latest_run(connection)
        metrics.record_reviews_open(
            {age.value: count for age, count in figures.open.items()}, figures.oldest_seconds or 0.0
        )
        if verified is not None:
            age = datetime.now(UTC) - verified.ended_at
            metrics.record_invariants(verified.violations, age.total_seconds())
        if closed:
            _log.info("reviews_superseded", count=closed)

    async def tick(self) -> None:
        """Do what has fallen due: activate what was scheduled, undo what nobody confirmed, end overrides.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: where the database is away; the next tick tries again.
        """
        async with self._engine.connect() as connection:
            done = (await connection.execute(_TICK)).one()
        metrics.BREAK_GLASS_ACTIVE.set(done.break_glass_open)
        if done.activated or done.lapsed or done.reverted or done.overrides_ended:
            _log.info(
                "governance_clock",
                activated=done.activated,
                lapsed=done.lapsed,
                reverted=done.reverted,
                overrides_ended=done.overrides_ended,
            )
        if done.failed:
            _log.warning("governance_clock_refused", failed=done.failed)


async def _repeat(work: Callable[[], Awaitable[None]], period_seconds: float, kind: str) -> None:
    while True:
        try:
            await work()
        except (OSError, TimeoutError, sqlalchemy.exc.SQLAlchemyError) as error:
            _log.warning("upkeep_failed", kind=kind, exc_info=error)
        await asyncio.sleep(period_seconds)
