"""What the check of an API key costs: `python -m benchmarks keys`."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from rich.console import Console

from app.identities.keys import KeyRing

_KEYS, _CHECKS, _ROUNDS = 500, 500, 20


def measure_keys(console: Console) -> None:
    """The best of many rounds, in microseconds a check, with so many keys in the ring."""
    now = datetime.now(UTC)
    ring = KeyRing.from_rows(
        [
            {
                "key_id": f"key{number}",
                "originator_id": 1,
                "originator_code": "bench",
                "person_id": None,
                "secret_hash": sha256(f"secret {number}".encode()).digest(),
                "label": "bench",
                "roles": ["origination"],
                "rate_limit_per_second": None,
                "created_at": now - timedelta(days=1),
                "expires_at": None,
                "revoked_at": None,
            }
            for number in range(_KEYS)
        ]
    )
    value = b"Bearer cgk_key250_secret 250"
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(_CHECKS):
            ring.authenticate(value, now)
        best = min(best, (time.perf_counter() - began) / _CHECKS)
    console.print(f"{best * 1e6:.2f} microseconds a check, of {_KEYS} keys")
