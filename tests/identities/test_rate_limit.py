"""The rate limiter: what it admits at most, alone and over workers that come and go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.identities.rate_limit import RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def admitted(limiter: RateLimiter, tries: int, per_second: float | None = None, caller: str = "key:a") -> int:
    return sum(limiter.take(caller, per_second) == 0.0 for _ in range(tries))


def limiter(clock: Clock, workers: int = 1, default: float = 10.0) -> RateLimiter:
    return RateLimiter(default_per_second=default, live_workers=lambda: workers, clock=clock)


def test_burst_is_admitted_and_then_the_rate() -> None:
    clock = Clock()
    limited = limiter(clock)
    assert admitted(limited, 50) == 10
    clock.now += 0.5
    assert admitted(limited, 50) == 5


def test_refusal_says_after_how_long_the_next_is_admitted() -> None:
    clock = Clock()
    limited = limiter(clock)
    admitted(limited, 10)
    wait = limited.take("key:a")
    assert wait == pytest.approx(0.1)
    clock.now += wait * 0.99
    assert limited.take("key:a") > 0.0
    clock.now += wait * 0.02
    assert limited.take("key:a") == 0.0


def test_callers_do_not_share_a_bucket() -> None:
    limited = limiter(Clock())
    admitted(limited, 50, caller="key:a")
    assert admitted(limited, 50, caller="key:b") == 10


def test_limit_of_the_key_goes_before_the_default() -> None:
    limited = limiter(Clock())
    assert admitted(limited, 50, per_second=3) == 3


def test_zero_by_default_means_no_limit() -> None:
    limited = limiter(Clock(), default=0)
    assert admitted(limited, 1_000) == 1_000
    assert admitted(limited, 50, per_second=2, caller="key:limited") == 2


def test_limit_is_divided_over_the_live_workers() -> None:
    clock = Clock()
    workers = [limiter(clock, workers=4, default=100.0) for _ in range(4)]
    assert sum(admitted(worker, 500) for worker in workers) == 100
    clock.now += 1.0
    assert sum(admitted(worker, 500) for worker in workers) == 100


def test_share_below_one_still_admits_one() -> None:
    clock = Clock()
    limited = limiter(clock, workers=8, default=2.0)
    assert admitted(limited, 5) == 1
    clock.now += 4.0
    assert admitted(limited, 5) == 1


def test_worker_count_of_zero_counts_as_one() -> None:
    assert admitted(limiter(Clock(), workers=0), 50) == 10


def test_clock_that_goes_back_admits_nothing_more() -> None:
    clock = Clock()
    limited = limiter(clock)
    admitted(limited, 10)
    clock.now -= 50.0
    assert admitted(limited, 10) == 0
    clock.now += 50.0
    assert admitted(limited, 10) == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.identities.rate_limit._MAX_BUCKETS", 8)
    limited = limiter(Clock())
    for number in range(100):
        limited.take(f"key:{number}")
    assert len(limited._buckets) == 8


steps = st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 40)), min_size=1, max_size=60)


@given(steps=steps, rate=st.integers(1, 50), burst_seconds=st.floats(0.1, 5.0))
def test_no_window_admits_more_than_the_rate_and_one_burst(
    steps: list[tuple[float, int]], rate: int, burst_seconds: float
) -> None:
    clock = Clock()
    limited = RateLimiter(default_per_second=rate, live_workers=lambda: 1, burst_seconds=burst_seconds, clock=clock)
    burst = max(1.0, rate * burst_seconds)
    passed: list[tuple[float, int]] = []
    for pause, tries in steps:
        clock.now += pause
        passed.append((clock.now, admitted(limited, tries)))
    for first in range(len(passed)):
        total = 0
        for at, count in passed[first:]:
            total += count
            assert total <= rate * (at - passed[first][0]) + burst + 1e-6


@given(
    rate=st.integers(1, 50),
    workers=st.integers(1, 6),
    calls=st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=60),
)
def test_workers_together_admit_at_most_the_rate_and_one_burst(
    rate: int, workers: int, calls: list[tuple[float, int, int]]
) -> None:
    clock = Clock()
    limited = [limiter(clock, workers=workers, default=rate) for _ in range(workers)]
    began, total = clock.now, 0
    for pause, which, tries in calls:
        clock.now += pause
        total += admitted(limited[which % workers], tries)
        assert total <= rate * (clock.now - began) + max(workers, rate) + 1e-6


@given(
    steps=st.lists(
        st.tuples(st.floats(0.0, 2.0), st.integers(1, 6), st.integers(0, 5), st.integers(0, 30)),
        min_size=1,
        max_size=60,
    ),
    rate=st.integers(1, 50),
)
def test_workers_that_come_and_go_admit_at_most_the_stated_bound(
    steps: list[tuple[float, int, int, int]], rate: int
) -> None:
    """Each step: time passes, the number of live workers becomes what it says and all see it, one is called."""
    clock = Clock()
    live = [steps[0][1]]
    began, total, changes = clock.now, 0, 0
    workers: list[RateLimiter] = []

    def newcomer() -> RateLimiter:
        return RateLimiter(default_per_second=rate, live_workers=lambda: live[0], clock=clock)

    for pause, count, which, tries in steps:
        clock.now += pause
        changes += count != live[0]
        live[0] = count
        workers += [newcomer() for _ in range(count - len(workers))]
        del workers[count:]
        total += admitted(workers[which % count], tries)
    burst = max(rate, *(count for _, count, _, _ in steps))
    assert total <= rate * (clock.now - began) + (1 + changes) * burst + 1e-6
