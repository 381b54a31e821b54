"""Beliefs about theta: gamma, and over change points."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tiering.belief import posterior
from app.tiering.change_point import last_change_weights, present_beliefs
from app.tiering.policy import PriorPolicy
from app.tiering.prior import fit_prior, most_likely_nu

nus = st.floats(0.5, 50)
events = st.integers(0, 200).map(float)
expectations = st.floats(0, 200)
thetas = st.floats(0.05, 5)


@given(nus, events, expectations, thetas)
def test_the_sides_of_a_threshold_sum_to_one(nu: float, observed: float, expected: float, theta: float) -> None:
    belief = posterior(nu, observed, expected)
    assert belief.above(theta) + belief.below(theta) == pytest.approx(1.0)


@given(nus, events, expectations, thetas)
def test_one_more_event_never_makes_a_channel_look_better(
    nu: float, observed: float, expected: float, theta: float
) -> None:
    fewer, more = posterior(nu, observed, expected), posterior(nu, observed + 1, expected)
    assert more.above(theta) >= fewer.above(theta)
    assert more.mean > fewer.mean


@given(nus, st.floats(0.01, 0.99), st.lists(st.tuples(events, st.floats(0.1, 30)), min_size=2, max_size=12))
def test_a_quantile_is_where_its_probability_lies(
    nu: float, probability: float, cohorts: list[tuple[float, float]]
) -> None:
    observed, expected = np.array(cohorts).T
    belief = present_beliefs(nu, observed[None, :], expected[None, :], 0.05)[0]
    assert belief.below(belief.quantile(probability)) == pytest.approx(probability, abs=1e-6)


@given(
    nus, st.lists(st.tuples(st.integers(0, 9).map(float), st.floats(0, 9)), min_size=1, max_size=7), st.floats(0, 0.4)
)
def test_the_recursion_weighs_every_way_to_cut_the_cohorts(
    nu: float, cohorts: list[tuple[float, float]], change: float
) -> None:
    """Against the sum over all sets of change points, one by one."""
    told = [cell for cell in cohorts if any(cell)]
    weights = last_change_weights(nu, *(np.array([[cell[side] for cell in cohorts]]) for side in (0, 1)), change)[0]
    kept = [position for position, cell in enumerate(cohorts) if any(cell)] or [0]
    told = told or [(0.0, 0.0)]
    expected = np.zeros(len(cohorts))
    size = max(len(told), 1)
    for cuts in range(2 ** (size - 1)):
        starts = [0] + [step + 1 for step in range(size - 1) if cuts >> step & 1]
        likelihood = change ** (len(starts) - 1) * (1 - change) ** (size - len(starts))
        for start, end in pairwise([*starts, size]):
            o, e = (sum(cell[side] for cell in told[start:end]) for side in (0, 1))
            likelihood *= float(np.exp(_log_marginal(nu, o, e)))
        expected[kept[starts[-1]]] += likelihood
    np.testing.assert_allclose(weights, expected / expected.sum(), atol=1e-9)


def _log_marginal(nu: float, observed: float, expected: float) -> float:
    from math import lgamma, log

    return lgamma(nu + observed) - lgamma(nu) + nu * log(nu) - (nu + observed) * log(nu + expected)


def test_a_steady_channel_is_believed_on_all_of_its_cohorts() -> None:
    observed, expected = np.full((1, 12), 5.0), np.full((1, 12), 5.0)
    belief = present_beliefs(8.0, observed, expected, 1 / 36)[0]
    assert belief.expected > 45.0
    assert belief.mean == pytest.approx(1.0, abs=0.02)


def test_a_channel_that_changed_is_believed_on_its_young_cohorts() -> None:
    expected = np.full((1, 12), 5.0)
    observed = np.array([[5.0] * 8 + [13.0] * 4])
    belief = present_beliefs(8.0, observed, expected, 1 / 36)[0]
    assert belief.above(1.3) > posterior(8.0, float(observed.sum()), float(expected.sum())).above(1.3)
    assert belief.above(1.3) > 0.95
    assert belief.expected < 30.0


def test_without_evidence_the_belief_is_the_prior() -> None:
    belief = present_beliefs(8.0, np.zeros((1, 6)), np.zeros((1, 6)), 1 / 36)[0]
    assert belief.above(1.3) == pytest.approx(posterior(8.0, 0.0, 0.0).above(1.3))
    assert present_beliefs(8.0, np.zeros((1, 0)), np.zeros((1, 0)), 1 / 36)[0].mean == 1.0


def test_the_prior_is_clipped_and_needs_enough_channels() -> None:
    policy = PriorPolicy()
    assert fit_prior(np.ones(7), np.ones(7), policy) == (policy.nu_default, None)
    alike = np.full(20, 50.0)
    nu, found = fit_prior(alike, alike, policy)
    assert nu == policy.nu_maximum
    assert found is not None
    assert found > 1_000.0
    nu, found = fit_prior(np.array([1.0, 200.0] * 10), np.full(20, 50.0), policy)
    assert nu == policy.nu_minimum
    assert found is not None
    assert found < nu


def test_the_prior_is_found_where_channels_were_drawn_from_it() -> None:
    random = np.random.default_rng(3)
    expected = random.uniform(5.0, 60.0, 3_000)
    observed = random.poisson(expected * random.gamma(6.0, 1 / 6.0, expected.size)).astype(np.float64)
    assert most_likely_nu(observed, expected) == pytest.approx(6.0, rel=0.1)
