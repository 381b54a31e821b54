"""What is kept of a request, and what makes two requests the same."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import orjson

NOT_DECIDING = frozenset({"submitted_at", "completed_at", "consent_at", "revision"})
"""Left out of the fingerprint: time stamps, which a retry may set anew, and what is part of the key already."""


class ReceivedRequest(NamedTuple):
    """`input` is the body as JSON with sorted keys and without nulls; `fingerprint` the SHA-256 of what decides in it.

    Both come from the received JSON and not from the code's model of it, so that a new version of the service takes
    yesterday's retry for what it is.
    """

    input: bytes
    fingerprint: bytes


def receive(body: bytes) -> ReceivedRequest:
    """Read a body that has been validated: a JSON object.

    Raises:
        orjson.JSONDecodeError: where it is not JSON.
    """
    document = orjson.loads(body)
    if b"null" in body:
        document = _without_nulls(document)
    kept = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    for name in NOT_DECIDING:
        document.pop(name, None)
    return ReceivedRequest(kept, hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).digest())


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_nulls(item) if type(item) is dict else item for name, item in value.items() if item is not None
    }
