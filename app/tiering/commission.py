"""Commission: what a channel earns by the loans it brought, by their quality, and what it gives back.

Statements are in integer minor units; every line is exact arithmetic from its inputs, rounded half to even once. What a
closed statement got wrong, the next one corrects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Final


def _default_quality() -> Mapping[str, Fraction]:
    return {"prime": Fraction(6, 5), "general": Fraction(1), "risk": Fraction(3, 5), "suspended": Fraction(0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommissionTerms:
    """C = A x base rate x q(tier) x m. Rates are fractions of the amount; months are on book.

    m = clip(1 + slope (1 - theta mean), minimum, maximum). upfront_share is paid at funding, the rest at
    `holdback_month` where the loan was never 30 days past due.
    """

    base_rate: Fraction = Fraction(2, 100)
    quality: Mapping[str, Fraction] = field(default_factory=_default_quality)
    slope: Fraction = Fraction(1, 2)
    multiplier_minimum: Fraction = Fraction(7, 10)
    multiplier_maximum: Fraction = Fraction(12, 10)
    upfront_share: Fraction = Fraction(7, 10)
    holdback_month: int = 6
    rebate_rate: Fraction = Fraction(2, 1000)
    rebate_probability: float = 0.80
    suspended_holdback_months: int = 12

    def multiplier(self, theta_mean: float) -> Fraction:
        """m: half of what a channel is better or worse than its mix, within bounds."""
        raw = 1 + self.slope * (1 - Fraction(theta_mean))
        return min(max(raw, self.multiplier_minimum), self.multiplier_maximum)

    def commission(self, amount: int, tier: str, theta_mean: float) -> Fraction:
        """C, exact. Raises KeyError for a tier without a quality factor."""
        return amount * self.base_rate * self.quality[tier] * self.multiplier(theta_mean)


class Loss(StrEnum):
    """What claws commission back."""

    FRAUD = "fraud"
    FIRST_PAYMENT_DEFAULT = "first_payment_default"
    CANCELLATION = "cancellation"
    DEFAULT = "default"
    PREPAYMENT = "prepayment"


def claw_back_share(loss: Loss, month_on_book: int) -> Fraction:
    """How much of what was paid is taken back: the domain's section 6. month_on_book: when it happened, from 0.

    Fraud and a first-payment default at any time, a cancellation or 90 days past due by month 6: all. 90 days past due
    by month 12: half. Prepayment within 3 months: half.
    """
    match loss:
        case Loss.FRAUD | Loss.FIRST_PAYMENT_DEFAULT:
            return Fraction(1)
        case Loss.CANCELLATION:
            return Fraction(int(month_on_book <= 6))
        case Loss.DEFAULT:
            return Fraction(1) if month_on_book <= 6 else Fraction(int(month_on_book <= 12), 2)
        case Loss.PREPAYMENT:
            return Fraction(int(month_on_book <= 3), 2)


class LineKind(StrEnum):
    """The origin of a line."""

    FUNDED = "funded"
    HOLDBACK = "holdback"
    CLAW_BACK = "claw_back"
    REBATE = "rebate"
    CORRECTION = "correction"
    CARRIED_FORWARD = "carried_forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a statement; `reference` names the loan, the quarter or the statement that it comes from."""

    kind: LineKind
    reference: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommissionedLoan:
    """A loan with the terms that it was funded under: a later tier changes nothing about it.

    amount: minor units. events: losses with their months on book; past_due_month: first 30 days past due, or None.
    """

    loan_id: str
    amount: int
    tier: str
    theta_mean: float
    funded_month: int
    past_due_month: int | None = None
    losses: tuple[tuple[Loss, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A channel's statement of one calendar month. payable: what is transferred; carried: the negative balance that the
    next statement begins with.
    """

    month: int
    lines: tuple[Line, ...]
    payable: int
    carried: int

    @property
    def total(self) -> int:
        """The sum of the lines."""
        return sum(line.amount for line in self.lines)


_NEVER: Final = 10**9


def loan_lines(loan: CommissionedLoan, month: int, terms: CommissionTerms, suspended_month: int | None) -> list[Line]:
    """What one loan puts into the statement of a calendar month.

    suspended_month: since when the channel is suspended, None while it is not; its holdback is due so much later.
    """
    age = month - loan.funded_month
    commission = terms.commission(loan.amount, loan.tier, loan.theta_mean)
    upfront = round(commission * terms.upfront_share)
    holdback = round(commission) - upfront
    kept = suspended_month is not None and loan.funded_month + terms.holdback_month >= suspended_month
    due = terms.holdback_month
    if kept and suspended_month is not None:
        due = max(due, suspended_month + terms.suspended_holdback_months - loan.funded_month)
    first_loss = min((at for loss, at in loan.losses if claw_back_share(loss, at) > 0), default=_NEVER)
    past_due = _NEVER if loan.past_due_month is None else loan.past_due_month
    earned = past_due > terms.holdback_month and first_loss > due
    lines = []
    if age == 0:
        lines.append(Line(kind=LineKind.FUNDED, reference=loan.loan_id, amount=upfront))
    if age == due and earned:
        lines.append(Line(kind=LineKind.HOLDBACK, reference=loan.loan_id, amount=holdback))
    lines.extend(
        Line(kind=LineKind.CLAW_BACK, reference=f"{loan.loan_id} {loss}", amount=-taken)
        for loss, taken in _taken_back(loan, age, upfront, holdback if earned and due <= age else 0)
    )
    return lines


def _taken_back(loan: CommissionedLoan, age: int, upfront: int, holdback: int) -> list[tuple[Loss, int]]:
    """What is clawed back in this month on book: of several losses each takes what the larger share still leaves."""
    paid = upfront + holdback
    taken_before = Fraction(0)
    found = []
    for loss, at in sorted(loan.losses, key=lambda item: (item[1], -claw_back_share(*item))):
        share = claw_back_share(loss, at)
        more = max(share - taken_before, Fraction(0))
        if at == age and more:
            found.append((loss, round(paid * more)))
        taken_before = max(taken_before, share) if at <= age else taken_before
    return found


def rebate_line(
    quarter: str, volume: int, better_probability: float, complaint_ratio: float, terms: CommissionTerms
) -> Line | None:
    """The quarter's rebate: volume x rho where P(theta < 1) is high enough and complaints are at most the portfolio's.

    volume: funded minor units. complaint_ratio: complaints per active loan over the portfolio's. Neither the customer's
    rate nor the approval rate is an input, and must not become one.
    """
    if better_probability < terms.rebate_probability or complaint_ratio > 1.0:
        return None
    return Line(kind=LineKind.REBATE, reference=quarter, amount=round(volume * terms.rebate_rate))


def statement(
    month: int,
    loans: Iterable[CommissionedLoan],
    terms: CommissionTerms,
    *,
    carried: int = 0,
    suspended_month: int | None = None,
    other_lines: Iterable[Line] = (),
) -> Statement:
    """The statement of a calendar month. carried: what the last one left (0 or less).

    other_lines: the quarter's rebate, and corrections of closed statements. A negative total is carried forward.
    """
    lines = [] if not carried else [Line(kind=LineKind.CARRIED_FORWARD, reference=str(month - 1), amount=carried)]
    for loan in sorted(loans, key=lambda each: each.loan_id):
        lines.extend(loan_lines(loan, month, terms, suspended_month))
    lines.extend(other_lines)
    total = sum(line.amount for line in lines)
    return Statement(month=month, lines=tuple(lines), payable=max(total, 0), carried=min(total, 0))
