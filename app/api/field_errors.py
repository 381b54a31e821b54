"""Pydantic's errors as pointers and rules, without a trace of the input.

Pydantic's own messages are not used: some quote the input (a union's tag, a character of a UUID), and a validator's
ValueError may. Each known error type has a sentence here whose holes are filled from the schema alone. A validator that
wants its words to reach the caller raises `PydanticCustomError` with a type that starts with `gate_`, and thereby
promises that they hold nothing of the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.api.problems import FieldError

PUBLIC_TYPE_PREFIX = "gate_"
MAX_ERRORS = 50
"""A body can hold thousands of faults; nobody reads more than this."""

_DETAILS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "json_invalid": "is not valid JSON",
    "json_type": "must be JSON",
    "recursion_depth_exceeded": "is nested too deeply",
    "none_required": "must be null",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "dict_type": "must be an object",
    "mapping_type": "must be an object",
    "invalid_key": "has a key that is not text",
    "list_type": "must be an array",
    "tuple_type": "must be an array",
    "set_type": "must be an array",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode text",
    "string_not_ascii": "must be ASCII text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "bytes_type": "must be text",
    "bytes_too_long": "must have at most {max_length} bytes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "is out of range",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "decimal_type": "must be a decimal number",
    "decimal_parsing": "must be a decimal number",
    "decimal_max_digits": "must have at most {max_digits} digits",
    "decimal_max_places": "must have at most {decimal_places} decimals",
    "decimal_whole_digits": "must have at most {whole_digits} digits before the decimal point",
    "enum": "must be one of {expected}",
    "literal_error": "must be one of {expected}",
    "union_tag_invalid": "must name one of {expected_tags}",
    "union_tag_not_found": "must say which kind it is",
    "date_type": "must be a date (YYYY-MM-DD)",
    "date_parsing": "must be a date (YYYY-MM-DD)",
    "date_from_datetime_parsing": "must be a date (YYYY-MM-DD)",
    "date_from_datetime_inexact": "must be a date without a time",
    "date_past": "must be in the past",
    "date_future": "must be in the future",
    "datetime_type": "must be an instant (RFC 3339)",
    "datetime_parsing": "must be an instant (RFC 3339)",
    "datetime_from_date_parsing": "must be an instant (RFC 3339)",
    "datetime_object_invalid": "must be an instant (RFC 3339)",
    "datetime_past": "must be in the past",
    "datetime_future": "must be in the future",
    "timezone_aware": "must name a UTC offset",
    "time_type": "must be a time of day",
    "time_parsing": "must be a time of day",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "uuid_version": "must be a UUID of version {expected_version}",
    "url_type": "must be a URL",
    "url_parsing": "must be a URL",
    "url_scheme": "must be a URL with the scheme {expected_schemes}",
    "url_too_long": "must have at most {max_length} characters",
}
_UNLISTED = "is not valid"

# A name that the caller chose is shown only where it looks like one of the schema: lower case, digits in short runs.
_PLAIN_NAME = re.compile(r"[a-z][a-z_.-]*(?:[0-9]{1,3}[a-z_.-]*){0,2}").fullmatch
# A place in a table: a rule's code or a section, with positions, such as `products.small_business` or `when[12].field`.
_PLAIN_PLACE = re.compile(r"[A-Za-z](?:[A-Za-z_.\[\]-]|(?<![0-9])[0-9]{1,4}(?![0-9]))*").fullmatch
_MAX_NAME_LENGTH = 64
NAME_NOT_SHOWN = "(a name that is not repeated here)"
_PLACES = {"query": "#/query", "path": "#/path", "header": "#/header", "cookie": "#/cookie"}
_KEY_MARK = "[key]"
# Some members of an enumeration, as a schema of literals lists them: `<ChannelState.ACTIVE: 'active'>`.
_MEMBER_OF_ENUM = re.compile(r"<\w+\.\w+: ('[^']*')>")
# Where a union fails, pydantic names its branches after the place: they are no part of the document.
_BRANCH = re.compile(r"int|str|float|bool|decimal|none|date|datetime|list|dict|constrained-.*|.*\[.*").fullmatch


def field_errors(errors: Iterable[Mapping[str, Any]]) -> tuple[FieldError, ...]:
    """The faults in the order found, at most `MAX_ERRORS`; the branches of a union at one place are one fault.

    `errors` is what pydantic's `ValidationError.errors()` or FastAPI's `RequestValidationError.errors()` gives; of an
    entry only `type`, `loc`, and of `ctx` what the schema put there are read.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        kind, location = str(error["type"]), list(error["loc"])
        detail = _detail(kind, error)
        prefix = ""
        if location and location[0] == "body":
            del location[0]
        elif location and location[0] in _PLACES:
            prefix = _PLACES[str(location.pop(0))]
        if kind == "json_invalid":
            location.clear()  # it is a position in the text
        if location and location[-1] == _KEY_MARK:
            del location[-2:]
            detail = f"holds a name that {detail}"
        slot = detail
        while len(location) > 1 and isinstance(location[-1], str) and _BRANCH(location[-1]):
            del location[-1]
            slot = "any of"
        pointer, hidden = _pointer(prefix, location)
        if hidden:
            detail = slot = "holds a field that is not known or not valid, whose name is not repeated here"
        details = found.setdefault((pointer, slot), [])
        if detail not in details:
            details.append(detail)
        if len(found) == MAX_ERRORS:
            break
    return tuple(FieldError(pointer=pointer, detail=_either(details)) for (pointer, _), details in found.items())


def _either(details: Sequence[str]) -> str:
    return details[0] + "".join(f" or {detail.removeprefix('must be ')}" for detail in details[1:])


def shown_place(place: str) -> str:
    """The row or column of a caller's table where it looks like one; else a placeholder."""
    plain = not place or (len(place) <= 2 * _MAX_NAME_LENGTH and _PLAIN_PLACE(place))
    return place if plain else NAME_NOT_SHOWN


def _detail(kind: str, error: Mapping[str, Any]) -> str:
    if kind.startswith(PUBLIC_TYPE_PREFIX):
        return str(error["msg"])
    template = _DETAILS.get(kind, _UNLISTED)
    try:
        return _MEMBER_OF_ENUM.sub(r"\1", template.format_map(error.get("ctx") or {}))
    except KeyError:
        return _UNLISTED


def _pointer(prefix: str, location: Sequence[object]) -> tuple[str, bool]:
    """A JSON pointer, and whether it ends early, before a name that may be an applicant's data."""
    parts = [prefix]
    for part in location:
        if isinstance(part, str) and (len(part) > _MAX_NAME_LENGTH or not _PLAIN_NAME(part)):
            return "/".join(parts), True
        parts.append(str(part))
    return "/".join(parts), False
