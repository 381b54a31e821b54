"""Opaque cursors of listings: where the next page begins, in a form that nobody is tempted to compute."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import TypeVar

from app.api.problems import FieldError, Problem, ProblemType

Row = TypeVar("Row")

_MAX_LENGTH = 200


def to_cursor(key: str | int) -> str:
    """The cursor of a page that begins after `key`."""
    return urlsafe_b64encode(str(key).encode()).decode().rstrip("=")


def page_of(found: Sequence[Row], limit: int, key: Callable[[Row], str | int]) -> tuple[Sequence[Row], str | None]:
    """The rows of a page and the cursor of the next one, of what was found when one row more than `limit` was asked."""
    page = found[:limit]
    return page, to_cursor(key(page[-1])) if len(found) > limit else None


def text_of(cursor: str | None) -> str | None:
    """The key of a cursor.

    Raises:
        Problem: invalid-request, where it is none of ours.
    """
    if cursor is None:
        return None
    try:
        if len(cursor) > _MAX_LENGTH:
            raise ValueError
        key = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
        if not key.isprintable() or to_cursor(key) != cursor:
            raise ValueError
    except (ValueError, UnicodeError, binascii.Error):
        raise _not_ours() from None
    return key


def number_of(cursor: str | None, largest: int = 10**18) -> int | None:
    """The key of a cursor over numbers, of which `largest` is the largest that the database can be asked for.

    Raises:
        Problem: invalid-request, where it is none of ours.
    """
    key = text_of(cursor)
    if key is None:
        return None
    if not key.isdigit() or len(key) > 18:
        raise _not_ours()
    return min(int(key), largest)


def _not_ours() -> Problem:
    fault = FieldError(pointer="#/query/cursor", detail="is not a cursor of this listing")
    return Problem(ProblemType.INVALID_REQUEST, errors=[fault])
