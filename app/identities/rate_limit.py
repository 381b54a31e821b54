"""How often a caller may call: a token bucket per caller, in the memory of each worker.

With a limit of R per second, a burst of B = R x `burst_seconds` and N live workers, each worker grants R / N per second
and a burst of max(1, B / N). So over any T seconds all workers together admit at most

    R x T + max(N, B)

while the number of workers stands. Each change of the number costs at most one further burst (newcomers bring a full
share, those that stay count the time since their last call at the new share), and at most R x L more, where L is how
long the registry takes to show a newcomer to the others. A worker that restarts forgets: it is a newcomer. When workers
leave, the others grant too little for as long. A caller whose connections all end at one worker gets R / N, not R.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_MAX_BUCKETS = 16_384


@dataclass(slots=True)
class TokenBucket:
    """What is left of a caller's burst. `at` is in seconds of the limiter's clock."""

    tokens: float
    at: float

    def take(self, *, rate: float, capacity: float, now: float) -> float:
        """Take one token: 0.0 where there was one, else the seconds until there will be. A refusal costs nothing.

        `rate` (tokens per second, above 0) and `capacity` (at least 1) may differ from call to call. A clock that
        goes back adds nothing.
        """
        tokens = min(capacity, self.tokens + max(0.0, now - self.at) * rate)
        self.at = max(now, self.at)
        if tokens >= 1.0:
            self.tokens = tokens - 1.0
            return 0.0
        self.tokens = tokens
        return (1.0 - tokens) / rate


class RateLimiter:
    """Token buckets by caller, with the share of this worker."""

    def __init__(
        self,
        *,
        default_per_second: float,
        live_workers: Callable[[], int],
        burst_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`default_per_second` holds for callers without a limit of their own; 0 means no limit."""
        self._default_per_second = default_per_second
        self._live_workers = live_workers
        self._burst_seconds = burst_seconds
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, caller: str, per_second: float | None = None) -> float:
        """Count one request: 0.0 where it is admitted, else the seconds after which the next would be."""
        limit = self._default_per_second if per_second is None else per_second
        if limit <= 0:
            return 0.0
        workers = max(1, self._live_workers())
        rate = limit / workers
        capacity = max(1.0, rate * self._burst_seconds)
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._open(caller, capacity, now)
        return bucket.take(rate=rate, capacity=capacity, now=now)

    def _open(self, caller: str, capacity: float, now: float) -> TokenBucket:
        # Only checked credentials get here, so the bound is a backstop. The oldest goes: it most likely is full again.
        if len(self._buckets) >= _MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        bucket = self._buckets[caller] = TokenBucket(tokens=capacity, at=now)
        return bucket
