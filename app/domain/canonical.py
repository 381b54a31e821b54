"""One byte sequence for one value, so that equal decisions are equal bytes and hashes can be compared."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeAlias

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


def canonical_bytes(value: object) -> bytes:
    """JSON in UTF-8 with sorted keys and no spaces. `value` holds no float: see `without_floats`."""
    return _encode(value).encode()


def digest(content: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(content).digest()


def without_floats(value: object) -> Json:
    """A copy of a parsed document in which every fractional number is its shortest decimal text.

    Raises:
        TypeError: for anything that JSON does not know (dates of YAML become ISO text, sets are refused).
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        return _decimal_text(Decimal(repr(value)) if isinstance(value, float) else value)
    if isinstance(value, Mapping):
        return {str(key): without_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_floats(item) for item in value]
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"{type(value).__name__} is not a JSON value")


_UNSTORABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def storable(value: Json) -> bool:
    """Whether every text in `value`, keys included, is free of control characters and lone surrogates."""
    if isinstance(value, str):
        return _UNSTORABLE.search(value) is None
    if isinstance(value, dict):
        return all(storable(key) and storable(item) for key, item in value.items())
    return not isinstance(value, list) or all(storable(item) for item in value)


def _decimal_text(number: Decimal) -> Json:
    if not number.is_finite():
        raise TypeError("a number must be finite")
    if abs(number.adjusted()) > 40:
        raise TypeError("a number is out of range")
    integral = number.to_integral_value()
    return int(integral) if integral == number else format(number, "f").rstrip("0")


def instant_text(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds, always the same length."""
    in_utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return in_utc.isoformat("T", "microseconds")[:-6] + "Z"


def parse_instant(text: str) -> datetime:
    """The inverse of `instant_text`.

    Raises:
        ValueError: where the text is no RFC 3339 instant or names no offset.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("an instant needs a UTC offset")
    return at
