"""Money is an integer number of minor units of an ISO 4217 currency. There is no float in a decision."""

from __future__ import annotations

from functools import lru_cache

# Minor unit exponents that differ from 2 (ISO 4217 list one, 2024).
_EXPONENTS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV"), 0),
    **dict.fromkeys(("XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}

ANNUITY_SCALE = 10**9
"""Annuity factors are integers at this scale."""

_MONTHLY_RATE_SCALE = 120_000
"""A yearly rate in basis points over this is the monthly rate."""


def minor_unit_exponent(currency: str) -> int:
    """How many decimals the currency's major unit has (2 for CNY and USD, 0 for JPY)."""
    return _EXPONENTS.get(currency, 2)


def floor_to_unit(amount: int, unit: int) -> int:
    """`amount` rounded down to a multiple of `unit`; both in minor units, `unit` at least 1. Never below 0."""
    return max(0, amount - amount % unit)


@lru_cache(maxsize=65_536)
def annuity_factor(rate_bps: int, term_months: int) -> int:
    """The present value of 1 paid at the end of each month, floored, at ANNUITY_SCALE.

    Exact rational arithmetic: (1 - (1 + i)^-n) / i with i = rate_bps / 120,000, and n where the rate is 0.
    `rate_bps` is a nominal yearly rate from 0, `term_months` at least 1.
    """
    if rate_bps == 0:
        return term_months * ANNUITY_SCALE
    grown: int = (_MONTHLY_RATE_SCALE + rate_bps) ** term_months
    base: int = _MONTHLY_RATE_SCALE**term_months
    return (grown - base) * _MONTHLY_RATE_SCALE * ANNUITY_SCALE // (grown * rate_bps)


def present_value(monthly_payment: int, factor: int) -> int:
    """The loan that `monthly_payment` repays, floored, in minor units. 0 for a payment of 0 or less."""
    return max(0, monthly_payment) * factor // ANNUITY_SCALE


def monthly_payment(amount: int, factor: int) -> int:
    """The instalment that repays `amount`, rounded up, in minor units: `present_value` of it is at least `amount`."""
    return -(-amount * ANNUITY_SCALE // factor)
