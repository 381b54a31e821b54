"""Whole columns of exact integers: the types, and arithmetic that is proven not to overflow or done in Python's own.

Amounts reach 10^15 and annuity factors 10^12, so a product of two does not always fit 64 bits. Each function first
looks at the largest values at hand: where their product fits, one pass over the array is exact; where it does not, the
few rows that exceed the bound are computed with Python's unbounded integers. Nothing is ever a float.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from app.domain.fields import STANDARD_FIELDS
from app.domain.money import annuity_factor

Integers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Codes: TypeAlias = npt.NDArray[np.uint8]
Index: TypeAlias = npt.NDArray[np.intp]
Days: TypeAlias = npt.NDArray[np.datetime64]

LARGEST: Final = 2**63 - 1
SATURATED: Final = 2**62
"""What stands for any result of at least this: above every cap, threshold and amount that a policy can name."""


def quotients(amounts: Integers, factors: Integers | int, divisors: Integers | int, *, up: bool = False) -> Integers:
    """`amounts * factors / divisors`, exactly, rounded down (or `up`), and `SATURATED` where it would be more.

    amounts, factors: 0 or more. divisors: 1 or more.
    """
    if not amounts.size:
        return amounts.copy()
    rounding = (int(np.max(divisors)) - 1) if up else 0
    if int(amounts.max()) * int(np.max(factors)) + rounding <= LARGEST:
        products = amounts * factors
        if up:
            products = products + (divisors - 1)
        quotient: Integers = products // divisors
        return np.minimum(quotient, SATURATED)
    return _row_by_row(amounts, factors, divisors, up=up)


def _row_by_row(amounts: Integers, factors: Integers | int, divisors: Integers | int, *, up: bool) -> Integers:
    """The same, with Python's integers for the rows whose product could leave 64 bits."""
    factor = np.broadcast_to(np.asarray(factors, dtype=np.int64), amounts.shape)
    divisor = np.broadcast_to(np.asarray(divisors, dtype=np.int64), amounts.shape)
    large = amounts > (LARGEST - divisor) // np.maximum(factor, 1)
    result: Integers = (np.where(large, 0, amounts) * factor + (divisor - 1 if up else 0)) // divisor
    for row in np.flatnonzero(large):
        product, by = int(amounts[row]) * int(factor[row]), int(divisor[row])
        result[row] = min(-(-product // by) if up else product // by, SATURATED)
    return np.minimum(result, SATURATED)


def sums(groups: Index, amounts: Integers, count: int) -> list[int]:
    """The exact sum of `amounts` (0 or more) in each group; `groups` are numbers below `count`."""
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(count + 1))
    totals = [0] * count
    ordered = amounts[order]
    high, low = ordered >> 32, ordered & 0xFFFF_FFFF
    for group in np.flatnonzero(starts[1:] > starts[:-1]):
        part = slice(starts[group], starts[group + 1])
        totals[group] = (int(high[part].sum()) << 32) + int(low[part].sum())
    return totals


_BOUNDS = {field.name: field.maximum for field in STANDARD_FIELDS}


class AnnuityTable:
    """`app.domain.money.annuity_factor` of whole columns: each rate and term is computed once, by that very function.

    A cell for every rate and term that an application may have. Memory is taken only where a cell is used, since the
    system hands out zeroed pages at first touch: 4 KiB for 512 rates of a term.
    """

    def __init__(self) -> None:
        self._rates = _BOUNDS["all_in_apr_pct"] + 1
        self._factors = np.zeros((_BOUNDS["term_months"] + 1) * self._rates, dtype=np.int64)

    def factors(self, rates_bps: Integers, terms_months: Integers) -> Integers:
        """The factors of these rates and terms, at `ANNUITY_SCALE`."""
        cells = terms_months * self._rates + rates_bps
        found: Integers = self._factors[cells]
        if not found.all():
            for cell in np.unique(cells[found == 0]).tolist():
                term_months, rate_bps = divmod(cell, self._rates)
                self._factors[cell] = annuity_factor(rate_bps, term_months)
            found = self._factors[cells]
        return found
