"""Observed and expected events of each unit, by cohort and month on book, and the windows that are cut from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.tiering.arrays import Floats, Integers, grouped_sums
from app.tiering.loans import LoanBook, watched_months
from app.tiering.reference import ReferenceModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """Arrays of shape (units, products, cohorts, months on book); cohort 0 is `first_cohort`, column 0 is month 1.

    E = sum over loans and months m up to min(age, exit, event) of h_b(m), O = events in the same cells (domain section
    4, step 3; Breslow and Day 1987, chapter 4). loans: funded loans by (unit, product, cohort), of whatever age.
    """

    first_cohort: int
    observed: Floats
    expected: Floats
    loans: Floats

    def __add__(self, other: Counts) -> Counts:
        """Of two disjoint sets of loans, counted over the same cohorts."""
        if self.first_cohort != other.first_cohort or self.observed.shape != other.observed.shape:
            raise ValueError("counts add up over the same cohorts only")
        return Counts(
            first_cohort=self.first_cohort,
            observed=self.observed + other.observed,
            expected=self.expected + other.expected,
            loans=self.loans + other.loans,
        )

    def cohort_months(self) -> Integers:
        """The calendar month of each cohort."""
        return np.arange(self.observed.shape[2], dtype=np.int64) + self.first_cohort


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Events of a window, observed and expected, by unit (row) and product (column)."""

    observed: Floats
    expected: Floats


def count(
    loans: LoanBook,
    model: ReferenceModel,
    *,
    units: int,
    products: int,
    complete_through: Integers,
    first_cohort: int,
    cohorts: int,
) -> Counts:
    """Count the loans of some cohorts. complete_through: the last month of complete performance, per unit.

    Raises:
        ValueError: for a loan that was funded outside of the cohorts.
    """
    offset = loans.funded_month - first_cohort
    if len(loans) and not 0 <= int(offset.min()) <= int(offset.max()) < cohorts:
        raise ValueError("a loan was funded outside of the cohorts that are counted")
    horizon = model.horizon_months
    months, has_event = watched_months(loans, complete_through, horizon)
    cell = (loans.unit * products + loans.product) * cohorts + offset
    cells = units * products * cohorts
    observed = np.zeros((cells, horizon))
    expected = np.zeros((cells, horizon))
    for month in range(1, horizon + 1):
        at_risk = np.flatnonzero(months >= month)
        if not at_risk.size:
            break
        hazards = model.hazards[loans.segment[at_risk], month - 1] * loans.weight[at_risk]
        expected[:, month - 1] = grouped_sums(cell[at_risk], hazards, cells)
        hit = np.flatnonzero(has_event & (months == month))
        observed[:, month - 1] = grouped_sums(cell[hit], loans.weight[hit], cells)
    shape = (units, products, cohorts)
    return Counts(
        first_cohort=first_cohort,
        observed=observed.reshape(*shape, horizon),
        expected=expected.reshape(*shape, horizon),
        loans=grouped_sums(cell, loans.weight, cells).reshape(shape),
    )


def forget(counts: Counts, *, as_of: int, half_life_months: float) -> Window:
    """Every cohort, with what happened k months ago weighing 0.5^(k / half life).

    The same as O <- lambda O + o month by month (step 4), with lambda = 0.5^(1 / half life).
    """
    months = np.arange(1, counts.observed.shape[3] + 1)
    ago = as_of - (counts.cohort_months()[:, None] + months[None, :])
    weights = np.where(ago >= 0, 0.5 ** (np.maximum(ago, 0) / half_life_months), 0.0)
    return _weighted(counts, weights)


def recent(counts: Counts, *, as_of: int, cohorts: int) -> Window:
    """The cohorts of the last months alone, undiscounted."""
    kept = (counts.cohort_months() >= as_of - cohorts) & (counts.cohort_months() <= as_of)
    return _weighted(counts, np.broadcast_to(kept[:, None], counts.observed.shape[2:]).astype(np.float64))


def since(counts: Counts, months: Integers) -> Window:
    """Each unit's cohorts from a month of its own on, undiscounted."""
    kept = counts.cohort_months()[None, :] >= months[:, None]
    return Window(
        observed=np.einsum("upcm,uc->up", counts.observed, kept.astype(np.float64)),
        expected=np.einsum("upcm,uc->up", counts.expected, kept.astype(np.float64)),
    )


def _weighted(counts: Counts, weights: Floats) -> Window:
    return Window(
        observed=np.einsum("upcm,cm->up", counts.observed, weights),
        expected=np.einsum("upcm,cm->up", counts.expected, weights),
    )
