"""Kappa: the level of the whole book against its reference, so that no channel is blamed for the weather."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.tiering.arrays import Floats
from app.tiering.counts import Window
from app.tiering.policy import CalibrationPolicy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """raw: sum O / sum E by product, empty where nothing is expected; raw_of_others: without its large units, and the
    same where there are none. kappa: what each unit's E of a product is multiplied by, clipped; leave-one-out where the
    unit is large.
    """

    raw: Floats
    raw_of_others: Floats
    kappa: Floats

    def outside(self, policy: CalibrationPolicy) -> bool:
        """Whether the book of any product has left the range in which a calibration may be believed."""
        return _outside(self.raw, policy)

    def others_outside(self, policy: CalibrationPolicy) -> bool:
        """Whether it has left it without its large units as well: then no single one of them has moved the book."""
        return _outside(self.raw_of_others, policy)


def calibrate(window: Window, policy: CalibrationPolicy) -> Calibration:
    """kappa = sum O / sum E per product (step 5).

    A unit with more than `leave_one_out_share` of a product's E is left out of its own kappa: a big bad channel would
    hide itself otherwise. A product on which no one else is expected to have an event has kappa 1.
    """
    observed, expected = window.observed.sum(axis=0), window.expected.sum(axis=0)
    raw = np.divide(observed, expected, out=np.full(expected.shape, np.nan), where=expected > 0.0)
    whole = np.broadcast_to(np.where(np.isnan(raw), 1.0, raw), window.expected.shape)
    large = window.expected > policy.leave_one_out_share * expected[None, :]
    others = expected[None, :] - window.expected
    has_others = others > 1e-12 * expected[None, :]
    without = np.divide(observed[None, :] - window.observed, others, out=np.ones_like(others), where=has_others)
    kappa = np.clip(np.where(large, without, whole), policy.kappa_minimum, policy.kappa_maximum)
    few_observed, few_expected = (np.where(large, 0.0, each).sum(axis=0) for each in (window.observed, window.expected))
    told = few_expected > 0.0
    raw_of_others = np.divide(few_observed, few_expected, out=raw.copy(), where=told)
    return Calibration(raw=raw, raw_of_others=raw_of_others, kappa=kappa)


def _outside(levels: Floats, policy: CalibrationPolicy) -> bool:
    return bool(np.any((levels < policy.kappa_minimum) | (levels > policy.kappa_maximum)))
