"""The fast alarm: a risk-adjusted CUSUM on first payments, evaluated day by day.

Source: Steiner, Cook, Farewell and Treasure, Monitoring surgical performance using risk-adjusted cumulative sum charts,
Biostatistics 1 (2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np

from app.tiering.arrays import Flags, Floats, Integers
from app.tiering.policy import AlarmPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmScan:
    """`score` is S after the last day, to start from next time. `alarm_days`: when S passed the limit and was reset.

    peak: the largest S that was reached.
    """

    score: float
    alarm_days: tuple[int, ...]
    peak: float


def scores(expected: Floats, defaulted: Flags, odds_ratio: float) -> Floats:
    """W = y ln R - ln(1 - p + R p) of each loan: evidence for odds of R times those expected, against those expected.

    expected: p, the probability that the first instalment is 30 days late; defaulted: y, whether it was.
    """
    weights: Floats = np.where(defaulted, log(odds_ratio), 0.0) - np.log(1.0 + (odds_ratio - 1.0) * expected)
    return weights


def limit_for(expected_a_year: float, policy: AlarmPolicy) -> float:
    """The limit that gives about 5 % false alarms a year, by how many first-payment defaults a year are expected.

    Linear in the logarithm of the expectation between the rows of the policy; at their ends the end's own limit, and
    beyond the last row its slope goes on, since a limit that is too low would cry wolf at the largest channels.
    """
    rows = policy.limits
    if expected_a_year <= rows[0][0]:
        return rows[0][1]
    if expected_a_year > rows[-1][0]:
        (x0, y0), (x1, y1) = rows[-2], rows[-1]
        return y1 + (y1 - y0) * log(expected_a_year / x1) / log(x1 / x0)
    xs, ys = zip(*rows, strict=True)
    return float(np.interp(log(expected_a_year), np.log(xs), ys))


def scan(
    *,
    day: Integers,
    expected: Floats,
    defaulted: Flags,
    limit: float,
    odds_ratio: float,
    score: float = 0.0,
) -> AlarmScan:
    """S = max(0, S + W), day by day, W being the sum over the loans of a day; reset to 0 by each alarm.

    day: when it was known of each loan whether its first instalment is 30 days late. Loans may come in any order: those
    of one day are taken together. A loan that is not that old is not among them.
    """
    days, position = np.unique(day, return_inverse=True)
    steps = np.bincount(position, weights=scores(expected, defaulted, odds_ratio), minlength=days.size)
    alarms: list[int] = []
    peak = score
    begin = 0
    while begin < days.size:
        walk = score + np.cumsum(steps[begin:])
        reflected = walk - np.minimum(np.minimum.accumulate(walk), 0.0)
        passed = np.flatnonzero(reflected > limit)
        if not passed.size:
            peak = max(peak, float(reflected.max()))
            score = float(reflected[-1])
            break
        peak = max(peak, float(reflected[: passed[0] + 1].max()))
        begin += int(passed[0]) + 1
        alarms.append(int(days[begin - 1]))
        score = 0.0
    return AlarmScan(score=score, alarm_days=tuple(alarms), peak=peak)


def false_alarm_limit(
    expected: Floats,
    *,
    share: float,
    odds_ratio: float,
    repetitions: int,
    random: np.random.Generator,
) -> float:
    """The limit that a year of loans as expected passes in a share of years, by simulation.

    expected: p of a year's loans, in order of their first due date. For volumes beyond the policy's table.
    """
    peaks = np.empty(repetitions)
    for repetition in range(repetitions):
        walk = np.cumsum(scores(expected, random.random(expected.size) < expected, odds_ratio))
        peaks[repetition] = float((walk - np.minimum(np.minimum.accumulate(walk), 0.0)).max())
    return float(np.quantile(peaks, 1.0 - share))
