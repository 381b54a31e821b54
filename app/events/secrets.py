"""Secrets and signatures of webhooks, by the Standard Webhooks convention.

A secret is HMAC-SHA256(key, salt): the salt lies in the database, the key is a setting of the service's processes. So a
secret can be shown once and signed with for as long as it lives, and neither the database nor a backup of it holds it.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from uuid import UUID

_PREFIX = "whsec_"
_LABEL = b"channel-gate webhook secret 1\x00"
_KEY_BYTES = 32
SALT_BYTES = 32


class UnknownKeyError(Exception):
    """A secret was made with a key that this process was not given."""


@dataclass(frozen=True, slots=True)
class SecretKeys:
    """The keys that secrets are derived with, by id. The first one makes new secrets."""

    _keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> SecretKeys:
        """The keys of a setting: base64 of 32 bytes each, separated by commas, the newest first.

        Raises:
            ValueError: where one is not that. The text shows no key.
        """
        keys: dict[str, bytes] = {}
        for part in text.split(","):
            try:
                key = b64decode(part.strip(), validate=True)
            except ValueError:
                key = b""
            if len(key) != _KEY_BYTES:
                raise ValueError("each key must be base64 of 32 bytes")
            keys[sha256(key).hexdigest()[:16]] = key
        return cls(keys)

    @property
    def newest(self) -> str:
        """The id of the key that makes new secrets."""
        return next(iter(self._keys))

    def secret(self, key_id: str, salt: bytes) -> bytes:
        """The 32 bytes of a secret.

        Raises:
            UnknownKeyError: where the key is not among these.
        """
        key = self._keys.get(key_id)
        if key is None:
            raise UnknownKeyError("the webhook secret was made with another key")
        return hmac.digest(key, _LABEL + salt, "sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A secret at the moment at which it is made: what the database keeps of it, and its text."""

    salt: bytes
    key_id: str
    text: str = field(repr=False)


def new_secret(keys: SecretKeys) -> NewSecret:
    """A secret of 256 bits."""
    salt = secrets.token_bytes(SALT_BYTES)
    text = _PREFIX + b64encode(keys.secret(keys.newest, salt)).decode()
    return NewSecret(salt=salt, key_id=keys.newest, text=text)


def signed_headers(event_id: UUID, body: bytes, held: Iterable[bytes], at: datetime) -> dict[str, str]:
    """The headers of one attempt: id, time of this attempt, and a signature with each of the secrets `held`."""
    stamp = str(int(at.timestamp()))
    signed = f"{event_id}.{stamp}.".encode() + body
    signatures = (b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in held)
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
