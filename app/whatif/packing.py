"""Rows into columns: a request as it was received becomes one row of the layout in `schema`."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from app.domain.errors import ApplicationProblem
from app.domain.fields import STANDARD_FIELDS, FieldKind, Value
from app.domain.intake import read_instant, standard_values
from app.domain.screening import consented
from app.whatif.schema import CONTEXT_COLUMNS, arrow_schema, attributes_in

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PULLED_AT = "bureau.pulled_at"
_BOOLEANS = frozenset(each.name for each in STANDARD_FIELDS if each.kind is FieldKind.BOOLEAN)
_LARGEST = 2**63 - 1

PAIR, LIST = "=", ","
"""What joins a field with its cause, and such pairs, in one text. Neither is in a field's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What surrounds a request: how its channel stood, when, and what is known of the decision that was made.

    Where `readable` is false there is no request: it was erased, or what is stored is not whole. The recorded decision
    is None where there was none.
    """

    row_id: bytes
    decided_at: datetime
    channel_code: str
    channel_state: str | None = None
    served: bool | None = None
    assigned_tier: str | None = None
    tier: str | None = None
    policy_version: int | None = None
    outcome: str | None = None
    next_action: str | None = None
    ceiling_amount: int | None = None
    offered_amount: int | None = None
    reason_codes: str | None = None
    repaid: bool | None = None
    readable: bool = True
    erased: bool = False
    facts: Mapping[str, Value] = field(default_factory=dict)


def microseconds(at: datetime) -> int:
    """Since 1970, UTC."""
    return (at - _EPOCH) // _MICROSECOND


class Packer:
    """Gathers rows and gives them as one batch. `attributes` names the columns there are besides the standard ones."""

    def __init__(self, attributes: Iterable[str]) -> None:
        self.schema = arrow_schema(attributes)
        self._attributes = frozenset(attributes_in(self.schema.names))
        self._rows: list[dict[str, object]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, context: Context, payload: Mapping[str, Any] | None) -> None:
        """Add a row; without a payload, one that cannot be decided again.

        Raises:
            ValueError: where the payload has an attribute that this packer has no column for.
        """
        row: dict[str, object] = dict(context.facts)
        row |= zip(_PLAIN_CONTEXT, _plain(context), strict=True)
        row["decided_at"] = microseconds(context.decided_at)
        row["readable"] = context.readable and payload is not None
        if payload is not None:
            self._request(payload, row, context.decided_at)
        self._rows.append(row)

    def batch(self) -> pa.RecordBatch:
        """What was added since the last batch."""
        rows, self._rows = self._rows, []
        arrays = []
        for column in self.schema:
            values = [row.get(column.name) for row in rows]
            if pa.types.is_dictionary(column.type):
                arrays.append(pa.array(values, pa.string()).dictionary_encode().cast(column.type))
            else:
                arrays.append(pa.array(values, column.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _request(self, payload: Mapping[str, Any], row: dict[str, object], decided_at: datetime) -> None:
        problems: list[ApplicationProblem] = []
        values = standard_values(payload, problems)
        bureau = payload.get("bureau") or {}
        pulled_at = read_instant(bureau, "pulled_at", "/bureau/pulled_at", problems)
        consent_at = read_instant(payload, "consent_at", "/consent_at", problems)
        read_instant(payload, "completed_at", "/completed_at", problems)
        row |= values
        # What is no instant is a fault of form, not of consent.
        row["consent"] = (
            payload.get("consent_at") is not None if consent_at is None else consented(consent_at, decided_at)
        )
        row["currency"] = payload["currency"]
        row[_PULLED_AT] = None if pulled_at is None else microseconds(pulled_at)
        given = payload.get("attributes") or {}
        sound = self._attribute_values(given, row)
        stated = payload.get("unknown") or {}
        if stated:
            row["unknown"] = LIST.join(f"{name}{PAIR}{cause}" for name, cause in sorted(stated.items()))
            known = values.keys() | {f"attributes.{name}" for name, raw in given.items() if raw is not None}
            sound = sound and known.isdisjoint(stated) and (pulled_at is None or _PULLED_AT not in stated)
        row["malformed"] = bool(problems) or not sound

    def _attribute_values(self, given: Mapping[str, object], row: dict[str, object]) -> bool:
        """Whether each can be held: a number that no declaration could take cannot."""
        nulls = []
        sound = True
        for name, raw in given.items():
            if name not in self._attributes:
                raise ValueError("an attribute without a column")
            prefix = f"attributes.{name}#"
            if raw is None:
                nulls.append(name)
            elif isinstance(raw, bool):
                row[prefix + "flag"] = raw
            elif isinstance(raw, str):
                row[prefix + "text"] = raw
            elif isinstance(raw, int | float | Decimal):
                number = _number(raw)
                sound = sound and number is not None
                row[prefix + "number"], row[prefix + "decimals"] = number or (None, None)
            else:
                sound = False
        if nulls:
            row["null_attributes"] = LIST.join(sorted(nulls))
        return sound


_PLAIN_CONTEXT: tuple[str, ...] = tuple(
    name
    for name in CONTEXT_COLUMNS
    if name not in {"malformed", "consent", "currency", _PULLED_AT, "unknown", "null_attributes"}
)
_plain = operator.attrgetter(*_PLAIN_CONTEXT)


def _number(raw: float | Decimal) -> tuple[int, int] | None:
    """A JSON number as (whole number, decimals), without zeros at the end of the decimals; None where it is too large.

    No attribute can be declared to hold what does not fit 64 bits here: its range is at most 10^15 at its scale.
    """
    if isinstance(raw, int):
        return (raw, 0) if abs(raw) <= _LARGEST else None
    exact = Decimal(repr(raw)) if isinstance(raw, float) else raw
    if not exact.is_finite():
        return None
    sign, digits, exponent = exact.as_tuple()
    assert isinstance(exponent, int)
    while digits and exponent < 0 and digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    if len(digits) + max(exponent, 0) > 18 or -exponent > 36:
        return (0, 0) if not any(digits) else None
    mantissa = int("".join(map(str, digits)) or "0") * 10 ** max(exponent, 0)
    return (-mantissa if sign else mantissa), max(-exponent, 0)
