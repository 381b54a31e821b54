"""Population stability: has the mix of applicants shifted, or is it the small sample?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import gammaincinv

from app.tiering.arrays import Floats


class Shift(StrEnum):
    """Below 0.1 stable, up to 0.25 watch, above shifted; within the noise of the samples it is called noise."""

    NOISE = "noise"
    STABLE = "stable"
    WATCH = "watch"
    SHIFTED = "shifted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """PSI = sum (a - e) ln(a / e), and what chance alone stays under in 95 % of samples of these sizes."""

    psi: float
    noise_limit: float
    shift: Shift


_FLOOR = 1e-4


def population_stability(
    expected: Floats, actual: Floats, *, probability: float = 0.95, watch: float = 0.1, shifted: float = 0.25
) -> Stability | None:
    """PSI of two counts by bin; None where either has nobody.

    An empty bin counts as a share of 0.0001, else one rare band would make it infinite. The limit of noise is
    chi2(probability, bins - 1) x (1 / n + 1 / N): PSI is twice a likelihood ratio over harmonic sample size (Yurdakul
    2018).
    """
    if expected.shape != actual.shape or expected.ndim != 1 or expected.size < 2:
        raise ValueError("both samples have the same two or more bins")
    total_expected, total_actual = float(expected.sum()), float(actual.sum())
    if total_expected <= 0.0 or total_actual <= 0.0:
        return None
    psi = stability_index(expected / total_expected, actual / total_actual)
    limit = noise_limit(expected.size, total_expected, total_actual, probability)
    if psi <= limit:
        shift = Shift.NOISE
    elif psi < watch:
        shift = Shift.STABLE
    else:
        shift = Shift.WATCH if psi <= shifted else Shift.SHIFTED
    return Stability(psi=psi, noise_limit=limit, shift=shift)


def stability_index(expected: Floats, actual: Floats) -> float:
    """PSI of two sets of shares."""
    e, a = np.maximum(expected, _FLOOR), np.maximum(actual, _FLOOR)
    return float(((a - e) * np.log(a / e)).sum())


def noise_limit(bins: int, n_expected: float, n_actual: float, probability: float = 0.95) -> float:
    """What PSI stays under by chance."""
    chi2 = 2.0 * float(gammaincinv((bins - 1) / 2.0, probability))
    return chi2 * (1.0 / n_expected + 1.0 / n_actual)
