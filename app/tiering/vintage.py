"""Vintage curves: the cumulative share of each cohort that has gone bad, as far as it can be known."""

from __future__ import annotations

import numpy as np

from app.tiering.arrays import EMPTY, Floats, Integers, grouped_sums
from app.tiering.loans import LoanBook


def vintage_curves(
    loans: LoanBook,
    *,
    units: int,
    complete_through: Integers,
    first_cohort: int,
    cohorts: int,
    horizon_months: int,
) -> Floats:
    """Cumulative ever-bad by month m / funded, of shape (units, cohorts, horizon); NaN while a cell is immature.

    A cell is mature where the unit's performance is complete through cohort + m. A loan that was paid off early stays
    in the denominator: it was funded, and it never went bad. A cohort without loans is empty.
    """
    offset = loans.funded_month - first_cohort
    inside = loans.where((offset >= 0) & (offset < cohorts))
    cell = inside.unit * cohorts + inside.funded_month - first_cohort
    cells = units * cohorts
    funded = grouped_sums(cell, inside.weight, cells)
    is_bad = (inside.event_month > 0) & (inside.event_month <= horizon_months)
    where = cell[is_bad] * horizon_months + inside.event_month[is_bad] - 1
    events = grouped_sums(where, inside.weight[is_bad], cells * horizon_months)
    cumulative = np.cumsum(events.reshape(cells, horizon_months), axis=1)
    shares = np.divide(cumulative, funded[:, None], out=np.full(cumulative.shape, EMPTY), where=funded[:, None] > 0.0)
    curves: Floats = shares.reshape(units, cohorts, horizon_months)
    reached = first_cohort + np.arange(cohorts)[:, None] + np.arange(1, horizon_months + 1)[None, :]
    curves[reached[None, :, :] > complete_through[:, None, None]] = EMPTY
    return curves
