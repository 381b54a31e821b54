"""Figures that were worked out elsewhere, to nine digits, and one that was published."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.tiering.alarm import scan
from app.tiering.belief import Belief, bounded_threshold, posterior
from app.tiering.calibration import calibrate
from app.tiering.commission import CommissionTerms
from app.tiering.counts import Counts, Window, forget
from app.tiering.drift import Shift, noise_limit, population_stability, stability_index
from app.tiering.economics import Economics, acquisition_cost, rate, return_on_acquisition
from app.tiering.policy import CalibrationPolicy, PriorPolicy
from app.tiering.prior import fit_prior, moment_prior

HERE = Path(__file__).parent
WORKED: dict[str, Any] = json.loads((HERE / "worked_numbers.json").read_text(encoding="utf-8"))


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def check_belief(belief: Belief, figures: dict[str, float], mean: str = "post_mean") -> None:
    assert belief.mean == near(figures[mean])
    assert belief.quantile(0.05) == near(figures["lo90"])
    assert belief.quantile(0.95) == near(figures["hi90"])
    for name, expected in figures.items():
        if name.startswith("P_gt_"):
            assert belief.above(float(name[5:].replace("_", "."))) == near(expected)
        if name.startswith("P_lt_"):
            assert belief.below(float(name[5:].replace("_", "."))) == near(expected)


def test_a_posterior() -> None:
    figures = WORKED["posterior_fixed"]
    given = figures["inputs"]
    check_belief(posterior(given["nu"], given["O"], given["E"]), figures, mean="mean")


def test_a_portfolio_of_channels() -> None:
    figures = WORKED["portfolio"]
    observed = np.array(figures["inputs"]["O"], np.float64)
    expected = np.array(figures["inputs"]["E_before_calibration"], np.float64)
    window = Window(observed=observed[:, None], expected=expected[:, None])
    level = calibrate(window, CalibrationPolicy(leave_one_out_share=1.0))
    assert level.raw[0] == near(figures["kappa"])
    calibrated = expected * level.kappa[:, 0]
    nu, found = fit_prior(observed, calibrated, PriorPolicy())
    assert found == near(figures["nu_unclipped"])
    assert nu == figures["nu"]
    for name, channel in figures["channels"].items():
        position = figures["inputs"]["channels"].index(name)
        assert calibrated[position] == near(channel["E"])
        assert observed[position] / calibrated[position] == near(channel["SMR"])
        check_belief(posterior(nu, observed[position], calibrated[position]), channel)


def test_the_absolute_arm() -> None:
    figures = WORKED["absolute_arm"]
    given = figures["inputs"]
    threshold = bounded_threshold(1.30, given["loss_appetite_B"], given["expected_rate_p"])
    assert threshold == near(figures["threshold"])
    assert posterior(given["nu"], given["O"], given["E"]).above(threshold) == near(figures["P_gt_threshold"])


def test_the_absolute_arm_leaves_a_good_mix_alone() -> None:
    assert bounded_threshold(1.30, 0.08, 0.02) == 1.30
    assert bounded_threshold(1.30, 0.08, float("nan")) == 1.30


def test_forgetting() -> None:
    figures = WORKED["discount"]
    observed, expected = np.array(figures["inputs"]["o"], np.float64), np.array(figures["inputs"]["e"], np.float64)
    counts = Counts(
        first_cohort=100,
        observed=observed[None, None, None, :],
        expected=expected[None, None, None, :],
        loans=np.ones((1, 1, 1)),
    )
    window = forget(counts, as_of=104, half_life_months=figures["inputs"]["half_life_months"])
    assert window.observed[0, 0] == near(figures["O"])
    assert window.expected[0, 0] == near(figures["E"])


def test_population_stability() -> None:
    figures = WORKED["psi"]
    given = figures["inputs"]
    expected, actual = np.array(given["expected"]), np.array(given["actual"])
    assert stability_index(expected, actual) == near(figures["psi"])
    assert noise_limit(5, given["n_expected"], given["n_actual"]) == near(figures["chi2_95_limit"])
    found = population_stability(expected * given["n_expected"], actual * given["n_actual"])
    assert found is not None
    assert found.shift is Shift.STABLE


def test_a_commission() -> None:
    figures = WORKED["commission"]
    given = figures["inputs"]
    terms = CommissionTerms(base_rate=Fraction(2, 100))
    theta = posterior(8, 23, 12.4).mean
    assert float(terms.multiplier(theta)) == near(figures["multiplier"])
    commission = terms.commission(given["amount"], "risk", theta)
    assert float(commission) == near(figures["commission"])
    assert float(commission * terms.upfront_share) == near(figures["upfront"])
    assert float(commission * (1 - terms.upfront_share)) == near(figures["holdback"])


def test_the_economics_of_a_channel() -> None:
    figures = WORKED["channel_economics"]
    given = figures["inputs"]
    economics = Economics(
        funding_rate=given["funding_rate"],
        servicing_cost=given["servicing_cost"],
        balance_factor=given["average_balance_factor"],
        lgd=given["lgd"],
        ead_factor=given["ead_factor"],
    )
    loan = {"amount": given["average_amount"], "annual_rate": given["annual_rate"], "years": given["years"]}
    cac = acquisition_cost(
        media=given["media_spend"],
        commission=given["commission"],
        operations=given["operations"],
        funded_new_customers=given["funded_new_customers"],
    )
    assert rate(given["approved"], given["applications"]) == near(figures["approval"])
    assert rate(given["funded_new_customers"], given["approved"]) == near(figures["takeup"])
    assert rate(given["funded_new_customers"], given["applications"]) == near(figures["conversion"])
    assert cac == near(figures["CAC"])
    value = economics.lifetime_value(**loan, pd=given["pd"])
    assert value == near(figures["LTV"])
    assert return_on_acquisition(value, cac) == near(figures["ROI"])
    even = economics.break_even_rate(**loan, cac=figures["CAC"])
    assert economics.lifetime_value(**loan, pd=even) == near(figures["CAC"])


def test_a_cusum() -> None:
    figures = WORKED["cusum"]
    given = figures["inputs"]
    p = np.array(given["p"])
    found = scan(
        day=np.arange(p.size),
        expected=p,
        defaulted=np.array(given["first_payment_default"], np.bool_),
        limit=100.0,
        odds_ratio=given["R"],
    )
    assert found.score == near(figures["final_S"])
    assert found.alarm_days == ()


def test_the_published_prior_of_sudden_infant_deaths_in_north_carolina() -> None:
    """nu 4.63, alpha 4.40: Bivand, Pebesma, Gomez-Rubio, Applied Spatial Data Analysis with R, section on DCluster."""
    counties = json.loads((HERE / "sids.json").read_text(encoding="utf-8"))
    deaths, births = np.array(counties["deaths"], np.float64), np.array(counties["births"], np.float64)
    nu, alpha = moment_prior(deaths, births * deaths.sum() / births.sum())
    assert (round(nu, 2), round(alpha, 2)) == (4.63, 4.40)
