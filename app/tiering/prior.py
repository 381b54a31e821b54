"""How far channels differ at all: the prior of a channel's relative risk, from all channels together.

Source: Clayton and Kaldor, Empirical Bayes estimates of age-standardized relative risks, Biometrics 43 (1987).
"""

from __future__ import annotations

from math import exp, log

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln

from app.tiering.arrays import Floats
from app.tiering.policy import PriorPolicy

_LOG_NU_BOUNDS = (log(1e-3), log(1e6))


def log_likelihood(nu: float, observed: Floats, expected: Floats) -> float:
    """Of O ~ negative binomial with size nu and p = nu / (nu + E), up to what does not depend on nu."""
    terms = gammaln(observed + nu) - gammaln(nu) + nu * log(nu) - (nu + observed) * np.log(nu + expected)
    return float(terms.sum())


def most_likely_nu(observed: Floats, expected: Floats) -> float:
    """The nu of theta ~ Gamma(nu, nu) that makes the counts likeliest; very large where channels do not differ.

    observed, expected: one cell a channel; those that expect nothing say nothing.
    """
    told = expected > 0.0
    kept_observed, kept_expected = observed[told], expected[told]
    found = minimize_scalar(
        lambda x: -log_likelihood(exp(x), kept_observed, kept_expected),
        bounds=_LOG_NU_BOUNDS,
        method="bounded",
        options={"xatol": 1e-9},
    )
    return _polished(float(found.x), kept_observed, kept_expected)


def _polished(log_nu: float, observed: Floats, expected: Floats) -> float:
    """The root of the score near a minimum: flat optima give half of the digits only."""
    from scipy.special import digamma

    def score(x: float) -> float:
        nu = exp(x)
        terms = digamma(observed + nu) - digamma(nu) + log(nu) + 1.0 - np.log(nu + expected)
        return float((terms - (nu + observed) / (nu + expected)).sum())

    low, high = log_nu - 0.1, log_nu + 0.1
    if score(low) * score(high) >= 0.0:
        return exp(log_nu)  # at a bound: channels do not differ
    return exp(float(brentq(score, low, high, xtol=1e-13, rtol=1e-14)))


def fit_prior(observed: Floats, expected: Floats, policy: PriorPolicy) -> tuple[float, float | None]:
    """nu to use, and as it was found before clipping (None: too few channels, the default is used)."""
    told = int(np.count_nonzero(expected > 0.0))
    if told < policy.minimum_channels:
        return policy.nu_default, None
    found = most_likely_nu(observed, expected)
    return min(max(found, policy.nu_minimum), policy.nu_maximum), found


def moment_prior(observed: Floats, expected: Floats, *, tolerance: float = 1e-10) -> tuple[float, float]:
    """(nu, alpha) of theta ~ Gamma(nu, rate alpha) by Clayton and Kaldor's own iteration, for comparison.

    Their equations (5) and (6): nu / alpha is the mean of the posterior means, and nu / alpha^2 is
    sum (1 + alpha / E) (theta - mean)^2 / (n - 1).

    Raises:
        ValueError: where the iteration does not settle: the counts do not differ by more than chance.
    """
    ratio = observed / expected
    mean, variance = float(ratio.mean()), float(ratio.var(ddof=1))
    nu, alpha = mean**2 / variance, mean / variance
    for _ in range(100_000):
        theta = (observed + nu) / (expected + alpha)
        mean = float(theta.mean())
        variance = float(((1.0 + alpha / expected) * (theta - mean) ** 2).sum()) / (theta.size - 1)
        previous, nu, alpha = (nu, alpha), mean**2 / variance, mean / variance
        if abs(nu - previous[0]) < tolerance and abs(alpha - previous[1]) < tolerance:
            return nu, alpha
    raise ValueError("the moments of the prior do not settle")
