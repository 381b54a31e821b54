"""The most that this applicant may borrow through this tier: the least of the caps that can be computed."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import NamedTuple

from app.domain.application import LoanApplication, Unknown
from app.domain.compiled import CompiledPolicy
from app.domain.fields import Value
from app.domain.money import annuity_factor, floor_to_unit, monthly_payment, present_value

_INCOME = "applicant.monthly_income"
_VERIFICATION = "applicant.income_verification"
_OBLIGATIONS = "applicant.monthly_obligations"
_APR = "all_in_apr_pct"

_BPS = 10_000
_amount_of_cap = itemgetter(1)


class QualifyingIncome(NamedTuple):
    """The monthly income that caps are computed from, in minor units, or the field that keeps it unknown."""

    amount: int | None
    missing: str = ""
    cause: Unknown | None = None


class NotApplied(NamedTuple):
    """A cap that could not be computed, and the field whose being unknown is why."""

    cap: str
    field: str
    cause: Unknown


class Ceiling(NamedTuple):
    """The least cap, rounded down to the product's unit, in minor units.

    `applied` holds every cap that counted, `binding` the name of the least.
    """

    amount: int
    binding: str
    applied: tuple[tuple[str, int], ...]
    not_applied: tuple[NotApplied, ...]
    income: QualifyingIncome


def qualifying_income(policy: CompiledPolicy, application: LoanApplication) -> QualifyingIncome:
    """Verified income in full; weaker proof counts for the percentage that the policy names, or not at all."""
    values = application.values
    income = values.get(_INCOME)
    if income is None:
        return QualifyingIncome(amount=None, missing=_INCOME, cause=application.cause(_INCOME))
    verification = values.get(_VERIFICATION)
    if verification is None:
        return QualifyingIncome(amount=None, missing=_VERIFICATION, cause=application.cause(_VERIFICATION))
    counted_pct = policy.counted_pct[int(verification)]
    if counted_pct is None:
        return QualifyingIncome(amount=None, missing=_VERIFICATION, cause=Unknown.UNDEFINED)
    return QualifyingIncome(int(income) * counted_pct // 100)


def find_ceiling(policy: CompiledPolicy, tier: str, application: LoanApplication) -> Ceiling:
    """The ceiling of an application under a tier's caps.

    The debt cap is the present value of what income leaves for an instalment: (limit x income - obligations) over the
    term at the all-in rate, each step rounded down, so that the instalment of a loan at the cap fits the limit exactly.
    """
    product = policy.products[application.product]
    terms = policy.ceiling
    income = qualifying_income(policy, application)
    applied = [("product_cap", product.product_cap)]
    if product.legal_cap is not None:
        applied.append(("legal_cap", product.legal_cap))
    tier_cap = terms.tier_cap[tier]
    if tier_cap is not None:
        applied.append(("tier_cap", tier_cap))
    not_applied = []
    multiple = terms.income_multiple_hundredths[tier]
    if multiple is not None:
        if income.amount is None:
            not_applied.append(_missing_income("income_multiple", income))
        else:
            applied.append(("income_multiple", income.amount * multiple // 100))
    limit_bps = terms.dti_max_bps[tier]
    if limit_bps is not None:
        missing = missing_for_instalment(application, income)
        if missing is not None:
            not_applied.append(NotApplied(cap="dti", field=missing[0], cause=missing[1]))
        else:
            free = int(income.amount or 0) * limit_bps // _BPS - int(application.values[_OBLIGATIONS])
            applied.append(("dti", present_value(free, _annuity(application.values, application.term_months))))
    binding, least = min(applied, key=_amount_of_cap)
    return Ceiling(
        amount=floor_to_unit(least, product.rounding_unit),
        binding=binding,
        applied=tuple(applied),
        not_applied=tuple(not_applied),
        income=income,
    )


def debt_ratio_after_loan(application: LoanApplication, income: QualifyingIncome, amount: int) -> int | Unknown:
    """Obligations and the instalment of `amount` over qualifying income, as a percentage at scale 2, rounded up.

    A cause where an input is unknown or income is 0.
    """
    missing = missing_for_instalment(application, income)
    if missing is not None:
        return missing[1]
    if not income.amount:
        return Unknown.UNDEFINED
    instalment = monthly_payment(amount, _annuity(application.values, application.term_months))
    return ratio_bps(int(application.values[_OBLIGATIONS]) + instalment, income.amount)


def missing_for_instalment(application: LoanApplication, income: QualifyingIncome) -> tuple[str, Unknown] | None:
    """The first input of the debt ratio after the loan that is unknown, and why."""
    if income.amount is None:
        return income.missing, income.cause or Unknown.UNDEFINED
    for name in (_OBLIGATIONS, _APR):
        if name not in application.values:
            return name, application.cause(name)
    return None


def ratio_bps(numerator: int, denominator: int) -> int:
    """`numerator` over `denominator` in hundredths of a percent, rounded up. `denominator` is at least 1."""
    return -(-numerator * _BPS // denominator)


def _missing_income(cap: str, income: QualifyingIncome) -> NotApplied:
    return NotApplied(cap=cap, field=income.missing, cause=income.cause or Unknown.UNDEFINED)


def _annuity(values: Mapping[str, Value], term_months: int) -> int:
    return annuity_factor(int(values[_APR]), term_months)
