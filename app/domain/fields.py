"""The fields that a rule may name: their kind, scale, range and data source.

Inside the domain every value is an integer at the field's declared scale: money in minor units, an ordered choice as
its position, a date as its proleptic ordinal, a boolean as itself. Only text stays text.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

Value: TypeAlias = int | str
"""A known value as rules see it."""

MAX_MONEY = 10**15
"""The largest amount that is taken, in minor units: far above any loan, far below bigint."""


MAX_TEXT = 128
"""The longest text value, in characters."""


class FieldKind(StrEnum):
    """What a field holds, and with that which requirements can be made on it."""

    NUMBER = "number"
    MONEY = "money"
    RATIO = "ratio"
    CHOICE = "choice"
    BOOLEAN = "boolean"
    DATE = "date"
    TEXT = "text"


class Source(StrEnum):
    """Where a value comes from. A reason names it (FCRA 615, Reg B 1002.9)."""

    APPLICATION = "application"
    APPLICANT = "applicant"
    BUREAU = "bureau"
    DEVICE = "device"
    BUSINESS = "business"
    CHANNEL = "channel"
    OWN_RECORDS = "own_records"


class Stage(StrEnum):
    """When a field becomes known: from the request, from the ceiling, or only inside the transaction."""

    REQUEST = "request"
    CEILING = "ceiling"
    SETTLEMENT = "settlement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A declared field. `scale` counts decimals; `minimum` and `maximum` are inclusive, at that scale.

    A ratio is a percentage that the gate computes, rounded up at its scale: `at_most` and `above` are exact on it.
    """

    name: str
    kind: FieldKind
    source: Source
    scale: int = 0
    minimum: int = 0
    maximum: int = 10**9
    choices: tuple[str, ...] = ()
    ordered: bool = False
    stage: Stage = Stage.REQUEST
    positions: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", {choice: position for position, choice in enumerate(self.choices)})

    def encode(self, raw: object) -> Value:
        """The domain's value of a JSON value.

        Raises:
            ValueError: where the type, the number of decimals, the range or the choice is wrong. Names no value.
        """
        kind = self.kind
        if kind is FieldKind.TEXT:
            if not isinstance(raw, str) or not 0 < len(raw) <= MAX_TEXT:
                raise ValueError(f"must be text of 1 to {MAX_TEXT} characters")
            return raw
        if kind is FieldKind.CHOICE:
            position = self.positions.get(raw) if isinstance(raw, str) else None
            if position is None:
                raise ValueError(f"must be one of {', '.join(self.choices)}")
            return position
        if kind is FieldKind.BOOLEAN:
            if not isinstance(raw, bool):
                raise ValueError("must be true or false")
            return raw
        return _ordinal(raw) if kind is FieldKind.DATE else self._number(raw)

    def _number(self, raw: object) -> int:
        number = scaled(raw, self.scale)
        if not self.minimum <= number <= self.maximum:
            raise ValueError(f"must be between {self.display(self.minimum)} and {self.display(self.maximum)}")
        return number

    def display(self, value: Value) -> bool | int | str:
        """The JSON form of a domain value: whole numbers stay numbers, fractions are decimal text."""
        match self.kind:
            case FieldKind.BOOLEAN:
                return bool(value)
            case FieldKind.CHOICE:
                return self.choices[int(value)]
            case FieldKind.DATE:
                return date.fromordinal(int(value)).isoformat()
            case FieldKind.TEXT:
                return str(value)
            case _ if self.scale:
                return format(Decimal(int(value)).scaleb(-self.scale), "f")
            case _:
                return int(value)


_FLOAT_KEEPS = 10**sys.float_info.dig
"""A decimal of fewer digits than this number is told apart from every other such decimal by its float."""
_DECIMAL_TEXT = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


def scaled(raw: object, scale: int) -> int:
    """`raw` (a whole number, a decimal or decimal text) as an integer at `scale`; exact or refused.

    Raises:
        ValueError: where it is no number, out of range or has more decimals than `scale`.
    """
    if isinstance(raw, int) and not isinstance(raw, bool):
        if not -(10**18) < raw < 10**18:
            raise ValueError("is out of range")
        return int(raw * 10**scale)
    power: int = 10**scale
    if isinstance(raw, float) and abs(raw) * power < _FLOAT_KEEPS:
        number = round(raw * power)
        if number / power == raw:
            return number  # no other decimal of so few digits has this float
    text = repr(raw) if isinstance(raw, float) else raw
    if isinstance(text, str) and _DECIMAL_TEXT.fullmatch(text):
        whole_digits, _, fraction = text.partition(".")
        fraction = fraction.rstrip("0")
        if len(fraction) <= scale:
            return int(whole_digits + fraction.ljust(scale, "0"))
    numerator, denominator = _decimal(raw).as_integer_ratio()
    whole, rest = divmod(numerator * power, denominator)
    if rest:
        raise ValueError(f"must have at most {scale} decimals" if scale else "must be a whole number")
    return whole


def _decimal(raw: object) -> Decimal:
    if isinstance(raw, float):
        number = Decimal(repr(raw))
    elif isinstance(raw, Decimal):
        number = raw
    elif isinstance(raw, str) and _DECIMAL_TEXT.fullmatch(raw):
        number = Decimal(raw)
    else:
        raise ValueError("must be a number")
    if not number.is_finite():
        raise ValueError("must be a number")
    if abs(number.adjusted()) > 18 or len(number.as_tuple().digits) > 36:
        raise ValueError("is out of range")
    return number


def _ordinal(raw: object) -> int:
    if isinstance(raw, date) and not isinstance(raw, datetime):
        return raw.toordinal()
    if isinstance(raw, str) and len(raw) == 10:
        try:
            return date.fromisoformat(raw).toordinal()
        except ValueError:
            pass
    raise ValueError("must be a date as YYYY-MM-DD")


INCOME_VERIFICATION = ("none", "stated", "bank", "payroll", "tax")
"""Income proof from weakest to strongest."""

EMPLOYMENT_TYPES = ("permanent", "fixed_term", "self_employed", "casual", "retired", "student", "unemployed", "other")

_N, _M, _B, _T = FieldKind.NUMBER, FieldKind.MONEY, FieldKind.BOOLEAN, FieldKind.TEXT

STANDARD_FIELDS: tuple[Field, ...] = (
    Field(name="jurisdiction", kind=_T, source=Source.APPLICATION),
    Field(name="sub_id", kind=_T, source=Source.APPLICATION),
    Field(name="agreement_id", kind=_T, source=Source.APPLICATION),
    Field(name="product", kind=_T, source=Source.APPLICATION),
    Field(name="purpose", kind=_T, source=Source.APPLICATION),
    Field(name="amount", kind=_M, source=Source.APPLICATION, minimum=1, maximum=MAX_MONEY),
    Field(name="term_months", kind=_N, source=Source.APPLICATION, minimum=1, maximum=480),
    Field(name="all_in_apr_pct", kind=_N, source=Source.APPLICATION, scale=2, maximum=100_000),
    Field(name="applicant.applicant_ref", kind=_T, source=Source.APPLICANT),
    Field(name="applicant.birth_date", kind=FieldKind.DATE, source=Source.APPLICANT),
    Field(name="applicant.age_years", kind=_N, source=Source.APPLICANT, maximum=150),
    Field(name="applicant.employment_type", kind=FieldKind.CHOICE, source=Source.APPLICANT, choices=EMPLOYMENT_TYPES),
    Field(name="applicant.employment_months", kind=_N, source=Source.APPLICANT, maximum=1_200),
    Field(name="applicant.residence_months", kind=_N, source=Source.APPLICANT, maximum=1_800),
    Field(name="applicant.monthly_income", kind=_M, source=Source.APPLICANT, maximum=MAX_MONEY),
    Field(
        name="applicant.income_verification",
        kind=FieldKind.CHOICE,
        source=Source.APPLICANT,
        choices=INCOME_VERIFICATION,
        ordered=True,
    ),
    Field(name="applicant.monthly_obligations", kind=_M, source=Source.APPLICANT, maximum=MAX_MONEY),
    Field(name="bureau.hit", kind=_B, source=Source.BUREAU),
    Field(name="bureau.score", kind=_N, source=Source.BUREAU, maximum=10_000),
    Field(name="bureau.score_band", kind=_T, source=Source.BUREAU),
    Field(name="bureau.history_months", kind=_N, source=Source.BUREAU, maximum=1_800),
    Field(name="bureau.max_dpd_12m", kind=_N, source=Source.BUREAU, maximum=10_000),
    Field(name="bureau.current_dpd_own", kind=_N, source=Source.OWN_RECORDS, maximum=10_000),
    Field(name="bureau.inquiries_3m", kind=_N, source=Source.BUREAU, maximum=10_000),
    Field(name="bureau.active_lenders", kind=_N, source=Source.BUREAU, maximum=10_000),
    Field(name="bureau.bankruptcy_months_ago", kind=_N, source=Source.BUREAU, maximum=1_800),
    Field(name="bureau.open_judgment", kind=_B, source=Source.BUREAU),
    Field(name="device.ids_on_device_24h", kind=_N, source=Source.DEVICE, maximum=1_000_000),
    Field(name="business.months_trading", kind=_N, source=Source.BUSINESS, maximum=6_000),
    Field(name="business.annual_revenue", kind=_M, source=Source.BUSINESS, maximum=MAX_MONEY),
    Field(name="business.owner_guarantee", kind=_B, source=Source.BUSINESS),
)
"""What an application may carry, named by its path in the payload."""

DERIVED_FIELDS: tuple[Field, ...] = (
    Field(name="application.missing_fields", kind=_N, source=Source.APPLICATION, maximum=1_000),
    Field(name="bureau.age_days", kind=_N, source=Source.BUREAU, maximum=100_000),
    Field(name="channel.served", kind=_B, source=Source.CHANNEL),
    Field(
        name="existing_dti_pct",
        kind=FieldKind.RATIO,
        source=Source.APPLICANT,
        scale=2,
        maximum=10**9,
    ),
    Field(
        name="dti_after_loan_pct",
        kind=FieldKind.RATIO,
        source=Source.APPLICANT,
        scale=2,
        maximum=10**9,
        stage=Stage.CEILING,
    ),
)
"""What the gate computes from the request, the clock it is given and the channel."""

SETTLEMENT_FIELDS: tuple[Field, ...] = tuple(
    Field(name=name, kind=kind, source=source, stage=Stage.SETTLEMENT, maximum=MAX_MONEY)
    for name, kind, source in (
        ("person.open_accepts", _N, Source.OWN_RECORDS),
        ("person.rejects_elsewhere_30d", _N, Source.OWN_RECORDS),
        ("person.applications_30d", _N, Source.OWN_RECORDS),
        ("person.channels_30d", _N, Source.OWN_RECORDS),
        ("application.changes", _N, Source.OWN_RECORDS),
        ("budget.available", _B, Source.CHANNEL),
    )
)
"""What only the transaction knows that makes the decision durable."""

_DECLARABLE = {FieldKind.NUMBER, FieldKind.MONEY, FieldKind.CHOICE, FieldKind.BOOLEAN, FieldKind.DATE, FieldKind.TEXT}


def declare_attribute(
    *,
    name: str,
    kind: FieldKind,
    scale: int = 0,
    minimum: int = 0,
    maximum: int = MAX_MONEY,
    choices: Iterable[str] = (),
    ordered: bool = False,
    source: Source = Source.APPLICATION,
) -> Field:
    """A lender's own attribute; rules name it `attributes.<name>`.

    Raises:
        ValueError: where the kind cannot be declared or a choice has no choices.
    """
    if kind not in _DECLARABLE:
        raise ValueError(f"cannot be a {kind}")
    options = tuple(choices)
    if (kind is FieldKind.CHOICE) != bool(options):
        raise ValueError("choices belong to a choice, and only to it")
    if len(set(options)) != len(options):
        raise ValueError("choices must differ")
    return Field(
        name=f"attributes.{name}",
        kind=kind,
        source=source,
        scale=scale,
        minimum=minimum,
        maximum=maximum,
        choices=options,
        ordered=ordered,
    )
