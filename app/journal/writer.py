"""The flush: what concurrent requests have decided goes to PostgreSQL as one call, and each waits for its own row.

One writer a process and no linger: while one flush is on its way the next batch gathers by itself. Nothing queues
without bound, nothing waits past the deadline, and a flush is never cancelled: a connection whose answer does not come
is abandoned and its rows count as unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

import asyncpg
import structlog

from app.journal.call import FLUSH_SQL, flush_arguments
from app.journal.entry import DecisionKey, FlushResult, FlushStatus, JournalEntry, JournalUnavailableError
from app.observability import metrics

_WRITTEN = FlushStatus.WRITTEN
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What a call on a lost connection ends with. The internal error: the server said goodbye while nothing was asked."""
_RETRIED = frozenset({"40P01", "40001", "55P03"})
_MAX_RETRIES = 5
_CONNECT_TIMEOUT_SECONDS = 1.0
_RECONNECT_SECONDS = 0.2
_NOT_CONNECTED_LOG_SECONDS = 30.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Pending:
    entry: JournalEntry
    since: float
    waiters: list[asyncio.Future[FlushResult]] = field(default_factory=list)

    def settle(self, result: FlushResult) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(result)

    def fail(self, why: str) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(JournalUnavailableError(why))


class JournalWriter:
    """Owns one connection and the queue in front of it. `connect` makes a connection of the serving login."""

    def __init__(
        self,
        connect: Callable[[float], Awaitable[asyncpg.Connection]],
        *,
        queue_limit: int,
        batch_limit: int,
        deadline_seconds: float,
        partitions_ahead_months: int,
    ) -> None:
        self._connect = connect
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._deadline_seconds = deadline_seconds
        self._partitions_ahead_months = partitions_ahead_months
        self._queue: deque[_Pending] = deque()
        self._queued: dict[DecisionKey, _Pending] = {}
        self._wake = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._statement: asyncpg.prepared_stmt.PreparedStatement | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._not_connected: str | None = None
        self._noted_at = float("-inf")

    async def start(self) -> None:
        """Begin to write; the first connection is made in the background."""
        self._task = asyncio.create_task(self._run(), name="journal writer")

    async def stop(self) -> None:
        """Write what is queued, then let go. Call it when no more requests come in."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await self._connection.close(timeout=1)

    @property
    def available(self) -> bool:
        """Whether the circuit is closed: a connection stands."""
        return self._statement is not None

    @property
    def not_connected(self) -> str | None:
        """Why the last attempt to connect failed: the SQLSTATE, or the kind of error. None once one stands."""
        return self._not_connected

    def append(
        self, entry: JournalEntry, waiter: asyncio.Future[FlushResult] | None = None, *, first: bool = False
    ) -> asyncio.Future[FlushResult]:
        """Queue `entry`; the future (`waiter`, or a new one) gives what the log says of it.

        `first` goes before what waits: a row that was settled anew should meet the facts that it was settled with.

        Raises (from the call or from the future):
            JournalUnavailableError: at once where the database is away or the queue is full, else within the deadline.
        """
        if self._statement is None or self._closing:
            metrics.record_flush_failure("connection")
            raise JournalUnavailableError("the decision log is away")
        if len(self._queue) >= self._queue_limit:
            metrics.record_flush_failure("overload")
            raise JournalUnavailableError("too many decisions wait for the log", overloaded=True)
        if waiter is None:
            waiter = asyncio.get_running_loop().create_future()
        key = entry.key
        queued = self._queued.get(key)
        if queued is not None and queued.entry.fingerprint == entry.fingerprint:
            queued.waiters.append(waiter)
            return waiter
        pending = _Pending(entry, monotonic(), [waiter])
        (self._queue.appendleft if first else self._queue.append)(pending)
        if queued is None:
            self._queued[key] = pending
        self._wake.set()
        return waiter

    async def _run(self) -> None:
        while True:
            if self._statement is None:
                if self._closing:
                    return
                await self._reconnect()
                continue
            if not self._queue:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._take_batch()
            metrics.QUEUE_DEPTH.set(len(self._queue))
            if batch:
                await self._write(batch)

    def _take_batch(self) -> list[_Pending]:
        """The next rows in order of arrival, no application and no person twice.

        The second waits for the next batch and finds the first.
        """
        batch: list[_Pending] = []
        subjects: set[tuple[int, str] | str] = set()
        held_back: list[_Pending] = []
        too_old = monotonic() - self._deadline_seconds
        while self._queue and len(batch) < self._batch_limit:
            pending = self._queue.popleft()
            key = pending.entry.key
            application, person = key[:2], pending.entry.applicant_ref
            if application in subjects or person in subjects:
                held_back.append(pending)
                continue
            if self._queued.get(key) is pending:
                del self._queued[key]
            if pending.since < too_old:
                metrics.record_flush_failure("timeout")
                pending.fail("the decision waited too long for the log")
                continue
            subjects.add(application)
            if person is not None:
                subjects.add(person)
            batch.append(pending)
        self._queue.extendleft(reversed(held_back))
        return batch

    async def _write(self, batch: list[_Pending]) -> None:
        """Flush a batch; where one row spoils it, halve it until that row stands alone."""
        for attempt in range(_MAX_RETRIES):
            try:
                rows = await self._flush([pending.entry for pending in batch])
            except asyncpg.PostgresError as error:
                code = error.sqlstate or ""
                if code in _RETRIED and attempt + 1 < _MAX_RETRIES:
                    continue
                if _partition_is_missing(error) and attempt == 0 and await self._make_partitions():
                    continue
                if code[:2] in {"22", "23"} and not _partition_is_missing(error):
                    await self._bisect(batch, code)
                    return
                self._give_up(batch, "database", error)
                return
            except Exception as error:
                # Whatever it is: a writer that ended here would leave every later request waiting for ever.
                self._give_up(batch, "timeout" if isinstance(error, TimeoutError) else "connection", error)
                return
            for number, status, response in rows:
                batch[number - 1].settle(FlushResult(FlushStatus(status), response))
            for pending in batch:
                pending.settle(FlushResult(_WRITTEN, pending.entry.response))  # where the log said nothing else
            return

    async def _flush(self, entries: Sequence[JournalEntry]) -> list[tuple[int, str, bytes | None]]:
        """What became of the rows that were not simply written, by position from 1."""
        assert self._statement is not None
        started = monotonic()
        call = asyncio.ensure_future(self._statement.fetch(*flush_arguments(entries)))
        done, _ = await asyncio.wait({call}, timeout=self._deadline_seconds)
        metrics.record_flush(rows=len(entries), seconds=monotonic() - started)
        if not done:
            self._abandon()
            call.add_done_callback(_forget)
            raise TimeoutError
        return [tuple(row) for row in call.result()]

    async def _bisect(self, batch: list[_Pending], code: str) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            for half in (batch[:middle], batch[middle:]):
                if self._statement is None:
                    self._give_up(half, "connection", None)
                else:
                    await self._write(half)
            return
        entry = batch[0].entry
        metrics.record_flush_failure("poison")
        _log.error("decision_quarantined", decision_id=entry.decision_id, error_code=code)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                assert self._connection is not None
                await self._connection.execute(
                    "SELECT gate.quarantine_put($1, $2, $3, $4, $5)",
                    entry.decision_id,
                    entry.originator_id,
                    entry.fingerprint,
                    code,
                    entry.input,
                )
        except _LOST as error:
            self._give_up(batch, "connection", error)
            return
        metrics.POISON.inc()
        batch[0].settle(FlushResult(FlushStatus.POISON))

    async def _make_partitions(self) -> bool:
        """Lay out the months that are missing. False where that could not be done."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                assert self._connection is not None
                await self._connection.execute("SELECT gate.partitions_ensure($1)", self._partitions_ahead_months)
        except _LOST as error:
            _log.error("partitions_missing", error_code=getattr(error, "sqlstate", type(error).__name__))
            return False
        return True

    def _give_up(self, batch: list[_Pending], kind: metrics.FlushFailure, error: BaseException | None) -> None:
        """The batch's fate is unknown: it gets a 503, the connection goes, and so does what queued behind it."""
        metrics.record_flush_failure(kind)
        _log.error(
            "flush_failed", kind=kind, rows=len(batch), error_code=getattr(error, "sqlstate", type(error).__name__)
        )
        for pending in batch:
            pending.fail("the decision log did not confirm in time")
        self._abandon()
        self._drain("the decision log is away")

    def _abandon(self) -> None:
        """Drop the connection without a cancel: under synchronous replication that would commit without the standby."""
        connection, self._connection, self._statement = self._connection, None, None
        metrics.CIRCUIT_OPEN.set(1)
        if connection is not None:
            connection.terminate()

    def _drain(self, why: str) -> None:
        while self._queue:
            self._queue.popleft().fail(why)
        self._queued.clear()

    async def _reconnect(self) -> None:
        metrics.CIRCUIT_OPEN.set(1)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_SECONDS * 2):
                connection = await self._connect(_CONNECT_TIMEOUT_SECONDS)
                try:
                    statement = await connection.prepare(FLUSH_SQL)
                    if await connection.fetchval("SELECT pg_is_in_recovery()"):
                        raise ConnectionError("the database is a standby")
                except BaseException:
                    connection.terminate()
                    raise
        except Exception as error:  # also what nobody foresaw: a writer that ended here would never connect again
            self._note_not_connected(error)
            with contextlib.suppress(TimeoutError):
                self._wake.clear()
                async with asyncio.timeout(_RECONNECT_SECONDS):
                    await self._wake.wait()
            return
        self._connection, self._statement = connection, statement
        self._not_connected, self._noted_at = None, float("-inf")
        metrics.CIRCUIT_OPEN.set(0)

    def _note_not_connected(self, error: Exception) -> None:
        """Remember why; say so the first time, when the cause changes, and every half minute."""
        code = getattr(error, "sqlstate", None) or type(error).__name__
        now = monotonic()
        if code != self._not_connected or now - self._noted_at >= _NOT_CONNECTED_LOG_SECONDS:
            self._noted_at = now
            _log.error("journal_not_connected", error_code=code)
        self._not_connected = code


def _partition_is_missing(error: asyncpg.PostgresError) -> bool:
    return error.sqlstate == "23514" and "no partition of relation" in str(error)


def _forget(call: asyncio.Future[object]) -> None:
    """An abandoned call ends with its connection; its error has been told already."""
    if not call.cancelled():
        call.exception()
