"""Ceilings over columns: what `app.domain.ceiling` says of one application, said of many at once, to the minor unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.domain.compiled import CompiledPolicy
from app.domain.money import ANNUITY_SCALE
from app.domain.policy import Product
from app.whatif.arrays import AnnuityTable, Codes, Flags, Integers, quotients
from app.whatif.columns import UNDEFINED, Column, ratio_column
from app.whatif.judging import PASSES, Columns, missing_effects

CAPS: Final = ("product_cap", "legal_cap", "tier_cap", "income_multiple", "dti")
"""The caps by code, in the order in which the first of equal ones is said to bind."""

_INCOME = "applicant.monthly_income"
_VERIFICATION = "applicant.income_verification"
_OBLIGATIONS = "applicant.monthly_obligations"
_APR = "all_in_apr_pct"
_BPS = 10_000

_ANNUITIES = AnnuityTable()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ceilings:
    """The ceiling of each row in minor units, the cap that binds, and what missing inputs do to the row."""

    amounts: Integers
    binding: Codes
    unverified: Codes
    """The most severe effect of an input that keeps a cap from being computed."""
    income: Column
    instalment_inputs: Column
    """Where the debt ratio after the loan can be computed, and why not elsewhere; its values are nothing."""


def find_ceilings(
    policy: CompiledPolicy, tier: str, product: Product, columns: Columns, annuities: AnnuityTable = _ANNUITIES
) -> Ceilings:
    """The ceilings of rows of one product under one tier's caps."""
    income = qualifying_income(policy, columns)
    obligations, apr = columns(_OBLIGATIONS), columns(_APR)
    instalment = instalment_inputs(income, obligations, apr)
    count = income.known.size
    best = np.full(count, product.product_cap, np.int64)
    binding = np.zeros(count, np.uint8)

    def apply(cap: str, amounts: Integers | int, known: Flags | bool = True) -> None:
        less = (amounts < best) & known
        best[less] = amounts if isinstance(amounts, int) else amounts[less]
        binding[less] = CAPS.index(cap)

    terms = policy.ceiling
    for cap, amount in (("legal_cap", product.legal_cap), ("tier_cap", terms.tier_cap[tier])):
        if amount is not None:
            apply(cap, amount)
    effects = missing_effects(terms.if_inputs_missing)
    unverified = np.full(count, PASSES, np.uint8)
    multiple, limit_bps = terms.income_multiple_hundredths[tier], terms.dti_max_bps[tier]
    if multiple is not None:
        apply("income_multiple", quotients(income.values, multiple, 100), income.known)
        unverified = np.where(income.known, PASSES, effects[income.cause_codes()]).astype(np.uint8)
    if limit_bps is not None:
        free = quotients(income.values, limit_bps, _BPS) - obligations.values
        free = np.where(instalment.known, np.maximum(free, 0), 0)
        factors = annuities.factors(apr.values, columns("term_months").values)
        apply("dti", quotients(free, factors, ANNUITY_SCALE), instalment.known)
        missing = np.where(instalment.known, PASSES, effects[instalment.cause_codes()])
        unverified = np.maximum(unverified, missing).astype(np.uint8)
    return Ceilings(
        amounts=best - best % product.rounding_unit,
        binding=binding,
        unverified=unverified,
        income=income,
        instalment_inputs=instalment,
    )


def debt_ratios_after_loan(
    ceilings: Ceilings, offered: Integers, columns: Columns, annuities: AnnuityTable = _ANNUITIES
) -> Column:
    """Obligations and the instalment of what is offered over qualifying income, as a percentage at scale 2."""
    inputs, income = ceilings.instalment_inputs, ceilings.income
    factors = annuities.factors(columns(_APR).values, columns("term_months").values)
    instalments = quotients(offered, ANNUITY_SCALE, factors, up=True)
    known = inputs.known & (income.values > 0)
    causes = inputs.cause_codes().copy()
    causes[inputs.known] = UNDEFINED
    return ratio_column(columns(_OBLIGATIONS).values + instalments, income.values, known, causes)


def qualifying_income(policy: CompiledPolicy, columns: Columns) -> Column:
    """Verified income in full; weaker proof for the percentage that the policy names, or not at all."""
    income, verification = columns(_INCOME), columns(_VERIFICATION)
    percentages = [policy.counted_pct[position] for position in range(len(policy.counted_pct))]
    counted = np.array([each or 0 for each in percentages], np.int64)[verification.values]
    usable = np.array([each is not None for each in percentages])[verification.values]
    known = income.known & verification.known & usable
    causes = np.where(income.known, verification.cause_codes(), income.cause_codes())
    causes[income.known & verification.known] = UNDEFINED
    amounts = quotients(np.where(known, income.values, 0), counted, 100)
    return Column(values=amounts, known=known, causes=causes.astype(np.uint8))


def instalment_inputs(income: Column, obligations: Column, apr: Column) -> Column:
    """Whether everything that the debt ratio after the loan needs is known, and the cause of the first that is not."""
    causes = np.where(obligations.known, apr.cause_codes(), obligations.cause_codes())
    causes = np.where(income.known, causes, income.cause_codes())
    known = income.known & obligations.known & apr.known
    return Column(values=np.zeros(known.size, np.int64), known=known, causes=causes.astype(np.uint8))
