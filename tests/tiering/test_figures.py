"""Drift, bunching, concentration, discrimination."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tiering.bunching import bunching
from app.tiering.concentration import herfindahl
from app.tiering.discrimination import discrimination
from app.tiering.drift import Shift, population_stability
from app.tiering.economics import Economics, acquisition_cost, rate, return_on_acquisition


def test_a_small_sample_that_differs_by_chance_is_called_noise() -> None:
    random = np.random.default_rng(4)
    shares = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    noise = 0
    for _ in range(400):
        found = population_stability(shares * 5_000, random.multinomial(60, shares).astype(np.float64))
        assert found is not None
        noise += found.shift is Shift.NOISE
    assert noise > 350


def test_a_mix_that_moved_is_told_by_how_much() -> None:
    reference = np.array([1_000.0, 1_000.0, 1_000.0])
    for actual, shift in (
        ([1_200, 1_000, 800], Shift.STABLE),
        ([1_500, 900, 600], Shift.WATCH),
        ([2_200, 500, 300], Shift.SHIFTED),
    ):
        found = population_stability(reference, np.array(actual, np.float64))
        assert found is not None
        assert found.shift is shift


def test_stability_of_nobody_is_unknown() -> None:
    assert population_stability(np.array([1.0, 2.0]), np.zeros(2)) is None
    with pytest.raises(ValueError, match="same"):
        population_stability(np.ones(2), np.ones(3))


def test_an_empty_bin_does_not_make_stability_infinite() -> None:
    found = population_stability(np.array([100.0, 0.0]), np.array([50.0, 50.0]))
    assert found is not None
    assert np.isfinite(found.psi)


def test_values_just_above_a_threshold_are_noticed() -> None:
    even = np.linspace(3_000, 6_000, 3_000)
    assert not bunching(even, 4_000).suspicious
    bunched = np.concatenate([even, np.full(300, 4_010)])
    assert bunching(bunched, 4_000).suspicious
    assert bunching(np.full(50, 4_000), 4_000).ratio is None
    assert bunching(np.full(50, 4_000), 4_000).suspicious
    assert not bunching(np.full(49, 4_000), 4_000).suspicious
    assert bunching(np.array([3_800.0, 3_999.9, 4_000.0, 4_200.0]), 4_000).below == 2


@given(st.lists(st.floats(0.01, 1_000), min_size=1, max_size=20))
def test_concentration_lies_between_equal_shares_and_one(amounts: list[float]) -> None:
    found = herfindahl(np.array(amounts))
    assert found is not None
    assert 1 / len(amounts) - 1e-9 <= found <= 1 + 1e-9


def test_concentration_of_nothing_is_unknown() -> None:
    assert herfindahl(np.zeros(3)) is None


def test_discrimination_needs_thirty_bads_and_finds_a_perfect_score() -> None:
    scores = np.arange(100.0)
    assert discrimination(scores, scores < 29) is None
    found = discrimination(scores, scores < 40)
    assert found is not None
    assert (found.ks, found.gini) == (pytest.approx(1.0), pytest.approx(1.0))
    upside_down = discrimination(-scores, scores < 40)
    assert upside_down is not None
    assert upside_down.gini == pytest.approx(-1.0)
    tied = discrimination(np.zeros(100), scores < 40)
    assert tied is not None
    assert (tied.ks, tied.gini) == (pytest.approx(0.0), pytest.approx(0.0))


def test_shares_over_nothing_are_empty() -> None:
    assert rate(0, 0) is None
    assert acquisition_cost(media=1.0, commission=1.0, operations=1.0, funded_new_customers=0) is None
    assert return_on_acquisition(100.0, None) is None
    assert return_on_acquisition(100.0, 0.0) is None


def test_a_loan_that_cannot_earn_its_cost_breaks_even_below_zero() -> None:
    assert Economics().break_even_rate(amount=3_000.0, annual_rate=0.2, years=1.0, cac=500.0) < 0.0
