"""What a tiering policy can and cannot see at a lender's own volumes: false demotions and detections by threshold.

Far cheaper than a whole world, because nothing feeds back: channels of known theta have Poisson events by cohort and
month on book, and each month is judged as a review judges a channel in the middle tier, watch included. Good for
comparing thresholds and statistics; a world of `trial` has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import gammaincc

from app.simulation.world import EVENT_SHAPE
from app.tiering.alarm import limit_for, scan
from app.tiering.arrays import Flags, Floats, Integers
from app.tiering.change_point import last_change_weights
from app.tiering.policy import Statistic, TieringPolicy

_DAYS: Final = 28
_NEVER: Final = 10_000
CHANGES_IN: Final = 12
"""The month in which a channel that changes does so."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Witnessed:
    """Of drawn channels (rows) and months (columns): P(theta > t) by both witnesses of a demotion, 0 where one has too
    few events, and whether the channel was on watch.
    """

    first: Floats
    recent: Floats
    watched: Flags


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Shares of channels, and medians in months (None: fewer than half), at one threshold and volume.

    false: theta 1 demoted within the time; mild: theta 1.5 demoted; bad_in_year: theta 2.5 demoted within 12 months;
    changed_after: until a change from 1 to 2.5 was found.
    """

    probability: float
    loans_a_month: int
    false: float
    mild: float
    bad_in_year: float
    bad_after: float | None
    changed_after: float | None


def power(
    policy: TieringPolicy,
    *,
    loans_a_month: int,
    rate: float,
    probabilities: tuple[float, ...],
    channels: int = 200,
    months: int = 24,
    random: np.random.Generator,
) -> tuple[Power, ...]:
    """The power of a policy at one volume, at each probability in place of its own.

    rate: the expected rate of events within the horizon, above 0 and below 1.
    """
    steady = np.ones(months)
    drawn = {
        "same": witness(policy, loans_a_month * rate, steady, channels, random),
        "mild": witness(policy, loans_a_month * rate, 1.5 * steady, channels, random),
        "bad": witness(policy, loans_a_month * rate, 2.5 * steady, channels, random),
        "changed": witness(
            policy, loans_a_month * rate, np.where(np.arange(months) < CHANGES_IN, 1.0, 2.5), channels, random
        ),
    }
    return tuple(_at(policy, probability, loans_a_month, drawn) for probability in probabilities)


def _at(policy: TieringPolicy, probability: float, loans_a_month: int, drawn: dict[str, Witnessed]) -> Power:
    first = {name: _first_demotion(policy, probability, seen) for name, seen in drawn.items() if name != "changed"}
    changed = drawn["changed"]
    late = Witnessed(
        first=changed.first[:, CHANGES_IN:],
        recent=changed.recent[:, CHANGES_IN:],
        watched=changed.watched[:, CHANGES_IN:],
    )
    return Power(
        probability=probability,
        loans_a_month=loans_a_month,
        false=float((first["same"] < _NEVER).mean()),
        mild=float((first["mild"] < _NEVER).mean()),
        bad_in_year=float((first["bad"] <= 12).mean()),
        bad_after=_median(first["bad"]),
        changed_after=_median(_first_demotion(policy, probability, late)),
    )


def _first_demotion(policy: TieringPolicy, probability: float, seen: Witnessed) -> Integers:
    """In which month, from 1, each channel is demoted first. On watch a lower probability of the policy holds."""
    if policy.statistic is Statistic.WINDOWS:
        on_watch = min(probability, policy.demotion.probability_on_watch)
        recent, recent_on_watch = probability, on_watch
    else:
        own = policy.change_point
        on_watch = min(probability, own.demotion_probability_on_watch)
        recent, recent_on_watch = own.recent_probability, own.recent_probability_on_watch
    met = np.where(
        seen.watched,
        (seen.first >= on_watch) | (seen.recent >= recent_on_watch),
        (seen.first >= probability) | (seen.recent >= recent),
    )
    return np.where(met.any(axis=1), met.argmax(axis=1) + 1, _NEVER).astype(np.int64)


def _median(months: Integers) -> float | None:
    middle = float(np.median(months))
    return None if middle >= _NEVER / 2 else middle


def witness(
    policy: TieringPolicy, expected_a_cohort: float, theta: Floats, channels: int, random: np.random.Generator
) -> Witnessed:
    """Draw channels whose cohorts have these thetas, and what a review would have believed of them in each month."""
    months = theta.size
    shape = np.array(EVENT_SHAPE) / sum(EVENT_SHAPE)
    horizon = shape.size
    expected = np.tile(expected_a_cohort * shape, (months, 1))
    events = random.poisson(expected[None, :, :] * theta[None, :, None], (channels, months, horizon))
    threshold = policy.boundaries[policy.tiers.index(policy.admitted_tier)].demote_above
    found = Witnessed(
        first=np.zeros((channels, months)),
        recent=np.zeros((channels, months)),
        watched=_watched(policy, events, expected, random),
    )
    cohort, age = np.arange(months)[:, None], np.arange(1, horizon + 1)[None, :]
    for now in range(months):
        known = cohort + age <= now
        observed, exposure = (events * known).sum(axis=2), (expected * known).sum(axis=1)
        young = (np.arange(months) >= now - policy.forgetting.recent_cohorts) & (np.arange(months) <= now)
        found.recent[:, now] = _above(policy, observed[:, young].sum(axis=1), exposure[young].sum(), threshold)
        if policy.statistic is Statistic.WINDOWS:
            weights = known * 0.5 ** (np.maximum(now - cohort - age, 0) / policy.forgetting.half_life_months)
            found.first[:, now] = _above(
                policy, (events * weights).sum(axis=(1, 2)), float((expected * weights).sum()), threshold
            )
        else:
            found.first[:, now] = _above_since_change(policy, observed[:, : now + 1], exposure[: now + 1], threshold)
    return found


def _above(policy: TieringPolicy, observed: Floats, expected: float, threshold: float) -> Floats:
    nu = policy.prior.nu_default
    enough = observed >= policy.demotion.minimum_events
    probabilities: Floats = np.where(enough, gammaincc(nu + observed, (nu + expected) * threshold), 0.0)
    return probabilities


def _above_since_change(policy: TieringPolicy, observed: Integers, expected: Floats, threshold: float) -> Floats:
    nu = policy.prior.nu_default
    exposure = np.broadcast_to(expected, observed.shape)
    weights = last_change_weights(
        nu, observed.astype(np.float64), exposure, policy.change_point.monthly_change_probability
    )
    since = np.cumsum(observed[:, ::-1], axis=1)[:, ::-1]
    since_expected = np.cumsum(exposure[:, ::-1], axis=1)[:, ::-1]
    above = (weights * gammaincc(nu + since, (nu + since_expected) * threshold)).sum(axis=1)
    probabilities: Floats = np.where((weights * since).sum(axis=1) >= policy.demotion.minimum_events, above, 0.0)
    return probabilities


def _watched(policy: TieringPolicy, events: Integers, expected: Floats, random: np.random.Generator) -> Flags:
    """On watch after an alarm on first payments; a month's are spread over its days."""
    channels, months, _ = events.shape
    due = policy.event.fpd_month_on_book
    watched: Flags = np.zeros((channels, months), np.bool_)
    p = float(expected[0, due - 1])
    limit = limit_for(12.0 * p, policy.alarm)
    loans = max(round(20.0 * p), _DAYS)  # the sum needs what is expected of a day, not of a single loan
    for channel in range(channels):
        day = np.tile(np.arange(loans) * _DAYS // loans, months) + np.repeat(np.arange(months), loans) * _DAYS
        hit = np.zeros(day.size, np.bool_)
        for month in range(due, months):
            some = random.choice(loans, min(int(events[channel, month - due, due - 1]), loans), replace=False)
            hit[month * loans + some] = True
        rang = scan(
            day=day[due * loans :],
            expected=np.full(day.size - due * loans, p / loans),
            defaulted=hit[due * loans :],
            limit=limit,
            odds_ratio=policy.alarm.odds_ratio,
        )
        for alarm in rang.alarm_days:
            watched[channel, alarm // _DAYS : alarm // _DAYS + policy.alarm.watch_months] = True
    return watched
