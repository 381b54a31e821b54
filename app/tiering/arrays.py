"""The kinds of columns that this package computes with."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

EMPTY: Final = float("nan")
"""A cell about which nothing is known yet. Never zero, which would be good news."""


def grouped_sums(groups: Integers, weights: Floats, count: int) -> Floats:
    """The sum of `weights` in each of `count` groups, independent of the rows' order to the last bit or two."""
    sums: Floats = np.bincount(groups, weights=weights, minlength=count).astype(np.float64, copy=False)
    return sums
