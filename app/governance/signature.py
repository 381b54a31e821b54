"""A signature as it is carried to the database: whose it is, and the proof."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who signs, and the 32 bytes that prove it; see `app.domain.signing`."""

    person_id: str
    proof: bytes = field(repr=False)


def new_nonce() -> str:
    """A nonce for what begins something: 128 random bits, so that no two statements are the same."""
    return secrets.token_hex(16)
