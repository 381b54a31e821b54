"""The reference model: how often a loan of a segment goes bad in each month on book, whoever brought it.

Fitted on the whole book, then frozen under a version: channels are compared with the book as it was, and not with one
that they are changing. A channel's own attributes are never inputs, else a bad channel would be expected to be bad.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.tiering.arrays import EMPTY, Floats, Integers, grouped_sums
from app.tiering.loans import LoanBook, watched_months


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceModel:
    """Hazards by segment (row) and month on book (column 0 is month 1).

    hazards: probability of the event in that month among those who reach it, 0 <= h < 1. events: how many events it was
    fitted on; months: how many months of funding these loans span. Both are 0 for a table that was supplied.
    """

    version: int
    segments: tuple[str, ...]
    hazards: Floats
    events: int
    months: int

    def __post_init__(self) -> None:
        if self.hazards.ndim != 2 or self.hazards.shape[0] != len(self.segments) or not self.hazards.size:
            raise ValueError("hazards have a row for each segment and a column for each month")
        if not np.all((self.hazards >= 0.0) & (self.hazards < 1.0)):
            raise ValueError("a hazard is at least 0 and below 1")
        self.hazards.setflags(write=False)

    @property
    def horizon_months(self) -> int:
        """The last month on book that counts."""
        return int(self.hazards.shape[1])

    def rates(self) -> Floats:
        """The probability of an event within the horizon, by segment: 1 - prod(1 - h)."""
        rates: Floats = 1.0 - np.prod(1.0 - self.hazards, axis=1)
        return rates


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFit:
    """How well a model says what a segment did. `chi2` is (O - E)^2 / E, empty without expectation."""

    segment: str
    loans: int
    observed: float
    expected: float
    chi2: float | None


def supplied_reference(version: int, segments: tuple[str, ...], hazards: Floats) -> ReferenceModel:
    """A table of hazards from elsewhere, for the time before the own book can carry a fit."""
    return ReferenceModel(version=version, segments=segments, hazards=hazards.copy(), events=0, months=0)


def fit_reference(
    loans: LoanBook,
    *,
    version: int,
    segments: tuple[str, ...],
    complete_through: Integers,
    horizon_months: int,
    pseudo_events: float,
) -> ReferenceModel:
    """Hazards d / n by segment and month on book, each drawn a little towards segment level x month shape.

    A thin cell would be all noise: with `pseudo_events` a >= 0, h = (d + a) / (n + a / q), where q is the product of
    the book's hazard of that month and the segment's level (events over what that hazard expects of it). A cell without
    exposure takes q. Censoring needs nothing more, because exposure is counted month by month.

    Raises:
        ValueError: where no loan has been watched, or no event seen.
    """
    exposed, events = _tables(loans, complete_through, len(segments), horizon_months)
    if not exposed.any() or not events.any():
        raise ValueError("a reference needs loans that were watched, with events among them")
    by_month = _ratio(events.sum(axis=0), exposed.sum(axis=0))
    level = (events.sum(axis=1) + 1.0) / (exposed @ by_month + 1.0)
    smooth = np.clip(level[:, None] * by_month[None, :], 0.0, 0.999)
    strength = _ratio(np.full_like(smooth, pseudo_events), smooth)
    hazards = _ratio(events + pseudo_events * (smooth > 0.0), exposed + strength)
    hazards = np.where(exposed + strength > 0.0, hazards, smooth)
    cohorts = loans.funded_month
    return ReferenceModel(
        version=version,
        segments=segments,
        hazards=np.clip(hazards, 0.0, 0.999),
        events=round(float(events.sum())),
        months=int(cohorts.max() - cohorts.min()) + 1,
    )


def calibration(model: ReferenceModel, loans: LoanBook, complete_through: Integers) -> tuple[SegmentFit, ...]:
    """What a model expected and what was observed, by segment."""
    exposed, events = _tables(loans, complete_through, len(model.segments), model.horizon_months)
    expected = (exposed * model.hazards).sum(axis=1)
    observed = events.sum(axis=1)
    members = np.bincount(loans.segment, minlength=len(model.segments))
    return tuple(
        SegmentFit(
            segment=segment,
            loans=int(members[row]),
            observed=float(observed[row]),
            expected=float(expected[row]),
            chi2=float((observed[row] - expected[row]) ** 2 / expected[row]) if expected[row] > 0.0 else None,
        )
        for row, segment in enumerate(model.segments)
    )


def expected_rates(model: ReferenceModel, loans: LoanBook, units: int, since: Integers) -> Floats:
    """The rate of events within the horizon that the mix of each unit's loans since a month leads to expect.

    since: calendar month per unit. Empty where a unit funded nothing since then.
    """
    kept = loans.where(loans.funded_month >= since[loans.unit])
    rates = model.rates()[kept.segment] * kept.weight
    return _empty_ratio(
        grouped_sums(kept.unit, rates, units),
        grouped_sums(kept.unit, kept.weight, units),
    )


def _tables(loans: LoanBook, complete_through: Integers, segments: int, horizon: int) -> tuple[Floats, Floats]:
    """Exposure and events by segment and month on book."""
    months, has_event = watched_months(loans, complete_through, horizon)
    width = horizon + 1
    last = grouped_sums(loans.segment * width + months, loans.weight, segments * width)
    reached = np.cumsum(last.reshape(segments, width)[:, ::-1], axis=1)[:, ::-1]
    hit = loans.segment[has_event] * width + months[has_event]
    events = grouped_sums(hit, loans.weight[has_event], segments * width)
    return reached[:, 1:], events.reshape(segments, width)[:, 1:]


def _ratio(over: Floats, under: Floats) -> Floats:
    """`over / under`, 0 where there is nothing under the line."""
    ratio: Floats = np.divide(over, under, out=np.zeros_like(over), where=under > 0.0)
    return ratio


def _empty_ratio(over: Floats, under: Floats) -> Floats:
    ratio: Floats = np.divide(over, under, out=np.full(over.shape, EMPTY), where=under > 0.0)
    return ratio
