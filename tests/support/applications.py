"""Applications as an origination system sends them, with dates of today."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from app.api.examples import APPLICATION


def application(application_id: str, **changes: Any) -> dict[str, Any]:
    """One that the default policy accepts through a prime channel, but for `changes`; a dict changes single fields."""
    body = deepcopy(APPLICATION)
    body["application_id"] = application_id
    body["applicant"]["applicant_ref"] = f"p-{application_id}"  # a person has one open accept
    now = datetime.now(UTC).replace(microsecond=0)
    for field in ("submitted_at", "completed_at", "consent_at"):
        body[field] = now.isoformat()
    body["bureau"]["pulled_at"] = (now - timedelta(days=1)).isoformat()
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(body.get(name), dict):
            body[name] |= value
        else:
            body[name] = value
    return body
