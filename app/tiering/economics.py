"""What a channel's customers cost and earn: CAC, LTV, ROI, and the bad rate at which they earn nothing.

Money is in one unit throughout (minor or major), rates are a year's, as fractions. Floats: these are figures to judge a
channel by, never amounts that anybody is paid.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Economics:
    """What lending costs, versioned per product by the caller. Defaults: the domain's section 4.

    servicing_cost: a loan and year, in the unit of the amounts. balance_factor: mean balance over the amount.
    """

    funding_rate: float = 0.045
    servicing_cost: float = 300.0
    balance_factor: float = 0.55
    lgd: float = 0.65
    ead_factor: float = 0.75

    def lifetime_value(self, *, amount: float, annual_rate: float, years: float, pd: float) -> float:
        """A (r - f) x balance factor x years - servicing - A PD LGD EAD."""
        return self.margin(amount=amount, annual_rate=annual_rate, years=years) - (
            amount * pd * self.lgd * self.ead_factor
        )

    def margin(self, *, amount: float, annual_rate: float, years: float) -> float:
        """What a loan earns before losses."""
        interest = amount * (annual_rate - self.funding_rate) * self.balance_factor * years
        return interest - self.servicing_cost * years

    def break_even_rate(self, *, amount: float, annual_rate: float, years: float, cac: float = 0.0) -> float:
        """The bad rate at which a customer earns what it cost: B of the absolute arm, with the cost of acquiring it or
        without. Below 0 where not even good customers earn it.
        """
        margin = self.margin(amount=amount, annual_rate=annual_rate, years=years)
        return (margin - cac) / (amount * self.lgd * self.ead_factor)


def acquisition_cost(*, media: float, commission: float, operations: float, funded_new_customers: int) -> float | None:
    """CAC: what was spent / funded new customers; None where there are none."""
    return (media + commission + operations) / funded_new_customers if funded_new_customers > 0 else None


def return_on_acquisition(lifetime_value: float, cac: float | None) -> float | None:
    """(LTV - CAC) / CAC; None where nothing was spent, or nobody knows what."""
    return (lifetime_value - cac) / cac if cac else None


def rate(over: int, under: int) -> float | None:
    """A share, such as accepted / decided, funded / accepted or funded / applications; None over nothing."""
    return over / under if under > 0 else None
