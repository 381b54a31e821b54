"""The CUSUM on first payments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tiering.alarm import AlarmScan, false_alarm_limit, limit_for, scan
from app.tiering.policy import DEFAULT

POLICY = DEFAULT.alarm


def of(days: list[int], defaults: list[bool], p: float = 0.01, **changes: float) -> AlarmScan:
    return scan(
        day=np.array(days, np.int64),
        expected=np.full(len(days), p),
        defaulted=np.array(defaults, np.bool_),
        limit=changes.get("limit", 2.81),
        odds_ratio=2.0,
        score=changes.get("score", 0.0),
    )


@pytest.mark.parametrize(("expected", "limit"), POLICY.limits)
def test_the_table_of_limits_holds_at_its_rows(expected: float, limit: float) -> None:
    assert limit_for(expected, POLICY) == pytest.approx(limit)


def test_limits_are_interpolated_in_the_logarithm_and_go_on_beyond_the_table() -> None:
    assert limit_for((5.0 * 10.0) ** 0.5, POLICY) == pytest.approx((2.81 + 3.58) / 2)
    assert limit_for(0.1, POLICY) == 2.26
    assert limit_for(3_000.0, POLICY) > 8.4


def test_five_defaults_at_once_ring_and_reset() -> None:
    found = of([1] * 5 + [2], [True] * 5 + [False])
    assert found.alarm_days == (1,)
    assert found.score == 0.0
    assert found.peak > 2.81


def test_no_defaults_never_ring() -> None:
    found = of(list(range(50)), [False] * 50)
    assert (found.score, found.alarm_days, found.peak) == (0.0, (), 0.0)


def test_an_alarm_starts_the_sum_anew() -> None:
    assert of(list(range(12)), [True] * 12).alarm_days == (4, 9)


loans = st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=60)


@given(loans, st.randoms(use_true_random=False), st.floats(0.0, 2.0))
def test_the_order_of_input_is_irrelevant(rows: list[tuple[int, bool]], random: object, score: float) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (of([d for d, _ in each], [y for _, y in each], score=score) for each in (rows, shuffled))
    assert one.alarm_days == other.alarm_days
    assert one.score == pytest.approx(other.score)


@given(loans, st.integers(0, 21), st.floats(0.0, 2.0))
def test_a_scan_may_be_cut_at_any_day(rows: list[tuple[int, bool]], day: int, score: float) -> None:
    whole = of([d for d, _ in rows], [y for _, y in rows], score=score)
    before = [(d, y) for d, y in rows if d < day]
    after = [(d, y) for d, y in rows if d >= day]
    first = of([d for d, _ in before], [y for _, y in before], score=score)
    second = of([d for d, _ in after], [y for _, y in after], score=first.score)
    assert first.alarm_days + second.alarm_days == whole.alarm_days
    assert second.score == pytest.approx(whole.score)


def test_an_odds_ratio_of_two_is_found_sooner_than_by_chance() -> None:
    random = np.random.default_rng(5)
    p = np.full(1_000, 0.01)
    limit = limit_for(10.0, POLICY)

    def rings(theta: float) -> float:
        ringing = [
            bool(
                scan(
                    day=np.arange(p.size),
                    expected=p,
                    defaulted=random.random(p.size) < theta * p,
                    limit=limit,
                    odds_ratio=2.0,
                ).alarm_days
            )
            for _ in range(400)
        ]
        return float(np.mean(ringing))

    assert rings(1.0) < 0.08
    assert rings(2.5) > 0.75


def test_a_limit_can_be_found_by_simulation() -> None:
    p = np.full(1_000, 0.01)
    found = false_alarm_limit(p, share=0.05, odds_ratio=2.0, repetitions=2_000, random=np.random.default_rng(6))
    assert found == pytest.approx(limit_for(10.0, POLICY), abs=0.35)
