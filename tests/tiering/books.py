"""Loan books for the tests, by hand and by chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.tiering.arrays import Integers
from app.tiering.loans import LoanBook, loan_book
from app.tiering.reference import ReferenceModel
from app.tiering.terms import Life, Standing

NOW = 24_000


def column(*cells: int) -> Integers:
    return np.array(cells, np.int64)


def chance_book(
    random: np.random.Generator,
    *,
    loans: int,
    theta: tuple[float, ...],
    model: ReferenceModel,
    months: int = 18,
) -> LoanBook:
    """Loans of the last months whose hazards are theta times those of the model."""
    unit = random.integers(0, len(theta), loans)
    segment = random.integers(0, len(model.segments), loans)
    funded = random.integers(NOW - months, NOW, loans)
    hazards = np.clip(model.hazards[segment] * np.array(theta)[unit][:, None], 0.0, 1.0)
    hit = random.random(hazards.shape) < hazards
    event = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
    return loan_book(unit=unit, segment=segment, funded_month=funded, event_month=event)


def model(*rows: tuple[float, ...], **changes: Any) -> ReferenceModel:
    given: dict[str, Any] = {"version": 1, "events": 1_000, "months": 24} | changes
    return ReferenceModel(
        segments=tuple(f"s{number}" for number in range(len(rows))), hazards=np.array(rows, np.float64), **given
    )


def standing(**changes: Any) -> Standing:
    given: dict[str, Any] = {
        "life": Life.ACTIVE,
        "tier": "general",
        "entered_month": NOW - 24,
        "tier_month": NOW - 24,
        "state_month": NOW - 24,
    }
    return Standing(**(given | changes))
