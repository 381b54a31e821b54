"""What lending costs, as far as a what-if is told: probabilities of default by band, and what a default loses.

Source of the defaults: the design's economics, LGD 65 % and EAD 75 % of the amount. They are assumptions, and a report
says so. Probabilities are never assumed: without a table the expected loss is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from app.domain.canonical import Json
from app.domain.fields import scaled
from app.whatif.arrays import Integers
from app.whatif.columns import Column

PD_SCALE: Final = 4
"""Decimals of a probability of default in percent."""
_MAX_BANDS: Final = 1_000


class EconomicsError(ValueError):
    """A table of bands that cannot be used; says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """Probabilities of default by bands of one field, in percent at `PD_SCALE`.

    A number, at its field's scale, belongs to the band with the largest `from` that it reaches, a text to the band that
    names it. What is
    unknown, or in no band, has `otherwise`; None: nobody knows.
    """

    field: str
    starts: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    probabilities: tuple[int, ...]
    otherwise: int | None = None

    def positions(self, column: Column) -> Integers:
        """The band of each row, as a position in `probabilities`; their count where it is in none."""
        none = len(self.probabilities)
        if self.names:
            by_code = [self.names.index(text) if text in self.names else none for text in column.names()] or [none]
            found = np.array(by_code, np.int64)[column.values]
        elif column.texts is not None:
            found = np.full(column.known.shape, none, np.int64)
        else:
            reached = np.searchsorted(np.array(self.starts, np.int64), column.values, side="right").astype(np.int64)
            found = np.where(reached > 0, reached - 1, none)
        return np.where(column.known, found, none)

    def document(self) -> Json:
        """As a report states it."""
        key = "is" if self.names else "from"
        marks: list[Json] = [*self.names, *self.starts]
        bands: list[Json] = [
            {key: mark, "pd_ppm": probability} for mark, probability in zip(marks, self.probabilities, strict=True)
        ]
        return {"field": self.field, "bands": bands, "otherwise_pd_ppm": self.otherwise}


@dataclass(frozen=True, slots=True, kw_only=True)
class Economics:
    """`lgd_pct` of the `ead_pct` of an amount is lost where it defaults. `bands` None: with unknown probability."""

    lgd_pct: int = 65
    ead_pct: int = 75
    bands: Bands | None = field(default=None)

    def expected_loss(self, amounts: Mapping[int, int]) -> int | None:
        """The loss in minor units, rounded down, of amounts by band; None where an amount has no probability."""
        if self.bands is None:
            return None
        total = 0
        for band, amount in amounts.items():
            known = band < len(self.bands.probabilities)
            probability = self.bands.probabilities[band] if known else self.bands.otherwise
            if probability is None and amount:
                return None
            total += amount * (probability or 0)
        return total * self.lgd_pct * self.ead_pct // (10**PD_SCALE * 100 * 100 * 100)

    def document(self) -> Json:
        """What is assumed, as a report states it."""
        return {
            "lgd_pct": self.lgd_pct,
            "ead_pct": self.ead_pct,
            "pd": "unknown" if self.bands is None else self.bands.document(),
        }


def read_bands(document: object) -> Bands:
    """The table of a parsed document.

    ```
    {"field": "bureau.score", "bands": [{"from": 0, "pd_pct": "12.5"}, {"from": 620, "pd_pct": 4}],
     "otherwise_pd_pct": 9}
    {"field": "bureau.score_band", "bands": [{"is": "A", "pd_pct": "0.8"}, {"is": "B", "pd_pct": 3}]}
    ```

    Raises:
        EconomicsError: where it is no such table.
    """
    if not isinstance(document, Mapping) or set(document) - {"field", "bands", "otherwise_pd_pct"}:
        raise EconomicsError("must be an object of field, bands and otherwise_pd_pct")
    name, rows = document.get("field"), document.get("bands")
    if not isinstance(name, str) or not isinstance(rows, list | tuple) or not 0 < len(rows) <= _MAX_BANDS:
        raise EconomicsError(f"must name a field and 1 to {_MAX_BANDS} bands")
    starts: list[int] = []
    names: list[str] = []
    probabilities = []
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or set(row) not in ({"from", "pd_pct"}, {"is", "pd_pct"}):
            raise EconomicsError(f"band {number}: must have `from` or `is`, and `pd_pct`")
        mark = row.get("from", row.get("is"))
        if "from" in row and isinstance(mark, int) and not isinstance(mark, bool):
            starts.append(mark)
        elif "is" in row and isinstance(mark, str):
            names.append(mark)
        else:
            raise EconomicsError(f"band {number}: `from` is a whole number and `is` a text")
        probabilities.append(_probability(row["pd_pct"], f"band {number}"))
    if (starts and names) or starts != sorted(set(starts)) or len(set(names)) != len(names):
        raise EconomicsError("bands must all have `from`, in rising order, or all have `is`, each text once")
    otherwise = document.get("otherwise_pd_pct")
    return Bands(
        field=name,
        starts=tuple(starts),
        names=tuple(names),
        probabilities=tuple(probabilities),
        otherwise=None if otherwise is None else _probability(otherwise, "otherwise_pd_pct"),
    )


def _probability(raw: object, where: str) -> int:
    try:
        probability = scaled(raw, PD_SCALE)
    except ValueError as error:
        raise EconomicsError(f"{where}: {error}") from None
    if not 0 <= probability <= 100 * 10**PD_SCALE:
        raise EconomicsError(f"{where}: must be from 0 to 100 percent")
    return probability
