"""How a person signs a change, so that who carries the signature can use it for nothing else.

The secret stays with the person. The database keeps `stored_key`, from which nobody can sign; a service that carries a
proof has no stored key, without which the proof gives no key away. Source: SCRAM, RFC 5802, section 3, with a random
secret of 256 bits in place of a salted password. `gate.require_signature` of the database is the other half.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from app.domain.canonical import instant_text

Act: TypeAlias = Literal["submit", "approve", "break-glass", "confirm", "request"]

_NOTHING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a person signs.

    subject: `policy`, `draft/<id>`, `break-glass/<id>`, `request/<id>` or `<kind>:<subject of a change>`.
    nonce: of the signer's own for what begins something, that of what is approved or confirmed otherwise.
    digest: SHA-256 of the document or payload. moment: from when on a draft holds, or when a break-glass ends.
    """

    act: Act
    subject: str
    nonce: str
    digest: bytes
    report_digest: bytes | None = None
    moment: datetime | None = None
    warnings: tuple[str, ...] = ()

    def message(self) -> bytes:
        """The eight lines that are signed, in UTF-8."""
        lines = (
            "channel-gate v1",
            self.act,
            self.subject,
            self.nonce,
            self.digest.hex(),
            _NOTHING if self.report_digest is None else self.report_digest.hex(),
            _NOTHING if self.moment is None else instant_text(self.moment),
            ",".join(_sorted(self.warnings)) or _NOTHING,
        )
        return "\n".join(lines).encode()


def stored_key(secret: str) -> bytes:
    """What the database keeps of a secret, 32 bytes."""
    return hashlib.sha256(_key(secret)).digest()


def prove(secret: str, statement: Statement) -> bytes:
    """The proof, 32 bytes, that who holds the secret signed this statement."""
    key = _key(secret)
    mask = hmac.digest(hashlib.sha256(key).digest(), statement.message(), "sha256")
    return bytes(left ^ right for left, right in zip(key, mask, strict=True))


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _sorted(warnings: Iterable[str]) -> list[str]:
    return sorted(set(warnings), key=str.encode)
