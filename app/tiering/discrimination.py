"""How well a score tells bad loans from good ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.tiering.arrays import Flags, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrimination:
    """KS: the largest distance of the two distributions; Gini: 2 AUC - 1, below 0 where the score is upside down."""

    ks: float
    gini: float
    bads: int
    goods: int


def discrimination(scores: Floats, bad: Flags, *, minimum_bads: int = 30) -> Discrimination | None:
    """KS and Gini of a score that is higher for better loans; None with fewer than `minimum_bads` of either."""
    bads = int(np.count_nonzero(bad))
    goods = scores.size - bads
    if min(bads, goods) < minimum_bads:
        return None
    values, position = np.unique(scores, return_inverse=True)
    bad_share = np.bincount(position, weights=bad, minlength=values.size) / bads
    good_share = np.bincount(position, weights=~bad, minlength=values.size) / goods
    bad_below, good_below = np.cumsum(bad_share), np.cumsum(good_share)
    # P(bad < good) + P(bad = good) / 2, over the distinct scores.
    area = float((good_share * (bad_below - bad_share / 2.0)).sum())
    return Discrimination(ks=float(np.abs(bad_below - good_below).max()), gini=2.0 * area - 1.0, bads=bads, goods=goods)
