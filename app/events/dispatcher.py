"""The dispatcher: claims what is due, sends it, writes down what became of it. Any number of them may run.

At least once: a delivery whose answer did not come in time, or whose process died after sending, is sent again under
the same event id. There is no last attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import sqlalchemy.exc
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.background import end
from app.events.deliveries import EXCERPT_LENGTH, AttemptResult, Claim, Outcome, claim, oldest_seconds, settle
from app.events.guard import BlockedUrlError, UnresolvedHostError, UrlGuard
from app.events.secrets import SecretKeys, UnknownKeyError, signed_headers
from app.observability import metrics
from app.version import VERSION

_AT_ONCE = 32
_BUSY_AT = 4
"""An endpoint with so many attempts under way gets no more: one that hangs must not take the whole dispatcher. A claim
takes at most so many of one endpoint, so it has fewer than twice as many at once."""
_POLL_SECONDS = 1.0
_MEASURE_SECONDS = 5.0
_LEASE_MARGIN_SECONDS = 5.0
"""How long settling may take on top of the attempt before another dispatcher tries as well."""
_STOP_SECONDS = 2.0
_EXCERPT_BYTES = 4 * EXCERPT_LENGTH
_DATABASE_AWAY = (OSError, TimeoutError, sqlalchemy.exc.SQLAlchemyError)
_random = secrets.SystemRandom()

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long to wait: for an answer, before the second attempt, and at most between two attempts."""

    timeout_seconds: float = 10.0
    first_retry_seconds: float = 5.0
    longest_retry_seconds: float = 3600.0

    def retry_seconds(self, attempt: int, jitter: float) -> float:
        """The wait after attempt 1, 2, ...: doubled up to the longest; `jitter` in [0, 1) takes up to half."""
        doubled = self.first_retry_seconds * 2.0 ** min(attempt - 1, 40)
        return min(doubled, self.longest_retry_seconds) * (1.0 - jitter / 2.0)

    @property
    def lease(self) -> timedelta:
        """How long a claim holds."""
        return timedelta(seconds=self.timeout_seconds + _LEASE_MARGIN_SECONDS)


class Dispatcher:
    """Runs in every worker. Without keys it sends nothing, and still reports how long the oldest delivery waits."""

    def __init__(self, engine: AsyncEngine, *, keys: SecretKeys | None, guard: UrlGuard, schedule: Schedule) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._keys = keys
        self._guard = guard
        self._schedule = schedule
        self._client: httpx.AsyncClient | None = None
        self._loops: tuple[asyncio.Task[None], ...] = ()
        self._attempts: dict[asyncio.Task[None], UUID] = {}
        self._room = asyncio.Event()

    async def start(self) -> None:
        """Begin."""
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,  # a proxy of the environment would connect past the guard
            timeout=self._schedule.timeout_seconds,
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"User-Agent": f"channel-gate/{VERSION}"},
        )
        self._loops = (asyncio.create_task(self._measure(), name="outbox gauge"),)
        if self._keys is not None:
            self._loops += (asyncio.create_task(self._dispatch(self._keys), name="dispatcher"),)

    async def stop(self) -> None:
        """Claim no more, and give what is under way a moment; what takes longer is attempted again by another."""
        for task in self._loops:
            await end(task)
        if self._attempts:
            _, slow = await asyncio.wait(self._attempts, timeout=_STOP_SECONDS)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _measure(self) -> None:
        while True:
            try:
                async with self._engine.connect() as connection:
                    metrics.OUTBOX_OLDEST.set(await oldest_seconds(connection))
            except _DATABASE_AWAY as error:
                _log.warning("outbox_unmeasured", exc_info=error)
            await asyncio.sleep(_MEASURE_SECONDS)

    async def _dispatch(self, keys: SecretKeys) -> None:
        while True:
            self._room.clear()
            try:
                claimed = await self._claim()
            except _DATABASE_AWAY as error:
                _log.warning("webhook_claim_failed", exc_info=error)
                claimed = ()
            for each in claimed:
                task = asyncio.create_task(self._deliver(each, keys), name="webhook")
                self._attempts[task] = each.endpoint_id
                task.add_done_callback(self._ended)
            # An attempt that ends may have let the next event of its subject through: look again at once.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), _POLL_SECONDS)

    async def _claim(self) -> tuple[Claim, ...]:
        free = _AT_ONCE - len(self._attempts)
        if free <= 0:
            return ()
        running = Counter(self._attempts.values())
        busy = [endpoint for endpoint, count in running.items() if count >= _BUSY_AT]
        async with self._engine.connect() as connection:
            return await claim(connection, limit=free, per_endpoint=_BUSY_AT, busy=busy, lease=self._schedule.lease)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._attempts[task]
        self._room.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("webhook_attempt_failed", exc_info=task.exception())

    async def _deliver(self, claimed: Claim, keys: SecretKeys) -> None:
        outcome = await self._attempt(claimed, keys)
        metrics.WEBHOOK_DELIVERIES.labels(outcome.result.value).inc()
        wait = self._schedule.retry_seconds(claimed.attempt, _random.random())
        if outcome.retry_after_seconds is not None:
            wait = max(wait, min(outcome.retry_after_seconds, self._schedule.longest_retry_seconds))
        try:
            async with self._engine.connect() as connection:
                await settle(connection, claimed, outcome, retry=timedelta(seconds=wait))
        except _DATABASE_AWAY as error:  # the lease runs out and the delivery is due again
            _log.warning("webhook_settle_failed", exc_info=error)

    async def _attempt(self, claimed: Claim, keys: SecretKeys) -> Outcome:
        began = time.monotonic()
        status: int | None = None
        excerpt: str | None = None
        retry_after: float | None = None
        try:
            held = [keys.secret(key_id, salt) for key_id, salt in claimed.secrets]
            async with asyncio.timeout(self._schedule.timeout_seconds):
                answer, read = await self._send(claimed, held)
            status = answer.status_code
            if answer.is_success:
                result = AttemptResult.DELIVERED
            else:
                result = AttemptResult.REFUSED
                excerpt = _printable(read)
                retry_after = _retry_after_seconds(answer)
        except (TimeoutError, httpx.TimeoutException):
            result = AttemptResult.TIMEOUT
        except (BlockedUrlError, UnknownKeyError) as error:
            result, excerpt = AttemptResult.BLOCKED, str(error)
        except UnresolvedHostError as error:
            result, excerpt = AttemptResult.UNREACHABLE, str(error)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            result, excerpt = AttemptResult.UNREACHABLE, type(error).__name__
        return Outcome(
            result=result,
            duration_ms=round((time.monotonic() - began) * 1000),
            status=status,
            excerpt=excerpt,
            retry_after_seconds=retry_after,
        )

    async def _send(self, claimed: Claim, held: list[bytes]) -> tuple[httpx.Response, bytes]:
        assert self._client is not None
        target = await self._guard.resolve(claimed.url)
        headers = {
            "Host": target.host_header,
            "Content-Type": "application/json",
            **signed_headers(claimed.event_id, claimed.body, held, datetime.now(UTC)),
        }
        request = self._client.build_request(
            "POST",
            target.url,
            content=claimed.body,
            headers=headers,
            extensions={"sni_hostname": target.server_name},
        )
        answer = await self._client.send(request, stream=True)
        try:
            read = b""
            if not answer.is_success:
                async for chunk in answer.aiter_raw(_EXCERPT_BYTES):
                    read = (read + chunk)[:_EXCERPT_BYTES]
                    if len(read) == _EXCERPT_BYTES:
                        break
            return answer, read
        finally:
            await answer.aclose()


def _printable(read: bytes) -> str:
    """The beginning of an answer as one line that can be stored and shown."""
    text = read.decode("utf-8", "replace")
    return "".join(each if each.isprintable() else " " for each in text)[:EXCERPT_LENGTH]


def _retry_after_seconds(answer: httpx.Response) -> float | None:
    given = answer.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdigit() and len(given) <= 6 else None
