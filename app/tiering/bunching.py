"""Bunching: values that gather just above a threshold have been made to pass it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.tiering.arrays import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Bunching:
    """Counts in [0.95 T, T) and [T, 1.05 T). `ratio` is above over below, None where nothing is below."""

    below: int
    above: int
    ratio: float | None
    suspicious: bool


def bunching(
    values: Floats, threshold: float, *, width: float = 0.05, ratio_above: float = 2.0, minimum: int = 50
) -> Bunching:
    """Whether values bunch above a threshold T > 0: ratio above 2, with `minimum` or more values in both bands.

    Nothing at all below counts as one value there: 50 above and none below is as suspicious as it gets.
    """
    if not threshold > 0.0:
        raise ValueError("a threshold to bunch at is above 0")
    below = int(np.count_nonzero((values >= (1.0 - width) * threshold) & (values < threshold)))
    above = int(np.count_nonzero((values >= threshold) & (values < (1.0 + width) * threshold)))
    suspicious = below + above >= minimum and above / max(below, 1) > ratio_above
    return Bunching(below=below, above=above, ratio=above / below if below else None, suspicious=suspicious)
