"""What becomes of funded loans in a simulated world."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.simulation.world import BAND_STARTS, EVENT_SHAPE, World
from app.tiering.arrays import Flags, Floats, Integers

NINETY_OF_THIRTY: Final = 0.7
"""How many of those 30 days past due reach 90 days, two months later."""
_PREPAY_A_MONTH: Final = 0.015
_RATE_AT_690: Final = 0.055
_SCORE_SLOPE: Final = 0.0155
_NO_FILE_SCORE: Final = 600


def segment_of(score: Integers, has_file: Flags) -> Integers:
    """The band of each person; whoever has no file is in the first."""
    bands: Integers = np.searchsorted(np.array(BAND_STARTS), score, side="right").astype(np.int64) - 1
    return np.where(has_file, bands, 0)


def yearly_rate(score: Integers, has_file: Flags) -> Floats:
    """The true probability of an event in the first year at theta 1: smooth in the score, not constant in its band."""
    known = np.where(has_file, score, _NO_FILE_SCORE)
    odds = _RATE_AT_690 / (1.0 - _RATE_AT_690) * np.exp(-_SCORE_SLOPE * (known - 690.0))
    rates: Floats = odds / (1.0 + odds)
    return rates


def season_at(world: World, month: Integers | int) -> Floats:
    """What the time of the year multiplies hazards by."""
    swing: Floats = 1.0 + world.season * np.sin(2.0 * np.pi * (np.asarray(month) % 12) / 12.0)
    return swing


def draw_events(
    random: np.random.Generator,
    world: World,
    *,
    rate: Floats,
    theta: Floats,
    funded_month: Integers,
    score: Integers,
) -> tuple[Integers, Integers]:
    """The month on book of the event of each loan and that of its early repayment, 0 where there is none."""
    shape = np.array(EVENT_SHAPE)
    calendar = funded_month[:, None] + np.arange(1, shape.size + 1)[None, :]
    hazard = -np.log1p(-rate)[:, None] * shape[None, :] * theta[:, None]
    hazard *= season_at(world, calendar)
    hazard *= np.where(calendar >= world.shock_month, world.shock, 1.0)
    hazard *= np.where(score < world.hidden_below, world.hidden_risk, 1.0)[:, None]
    spent = np.cumsum(hazard, axis=1)
    due = random.exponential(size=rate.size)
    event = np.where(due < spent[:, -1], (spent < due[:, None]).sum(axis=1) + 1, 0)
    left = random.geometric(_PREPAY_A_MONTH, rate.size)
    exit_month = np.where((left <= shape.size) & ((event == 0) | (left < event)), left, 0)
    return np.where((exit_month > 0) & (event > exit_month), 0, event).astype(np.int64), exit_month.astype(np.int64)
