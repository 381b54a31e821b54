"""From the text of a cell to the value of a payload. Exact: no binary fraction is ever made.

Every function raises `ConversionError` with words that name the rule and never the value.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

Rounding: TypeAlias = Literal["exact", "up", "down", "half_up"]
"""What happens to decimals beyond those kept: `exact` refuses them, up and down are away from and towards 0."""

MAX_DECIMALS = 6

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]*)?|[+-]?[0-9]*,?[0-9]*", re.ASCII)
_MAX_DIGITS = 40
_LIMIT = 10**18
"""No whole number of a payload is this large; JSON readers take 64 bits."""


class ConversionError(ValueError):
    """A cell that cannot be converted as the mapping says."""


def number(text: str, *, decimal_comma: bool = False) -> Decimal:
    """The number that is written: plain or in scientific notation; with `decimal_comma` as 1.234,56."""
    plain = text
    if decimal_comma:
        if not _GROUPED.fullmatch(text):
            raise ConversionError("must be a number with a decimal comma")
        plain = text.replace(".", "").replace(",", ".")
    if len(plain) > _MAX_DIGITS or not _NUMBER.fullmatch(plain):
        raise ConversionError("must be a number")
    return Decimal(plain)


def at_scale(value: Decimal, scale: int, rounding: Rounding = "exact", factor: int = 1) -> int:
    """`value` times `factor` as an integer at `scale` decimals."""
    numerator, denominator = value.as_integer_ratio()
    return divide(numerator * factor * 10**scale, denominator, rounding, scale)


def divide(numerator: int, denominator: int, rounding: Rounding, scale: int) -> int:
    """The quotient as a whole number; `scale` only words the refusal. `denominator` is above 0."""
    whole, rest = divmod(abs(numerator), denominator)
    if rest:
        match rounding:
            case "exact":
                raise ConversionError(f"must have at most {scale} decimals" if scale else "must be a whole number")
            case "up":
                whole += 1
            case "half_up":
                whole += 2 * rest >= denominator
            case "down":
                pass
    if whole >= _LIMIT:
        raise ConversionError("is out of range")
    return whole if numerator >= 0 else -whole


def decimal_value(scaled: int, scale: int) -> int | str:
    """How a payload carries an integer at a scale: whole numbers as themselves, fractions as decimal text."""
    if scale == 0:
        return scaled
    return format(Decimal(scaled).scaleb(-scale), "f")


def boolean(text: str, true_values: Collection[str], false_values: Collection[str]) -> bool:
    """Whether the text is one of those that mean yes, in any case of letters."""
    folded = text.casefold()
    if folded in true_values:
        return True
    if folded in false_values:
        return False
    raise ConversionError("must be one of the texts that mean yes or no")


def calendar_date(text: str, pattern: str | None) -> str:
    """ISO 8601 of a date written by `pattern` (strptime), or ISO already, also where a time of day follows."""
    try:
        if pattern is not None:
            return datetime.strptime(text, pattern).date().isoformat()  # noqa: DTZ007 (a calendar date has no zone)
        return date.fromisoformat(text[:10]).isoformat() if text[10:11] in {"", "T", " "} else _refuse_date()
    except ValueError:
        return _refuse_date()


def _refuse_date() -> str:
    raise ConversionError("must be a date as the mapping's format says")


def instant(text: str, pattern: str | None, zone: ZoneInfo | None) -> str:
    """RFC 3339 in UTC. A time without an offset is local to `zone`; of two equal local times the first is meant."""
    try:
        at = datetime.strptime(text, pattern) if pattern is not None else datetime.fromisoformat(text)  # noqa: DTZ007
    except ValueError:
        raise ConversionError("must be a time as the mapping's format says") from None
    if at.tzinfo is None:
        if zone is None:
            raise ConversionError("must name a UTC offset, because the mapping names no time zone")
        at = at.replace(tzinfo=zone)
        if at.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != at.replace(tzinfo=None):
            raise ConversionError("must be a time that exists in the mapping's time zone")
    try:
        return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError):
        raise ConversionError("must be a time within the calendar") from None
