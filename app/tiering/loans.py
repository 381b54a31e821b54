"""The loans that evidence is made of, a column each, and how far each of them has been watched."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from app.tiering.arrays import Flags, Floats, Integers


def month_number(year: int, month: int) -> int:
    """A calendar month as a number that counts up by one a month. month: 1 to 12."""
    return 12 * year + month - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoanBook:
    """Funded loans in any order; every array has a cell a loan.

    unit, product, segment: positions in the caller's lists. funded_month: calendar month (`month_number`).
    exit_month: the month on book in which it left without an event (paid off, sold), 0 while it is there.
    event_month: the month on book in which it was 30 days past due for the first time, 0 while it was not.
    weight: how many loans it stands for, 1 but for the random acceptances. amount: minor units.

    Raises:
        ValueError: for columns of different lengths, negative positions or months, or weights that are not positive.
    """

    unit: Integers
    product: Integers
    segment: Integers
    funded_month: Integers
    exit_month: Integers
    event_month: Integers
    weight: Floats
    amount: Integers

    def __post_init__(self) -> None:
        columns = [getattr(self, field.name) for field in fields(self)]
        if len({column.shape for column in columns}) != 1 or self.unit.ndim != 1:
            raise ValueError("the columns of a loan book have one length")
        if self.unit.size and min(int(column.min()) for column in (*columns[:6], self.amount)) < 0:
            raise ValueError("positions, months and amounts are 0 or more")
        if not np.all(np.isfinite(self.weight)) or (self.weight.size and float(self.weight.min()) <= 0.0):
            raise ValueError("weights are finite and above 0")

    def __len__(self) -> int:
        return int(self.unit.size)

    def where(self, rows: Flags) -> LoanBook:
        """The loans that a mask names."""
        return LoanBook(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def loan_book(
    *,
    unit: Integers,
    segment: Integers,
    funded_month: Integers,
    event_month: Integers,
    product: Integers | None = None,
    exit_month: Integers | None = None,
    weight: Floats | None = None,
    amount: Integers | None = None,
) -> LoanBook:
    """A book whose optional columns are one product, nothing paid off early, weight 1 and amount 0."""
    nothing = np.zeros(unit.shape, np.int64)
    return LoanBook(
        unit=unit,
        product=nothing if product is None else product,
        segment=segment,
        funded_month=funded_month,
        exit_month=nothing if exit_month is None else exit_month,
        event_month=event_month,
        weight=np.ones(unit.shape, np.float64) if weight is None else weight,
        amount=nothing if amount is None else amount,
    )


def watched_months(loans: LoanBook, complete_through: Integers, horizon_months: int) -> tuple[Integers, Flags]:
    """How many months on book of each loan count, and whether the last of them ends in its event.

    A loan counts in month m where performance is complete through its calendar month, it has not left earlier, and m is
    at most the horizon. What was reported beyond `complete_through` (a calendar month per unit, the last whole one)
    counts neither as event nor as exposure: a feed that is late makes nothing look better.
    """
    age = complete_through[loans.unit] - loans.funded_month
    exit_month = np.where(loans.exit_month > 0, loans.exit_month, horizon_months)
    watched = np.clip(np.minimum(age, exit_month), 0, horizon_months)
    has_event = (loans.event_month > 0) & (loans.event_month <= watched)
    months: Integers = np.where(has_event, loans.event_month, watched)
    return months, has_event
