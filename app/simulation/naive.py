"""The rule that is often used: raw 90+ above 1.3 times the portfolio's, from 30 loans on.

It looks on beside the method, at the same loans.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from app.simulation.outcomes import NINETY_OF_THIRTY
from app.tiering.arrays import Integers

_ABOVE: Final = 1.3
_MINIMUM_LOANS: Final = 30
_MONTHS_FROM_30_TO_90: Final = 2


class NaiveRule:
    """Counts what is 90 days past due among all that was funded, whatever its age and its mix."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._unit = np.zeros(0, np.int64)
        self._bad_in = np.zeros(0, np.int64)

    def fund(self, random: np.random.Generator, unit: Integers, month: int, event: Integers) -> None:
        """Loans of a month with the month on book of their event, 0 where there is none."""
        reaches = (event > 0) & (random.random(event.size) < NINETY_OF_THIRTY)
        bad_in = np.where(reaches, month + event + _MONTHS_FROM_30_TO_90, np.iinfo(np.int64).max)
        self._unit = np.concatenate([self._unit, unit])
        self._bad_in = np.concatenate([self._bad_in, bad_in])

    def found(self, month: int) -> Integers:
        """Which channels the rule calls bad at the end of a month."""
        loans = np.bincount(self._unit, minlength=self._channels)
        bad = np.bincount(self._unit[self._bad_in <= month], minlength=self._channels)
        portfolio = bad.sum() / max(int(loans.sum()), 1)
        rates = bad / np.maximum(loans, 1)
        found: Integers = ((loans >= _MINIMUM_LOANS) & (rates > _ABOVE * portfolio) & (bad > 0)).astype(np.int64)
        return found
