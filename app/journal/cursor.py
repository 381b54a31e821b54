"""Where a listing of the log continues: opaque to callers, checked when it comes back, and not moved by new rows."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

_FORMAT = struct.Struct(">Bq16s")
_VERSION = 1
_CHECK_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_ID = UUID(int=0)
_LATEST = datetime.max.replace(tzinfo=UTC)


class CursorError(ValueError):
    """The text is no cursor of this listing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What is still to come: decided before `decided_before`, and with an id below `below` where one is given."""

    decided_before: datetime
    below: UUID | None = None


def encode_cursor(position: Position, question: bytes) -> str:
    """`position` as text that only the listing of the same `question` takes back."""
    microseconds = (position.decided_before - _EPOCH) // _MICROSECOND
    packed = _FORMAT.pack(_VERSION, microseconds, (position.below or _NO_ID).bytes)
    return base64.urlsafe_b64encode(packed + _check(packed, question)).rstrip(b"=").decode()


def decode_cursor(text: str, question: bytes) -> Position:
    """The position in a cursor.

    Raises:
        CursorError: where `text` was not made by `encode_cursor` for this question.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise CursorError("is not a cursor") from None
    packed, check = raw[: _FORMAT.size], raw[_FORMAT.size :]
    if len(packed) != _FORMAT.size or check != _check(packed, question):
        raise CursorError("belongs to another listing: repeat the filters that it was given for")
    version, microseconds, below = _FORMAT.unpack(packed)
    if version != _VERSION or not 0 <= microseconds <= (_LATEST - _EPOCH) // _MICROSECOND:
        raise CursorError("is not a cursor")
    identifier = UUID(bytes=below)
    return Position(
        decided_before=_EPOCH + microseconds * _MICROSECOND, below=None if identifier == _NO_ID else identifier
    )


def _check(packed: bytes, question: bytes) -> bytes:
    return sha256(question + packed).digest()[:_CHECK_BYTES]
