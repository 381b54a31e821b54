"""Applications, channels and policies for tests, each one change away from a good one."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from app.domain.application import LoanApplication
from app.domain.channel import Channel, ChannelId, ChannelKind, ChannelState, Standing
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.intake import read_application
from app.domain.screening import Screening, screen
from app.policies.defaults import default_policy

AT = datetime(2026, 1, 15, 8, 0, tzinfo=UTC)
TIERS = ("prime", "general", "risk")
DECISION_ID = "019b0000-0000-7000-8000-000000000001"

_GOOD: dict[str, Any] = default_policy()["cases"][0]["application"]
_GOOD_BUSINESS = {"months_trading": 60, "annual_revenue": 120_000_000, "owner_guarantee": True}


@cache
def policy() -> CompiledPolicy:
    """The default policy, compiled once."""
    return compile_policy(default_policy(), version=7)


def payload(**changes: object) -> dict[str, Any]:
    """A good application's request. `bureau__score=500` changes a nested value, `amount=1` one at the top."""
    request = deepcopy(_GOOD)
    for path, value in changes.items():
        section, _, name = path.rpartition("__")
        (request.setdefault(section, {}) if section else request)[name] = value
    return request


def business_payload(**changes: object) -> dict[str, Any]:
    """A good small business's request."""
    return payload(**{"product": "small_business", "business": dict(_GOOD_BUSINESS), **changes})


def unknown(**causes: str) -> dict[str, str]:
    """Causes by field, beside the one that a good application states: no bankruptcy on file."""
    return {"bureau.bankruptcy_months_ago": "not_found"} | {
        name.replace("__", "."): cause for name, cause in causes.items()
    }


def application(**changes: object) -> LoanApplication:
    """A good application as the domain reads it."""
    return read_application(payload(**changes), policy())


def standing(tier: str = "general", *, served: bool = True, state: ChannelState = ChannelState.ACTIVE) -> Standing:
    """A channel that stands in a tier of its own rules and ceiling."""
    return Standing(
        channel_id=ChannelId(1),
        code="own-app",
        state=state,
        served=served,
        tier=tier,
        rules_tier=tier,
        ceiling_tier=tier,
    )


def channel(**changes: Any) -> Channel:
    """An active channel without any assignment."""
    values: dict[str, Any] = {
        "channel_id": ChannelId(1),
        "code": "own-app",
        "kind": ChannelKind.ONLINE,
        "state": ChannelState.ACTIVE,
        "valid_from": AT - timedelta(days=365),
    }
    return Channel(**values | changes)


def screened(tier: str = "general", **changes: object) -> Screening:
    """The screening of a good application with changes, by the default policy."""
    return screen(policy(), standing(tier), application(**changes), AT)


def codes(screening: Screening) -> list[str]:
    """The codes of the reasons, in their rank."""
    return [reason.code for reason in screening.reasons]
