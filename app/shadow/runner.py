"""Evaluates the challenger on live decisions, off the path of their answers.

A decision is put into a bounded queue and forgotten by the hot path. One task hands batches to a process of its own
and waits: a challenger that raises, hangs, dies or eats the processor costs samples, which are counted, and no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
import sqlalchemy.exc
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.background import end
from app.journal.entry import JournalEntry
from app.observability import metrics
from app.rollout.keeper import SnapshotKeeper
from app.rollout.snapshot import Challenger, ListedChannel
from app.shadow.evaluator import PATIENCE_SECONDS, POLICY, SAMPLES
from app.shadow.process import START_SECONDS, ShadowProcess, ShadowProcessError
from app.shadow.tally import Hour, Tally

EVALUATOR = "app.shadow.evaluator:main"
QUEUE_LIMIT = 1_024
BATCH_LIMIT = 64
_GATHER_SECONDS = 0.25
"""How long samples gather before they are handed over: waking a process up costs more than evaluating a decision."""
_SLICE = 8
"""After how many samples of a batch the worker sees to its requests again."""
_STORE_SECONDS = 5.0
_FIRST_DELAY_SECONDS, _DELAY_FACTOR, _LONGEST_DELAY_SECONDS = 1.0, 4, 600.0
_SAMPLE_HEX = 8
_ADD = text("SELECT gate.shadow_add(:challenger, :hour, :outcomes, :reasons, :errors, :dropped)")

_log = structlog.get_logger(__name__)


class _Sample(NamedTuple):
    challenger: int
    entry: JournalEntry
    listed: ListedChannel


class ShadowRunner:
    """Owns the queue and the process.

    `target` is what the process runs, as module:function of a socket; `patience_seconds` how long a batch may take.
    """

    def __init__(
        self,
        keeper: SnapshotKeeper,
        engine: AsyncEngine,
        *,
        target: str = EVALUATOR,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._keeper = keeper
        self._engine = engine
        self._target = target
        self._patience_seconds = patience_seconds
        self._queue: deque[_Sample] = deque()
        self._wake = asyncio.Event()
        self._tally = Tally()
        self._process: ShadowProcess | None = None
        self._loaded: int | None = None
        self._refused: int | None = None
        self._tried: int | None = None
        self._failures = 0
        self._closing = asyncio.Event()
        self._evaluating: asyncio.Task[None] | None = None
        self._storing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; no process is started before there is a challenger and a decision."""
        self._evaluating = asyncio.create_task(self._run(), name="shadow")
        self._storing = asyncio.create_task(self._store_now_and_then(), name="shadow report")

    async def stop(self) -> None:
        """End the process, and store what was counted."""
        if self._evaluating is not None:
            await end(self._evaluating)
        await self._end_process()
        for left in self._queue:
            self._count_dropped(left.challenger, left.entry.decided_at)
        self._closing.set()
        if self._storing is not None:
            await self._storing

    def offer(self, entry: JournalEntry) -> None:
        """Queue a durable decision for evaluation, if there is a challenger and the sample takes it. Never raises.

        A quarter of a microsecond without a challenger, three with one.
        """
        snapshot = self._keeper.latest
        challenger = snapshot.challenger
        if challenger is None or not _sampled(entry, challenger):
            return
        listed = snapshot.channels.get(entry.channel_code)
        if self._refused == challenger.number:
            self._count_error(challenger.number, entry.decided_at)
        elif listed is None or len(self._queue) >= QUEUE_LIMIT:
            self._count_dropped(challenger.number, entry.decided_at)
        else:
            self._queue.append(_Sample(challenger.number, entry, listed))
            if len(self._queue) in {1, BATCH_LIMIT}:
                self._wake.set()

    # The process ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if not self._queue:
                await self._wait()
                continue
            await self._gather()
            challenger = self._keeper.latest.challenger
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_LIMIT))]
            current = deque(each for each in batch if challenger is not None and each.challenger == challenger.number)
            for each in batch:
                if challenger is None or each.challenger != challenger.number:
                    self._count_dropped(each.challenger, each.entry.decided_at)
            if challenger is None or not current:
                continue
            try:
                await self._evaluate(challenger, current)
            except asyncio.CancelledError:
                for each in current:
                    self._count_dropped(each.challenger, each.entry.decided_at)
                raise
            except (ShadowProcessError, OSError) as error:
                for each in current:
                    self._count_error(each.challenger, each.entry.decided_at)
                await self._fail(error)

    async def _wait(self) -> None:
        """Until there is a sample; a process that nobody needs any more is ended."""
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._wake.wait()
        if self._keeper.latest.challenger is None:
            await self._end_process()

    async def _gather(self) -> None:
        """Until there is a whole batch, or a part of one has waited long enough."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_SECONDS):
                while len(self._queue) < BATCH_LIMIT:
                    self._wake.clear()
                    await self._wake.wait()

    async def _evaluate(self, challenger: Challenger, batch: deque[_Sample]) -> None:
        """Evaluate and count the samples; each is taken out of the batch when it has been counted."""
        if self._tried != challenger.number:
            self._tried, self._failures = challenger.number, 0
        if self._process is None:
            self._process = await ShadowProcess.start(self._target)
        if self._loaded != challenger.number:
            faults = await self._process.ask(POLICY, challenger.document, START_SECONDS)
            self._loaded = challenger.number
            self._refused = challenger.number if faults else None
            if faults:
                _log.error("challenger_does_not_compile", version=str(challenger.number), count=len(faults))
        if self._refused == challenger.number:
            while batch:
                self._count_error(challenger.number, batch.popleft().entry.decided_at)
            return
        encoded = []
        for number, each in enumerate(batch):
            encoded.append(_encoded(each))
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        results = await self._process.ask(SAMPLES, orjson.dumps(encoded), self._patience_seconds)
        if len(results) != len(batch):
            raise ShadowProcessError("an answer of another length")
        for number, result in enumerate(results):
            self._count(batch.popleft(), result)
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        self._failures = 0

    async def _fail(self, error: Exception) -> None:
        """End the process, and wait longer each time before the next one is started."""
        self._failures += 1
        delay = min(_FIRST_DELAY_SECONDS * _DELAY_FACTOR ** min(self._failures - 1, 10), _LONGEST_DELAY_SECONDS)
        _log.warning("shadow_process_failed", exc_info=error, delay_seconds=delay)
        metrics.SHADOW_RESTARTS.inc()
        await self._end_process()
        await asyncio.sleep(delay)

    async def _end_process(self) -> None:
        process, self._process, self._loaded = self._process, None, None
        if process is not None:
            await process.end()

    # Counting ---------------------------------------------------------------------------------------------------------

    def _count(self, sample: _Sample, result: list[Any]) -> None:
        entry, (outcome, codes) = sample.entry, result
        if outcome is None:
            self._count_error(sample.challenger, entry.decided_at)
            return
        before = str(entry.outcome)
        metrics.record_shadow(channel=entry.channel_code, tier=entry.tier, before=before, after=outcome)
        self._tally.at(sample.challenger, entry.decided_at).add(
            channel=entry.channel_code,
            tier=entry.tier,
            before=(before, entry.reason_codes.split(",") if entry.reason_codes else ()),
            after=(outcome, codes),
            decision_id=str(entry.decision_id),
        )

    def _count_error(self, challenger: int, at: datetime) -> None:
        metrics.SHADOW_EVALUATIONS.labels("error").inc()
        self._tally.at(challenger, at).errors += 1

    def _count_dropped(self, challenger: int, at: datetime) -> None:
        metrics.SHADOW_EVALUATIONS.labels("dropped").inc()
        self._tally.at(challenger, at).dropped += 1

    # Telling the database ---------------------------------------------------------------------------------------------

    async def _store_now_and_then(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STORE_SECONDS):
                    await self._closing.wait()
            await self._store()

    async def _store(self) -> None:
        for hour in self._tally.take():
            try:
                async with self._engine.begin() as connection:
                    await connection.execute(_ADD, _stored(hour))
            except (OSError, TimeoutError, sqlalchemy.exc.SQLAlchemyError) as error:
                _log.warning("shadow_report_not_stored", exc_info=error)
                self._tally.give_back(hour)
                return


def _sampled(entry: JournalEntry, challenger: Challenger) -> bool:
    """Whether the last, random digits of the decision's id are among those that are taken."""
    return int(str(entry.decision_id)[-_SAMPLE_HEX:], 16) < challenger.sample_below


def _encoded(sample: _Sample) -> list[Any]:
    entry, channel = sample.entry, sample.listed.channel
    return [
        orjson.Fragment(entry.input),
        entry.decided_at.astimezone(UTC).isoformat(),
        entry.channel_code,
        channel.state.value,
        channel.served(entry.decided_at),
        channel.tier(entry.product, entry.jurisdiction, entry.decided_at),
    ]


def _stored(hour: Hour) -> dict[str, Any]:
    return {
        "challenger": hour.challenger,
        "hour": hour.hour,
        "outcomes": orjson.dumps(hour.outcome_rows()).decode(),
        "reasons": orjson.dumps(hour.reason_rows()).decode(),
        "errors": hour.errors,
        "dropped": hour.dropped,
    }
