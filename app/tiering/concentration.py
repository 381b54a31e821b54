"""Concentration of the book on few channels."""

from __future__ import annotations

from app.tiering.arrays import Floats


def herfindahl(amounts: Floats) -> float | None:
    """HHI: the sum of squared shares, from 1 / n to 1; None where there is nothing to share."""
    total = float(amounts.sum())
    return float(((amounts / total) ** 2).sum()) if total > 0.0 else None
