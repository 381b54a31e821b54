"""What is believed of a channel's relative risk theta: a gamma distribution, or a mixture of some."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincc, gammaincinv

from app.tiering.arrays import Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Belief:
    """A mixture of gamma distributions with `shapes` and `rates` (as 1 / scale); `weights` sum to 1.

    observed, expected: the events that it rests on, and those that the reference expected.
    """

    weights: Floats
    shapes: Floats
    rates: Floats
    observed: float
    expected: float

    @property
    def mean(self) -> float:
        """The expected theta."""
        return float((self.weights * self.shapes / self.rates).sum())

    def above(self, threshold: float) -> float:
        """P(theta > threshold)."""
        return float((self.weights * gammaincc(self.shapes, self.rates * threshold)).sum())

    def below(self, threshold: float) -> float:
        """P(theta < threshold), exact also where it is tiny."""
        return float((self.weights * gammainc(self.shapes, self.rates * threshold)).sum())

    def quantile(self, probability: float) -> float:
        """The theta below which `probability` (above 0, below 1) lies."""
        each = gammaincinv(self.shapes, probability) / self.rates
        low, high = float(each.min()), float(each.max())
        if high - low < 1e-12:
            return low
        return float(brentq(lambda theta: self.below(theta) - probability, low * (1 - 1e-9), high * (1 + 1e-9)))


def posterior(nu: float, observed: float, expected: float) -> Belief:
    """Gamma(nu + O, nu + E): the belief after O events where E were expected (step 7). nu above 0; O, E at least 0."""
    return Belief(
        weights=np.ones(1),
        shapes=np.array([nu + observed]),
        rates=np.array([nu + expected]),
        observed=observed,
        expected=expected,
    )


def bounded_threshold(threshold: float, loss_appetite: float, expected_rate: float) -> float:
    """min(t, B / p): the absolute arm (step 8).

    loss_appetite: B, the rate of events that may be borne; expected_rate: p, that of the unit's present mix after
    kappa, empty where it is unknown. A channel that is no worse than its mix is still too bad where its mix is.
    """
    if not expected_rate > 0.0:
        return threshold
    return min(threshold, loss_appetite / expected_rate)
