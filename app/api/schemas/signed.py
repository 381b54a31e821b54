"""What is signed by a person, as the API reads it: digest, proof and nonce, and examples of them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

SHOWN_PROOF = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
SHOWN_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
SIGNED = {"nonce": "f4c9385fdf8f4c0b8a1d2b3c4d5e6f70", "proof": SHOWN_PROOF}


def example(**shown: Any) -> ConfigDict:
    """An example of the form: a real proof fits one statement of one person."""
    return ConfigDict(json_schema_extra={"examples": [shown]})


Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[Hex32, Field(description="SHA-256, hex.")]
Proof = Annotated[
    Hex32,
    Field(description="Proof that the caller signed, hex. `docs/governance.md` says what is signed and how."),
]
Nonce = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9-]{16,64}$"),
    Field(description="Of the signer's own, new each time."),
]
