"""Observed and expected events: maturity, censoring, windows, calibration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tiering.calibration import calibrate
from app.tiering.counts import Counts, Window, count, forget, recent, since
from app.tiering.loans import LoanBook, loan_book, month_number, watched_months
from app.tiering.policy import CalibrationPolicy
from app.tiering.reference import calibration, expected_rates, fit_reference
from app.tiering.vintage import vintage_curves
from tests.tiering.books import NOW, chance_book, column, model

FLAT = model((0.01,) * 12)
FIRST = NOW - 36


def counted(loans: LoanBook, through: int = NOW, units: int = 1) -> Counts:
    return count(
        loans,
        FLAT,
        units=units,
        products=1,
        complete_through=np.full(units, through),
        first_cohort=FIRST,
        cohorts=37,
    )


def one(funded: int, event: int = 0, exit_month: int = 0) -> LoanBook:
    return loan_book(
        unit=column(0),
        segment=column(0),
        funded_month=column(funded),
        event_month=column(event),
        exit_month=column(exit_month),
    )


def test_months_count_up_over_the_turn_of_a_year() -> None:
    assert month_number(2026, 1) - month_number(2025, 12) == 1


@pytest.mark.parametrize(
    ("loan", "months", "event"),
    [
        (one(NOW), 0, False),
        (one(NOW - 3), 3, False),
        (one(NOW - 30), 12, False),
        (one(NOW - 30, event=5), 5, True),
        (one(NOW - 30, event=13), 12, False),
        (one(NOW - 30, exit_month=4), 4, False),
        (one(NOW - 3, event=4), 3, False),
    ],
    ids=["just funded", "young", "old", "event", "too late an event", "paid off", "event beyond what is complete"],
)
def test_a_loan_counts_until_its_age_exit_event_or_horizon(loan: LoanBook, months: int, event: bool) -> None:
    watched, has_event = watched_months(loan, column(NOW), 12)
    assert (int(watched[0]), bool(has_event[0])) == (months, event)
    counts = counted(loan)
    assert counts.expected.sum() == pytest.approx(0.01 * months)
    assert counts.observed.sum() == float(event)


def test_a_late_feed_hides_its_exposure_with_its_events() -> None:
    loans = one(NOW - 6, event=5)
    on_time, late = counted(loans), counted(loans, through=NOW - 2)
    assert (on_time.observed.sum(), on_time.expected.sum()) == (1.0, pytest.approx(0.05))
    assert (late.observed.sum(), late.expected.sum()) == (0.0, pytest.approx(0.04))


@given(st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_the_order_of_loans_is_irrelevant_and_parts_add_up(shuffle: object, seed: int) -> None:
    random = np.random.default_rng(seed)
    loans = chance_book(random, loans=200, theta=(1.0, 2.0), model=FLAT)
    order = random.permutation(len(loans))
    shuffled = LoanBook(**{name: getattr(loans, name)[order] for name in LoanBook.__slots__})
    whole, again = counted(loans, units=2), counted(shuffled, units=2)
    some = random.random(len(loans)) < 0.5
    parts = counted(loans.where(some), units=2) + counted(loans.where(~some), units=2)
    for other in (again, parts):
        np.testing.assert_allclose(whole.observed, other.observed)
        np.testing.assert_allclose(whole.expected, other.expected, rtol=1e-12)
        np.testing.assert_allclose(whole.loans, other.loans)


def test_windows_take_their_cohorts() -> None:
    loans = loan_book(
        unit=column(0, 0),
        segment=column(0, 0),
        funded_month=column(NOW - 20, NOW - 4),
        event_month=column(12, 2),
    )
    counts = counted(loans)
    young = recent(counts, as_of=NOW, cohorts=6)
    assert (young.observed[0, 0], young.expected[0, 0]) == (1.0, pytest.approx(0.02))
    assert since(counts, column(NOW - 4)).observed[0, 0] == 1.0
    assert since(counts, column(NOW - 20)).observed[0, 0] == 2.0
    discounted = forget(counts, as_of=NOW, half_life_months=8.0)
    assert discounted.observed[0, 0] == pytest.approx(0.5**1.0 + 0.5**0.25)


def test_a_loan_outside_of_the_cohorts_is_an_error_and_not_dropped() -> None:
    with pytest.raises(ValueError, match="outside of the cohorts"):
        counted(one(FIRST - 1))


def test_a_random_acceptance_stands_for_many() -> None:
    loans = loan_book(
        unit=column(0),
        segment=column(0),
        funded_month=column(NOW - 12),
        event_month=column(3),
        weight=np.array([100.0]),
    )
    counts = counted(loans)
    assert (counts.observed.sum(), counts.expected.sum()) == (100.0, pytest.approx(3.0))


def test_the_fit_finds_the_hazards_that_made_the_book_and_is_calibrated() -> None:
    truth = model((0.0, 0.02, 0.01, 0.005), (0.0, 0.06, 0.03, 0.015))
    book = chance_book(np.random.default_rng(1), loans=200_000, theta=(1.0,), model=truth)
    fitted = fit_reference(
        book, version=3, segments=truth.segments, complete_through=column(NOW), horizon_months=4, pseudo_events=5.0
    )
    np.testing.assert_allclose(fitted.hazards, truth.hazards, atol=0.002)
    assert fitted.version == 3
    assert fitted.months == 18
    for fit in calibration(fitted, book, column(NOW)):
        assert fit.observed == pytest.approx(fit.expected, rel=0.01)
        assert fit.loans > 90_000


def test_a_thin_segment_is_drawn_to_the_shape_of_the_book() -> None:
    truth = model((0.0, 0.02, 0.01), (0.0, 0.02, 0.01))
    book = chance_book(np.random.default_rng(2), loans=20_000, theta=(1.0,), model=truth)
    thin = book.where((book.segment == 0) | (np.arange(len(book)) < 40))
    fitted = fit_reference(
        thin, version=1, segments=truth.segments, complete_through=column(NOW), horizon_months=3, pseudo_events=5.0
    )
    assert fitted.hazards[1, 0] == 0.0
    assert 0.01 < fitted.hazards[1, 1] < 0.04


def test_a_reference_is_not_fitted_on_nothing() -> None:
    with pytest.raises(ValueError, match="events among them"):
        fit_reference(
            one(NOW), version=1, segments=("s",), complete_through=column(NOW), horizon_months=12, pseudo_events=5.0
        )


def test_the_expected_rate_of_a_mix_is_empty_without_young_loans() -> None:
    rates = expected_rates(FLAT, one(NOW - 10), 2, column(NOW - 6, NOW - 6))
    assert np.isnan(rates).all()
    rates = expected_rates(FLAT, one(NOW - 10), 1, column(NOW - 12))
    assert rates[0] == pytest.approx(1.0 - 0.99**12)


def test_data_without_dates_is_one_period() -> None:
    final = model((0.3,))
    loans = loan_book(
        unit=column(0, 0), segment=column(0, 0), funded_month=column(NOW - 1, NOW - 1), event_month=column(1, 0)
    )
    counts = count(loans, final, units=1, products=1, complete_through=column(NOW), first_cohort=NOW - 1, cohorts=1)
    assert (counts.observed.sum(), counts.expected.sum()) == (1.0, pytest.approx(0.6))


def test_kappa_is_clipped_and_told_raw() -> None:
    window = Window(observed=np.array([[30.0], [30.0]]), expected=np.array([[10.0], [10.0]]))
    level = calibrate(window, CalibrationPolicy(leave_one_out_share=1.0))
    assert level.raw[0] == pytest.approx(3.0)
    assert level.kappa.max() == 1.25
    assert level.outside(CalibrationPolicy())


def test_a_big_bad_channel_does_not_hide_itself() -> None:
    window = Window(observed=np.array([[120.0], [20.0], [20.0]]), expected=np.array([[60.0], [20.0], [20.0]]))
    policy = CalibrationPolicy(leave_one_out_share=0.3)
    kappa = calibrate(window, policy).kappa[:, 0]
    assert kappa[0] == pytest.approx(1.0)
    assert kappa[1] == 1.25
    level = calibrate(window, policy)
    assert level.outside(CalibrationPolicy())
    assert not level.others_outside(CalibrationPolicy())
    alone = Window(observed=np.array([[3.0]]), expected=np.array([[1.0]]))
    assert calibrate(alone, policy).kappa[0, 0] == 1.0


def test_a_product_without_expectation_has_no_level() -> None:
    window = Window(observed=np.array([[5.0, 0.0]]), expected=np.array([[5.0, 0.0]]))
    level = calibrate(window, CalibrationPolicy())
    assert np.isnan(level.raw[1])
    assert level.kappa[0, 1] == 1.0
    assert not level.outside(CalibrationPolicy())


def test_an_immature_cell_of_a_vintage_is_empty_and_never_zero() -> None:
    loans = loan_book(
        unit=column(0, 0, 0),
        segment=column(0, 0, 0),
        funded_month=column(NOW - 3, NOW - 3, NOW),
        event_month=column(2, 0, 0),
    )
    curves = vintage_curves(
        loans, units=1, complete_through=column(NOW), first_cohort=NOW - 3, cohorts=4, horizon_months=6
    )
    np.testing.assert_array_equal(curves[0, 0, :3], [0.0, 0.5, 0.5])
    assert np.isnan(curves[0, 0, 3:]).all()
    assert np.isnan(curves[0, 1:]).all()


def test_an_event_that_was_reported_early_does_not_make_a_cell_mature() -> None:
    loans = loan_book(unit=column(0), segment=column(0), funded_month=column(NOW - 3), event_month=column(3))
    curves = vintage_curves(
        loans, units=1, complete_through=column(NOW - 1), first_cohort=NOW - 3, cohorts=1, horizon_months=6
    )
    np.testing.assert_array_equal(curves[0, 0, :2], [0.0, 0.0])
    assert np.isnan(curves[0, 0, 2:]).all()


@pytest.mark.parametrize("name", ["event_month", "unit"])
def test_a_book_with_negative_cells_is_refused(name: str) -> None:
    cells = {"unit": column(0), "segment": column(0), "funded_month": column(1), "event_month": column(0)}
    with pytest.raises(ValueError, match="0 or more"):
        loan_book(**(cells | {name: column(-1)}))
