"""The belief about what a channel is now, where it may have become another one at any month.

A channel's loans of a month have one relative risk; each month it stays, or with probability q a new one is drawn from
Gamma(nu, nu). Given when the last change was, the belief is gamma over the cohorts since then; when that may have been
is averaged over, by how likely it makes what was seen. So old cohorts count for as long as they agree with the young
ones, and are dropped as fast as these contradict them: what two fixed windows only approximate.

Source: Barry and Hartigan, Product partition models for change point problems, Annals of Statistics 20 (1992); for the
recursion Fearnhead, Statistics and Computing 16 (2006); exact, since the predictive of a stretch is negative binomial.
"""

from __future__ import annotations

from math import log, log1p

import numpy as np
from scipy.special import gammaln, logsumexp

from app.tiering.arrays import Floats
from app.tiering.belief import Belief, posterior


def present_beliefs(nu: float, observed: Floats, expected: Floats, change_probability: float) -> list[Belief]:
    """The belief about the present theta of each unit (row), from its cohorts in order (columns).

    nu: of the prior, above 0. observed, expected: events of each cohort until now, E after kappa. change_probability: q
    a month, from 0 to below 1. Cohorts that expect nothing yet say nothing: they are passed over.
    """
    units, cohorts = expected.shape
    if not cohorts or not units:
        return [posterior(nu, 0.0, 0.0) for _ in range(units)]
    weights = last_change_weights(nu, observed, expected, change_probability)
    from_observed = np.cumsum(observed[:, ::-1], axis=1)[:, ::-1]
    from_expected = np.cumsum(expected[:, ::-1], axis=1)[:, ::-1]
    beliefs = []
    for unit in range(units):
        kept = weights[unit] > 1e-9
        share = weights[unit, kept] / weights[unit, kept].sum()
        beliefs.append(
            Belief(
                weights=share,
                shapes=nu + from_observed[unit, kept],
                rates=nu + from_expected[unit, kept],
                observed=float((share * from_observed[unit, kept]).sum()),
                expected=float((share * from_expected[unit, kept]).sum()),
            )
        )
    return beliefs


def last_change_weights(nu: float, observed: Floats, expected: Floats, change_probability: float) -> Floats:
    """P(the present stretch began with cohort i), by unit (row) and cohort i (column)."""
    cohorts = expected.shape[1]
    told = (expected > 0.0) | (observed > 0.0)
    first = np.argmax(told, axis=1)
    later = told & (np.arange(cohorts)[None, :] > first[:, None])
    with np.errstate(divide="ignore"):
        log_change = np.log(np.float64(change_probability))
    log_start = np.where(later, log_change, np.where(np.arange(cohorts)[None, :] == first[:, None], 0.0, -np.inf))
    stayed = np.cumsum(np.where(later, log1p(-change_probability), 0.0), axis=1)
    events, exposure = _sums_before(observed), _sums_before(expected)
    begun = np.full(expected.shape, -np.inf)  # the evidence of all before a cohort, and that a stretch begins with it
    before = np.zeros(expected.shape[0])
    for last in range(cohorts):
        until = slice(0, last + 1)
        begun[:, last] = before + log_start[:, last]
        stretch = _marginal(nu, events[:, [last + 1]] - events[:, until], exposure[:, [last + 1]] - exposure[:, until])
        evidence = begun[:, until] + stayed[:, [last]] - stayed[:, until] + stretch
        before = np.where(last < first, 0.0, logsumexp(evidence, axis=1))
    weights: Floats = np.exp(evidence - before[:, None])
    return weights


def _sums_before(cells: Floats) -> Floats:
    """Of each row, the sum of all before a column; one column more than there are."""
    return np.concatenate([np.zeros((cells.shape[0], 1)), np.cumsum(cells, axis=1)], axis=1)


def _marginal(nu: float, observed: Floats, expected: Floats) -> Floats:
    """The logarithm of the predictive of a stretch, less what is the same for every way to cut the cohorts."""
    marginal: Floats = gammaln(nu + observed) - gammaln(nu) + nu * log(nu) - (nu + observed) * np.log(nu + expected)
    return marginal
