"""What a demo has in it: the default policy, channels of every kind and state, an originator and a key for each role.

Putting it in again changes nothing that is there, so that a demo goes on where it was left.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from app.api.examples import APPLICATION
from app.channels import registry, tiers
from app.db.changes import Change
from app.db.engine import connect, make_engine
from app.domain.channel import ChannelKind, ChannelState
from app.domain.compiler import compile_policy
from app.identities import keys
from app.identities.principal import ORIGINATOR_ROLES, Role
from app.policies import store
from app.policies.defaults import default_policy

ORIGINATOR = "demo-origination"
_ACTOR = "demo"
_KEYS: dict[str, tuple[Role, ...]] = {
    "origination": (Role.ORIGINATION, Role.OUTCOMES),
    "analyst": (Role.ANALYST,),
    "reviewer": (Role.REVIEWER,),
    "policy-author": (Role.POLICY_AUTHOR,),
    "policy-approver": (Role.POLICY_APPROVER,),
    "admin": (Role.ADMIN,),
}


@dataclass(frozen=True, slots=True)
class _DemoChannel:
    """`tier` None leaves the channel to the policy's default; `ends_in_days` None leaves the agreement open."""

    code: str
    name: str
    kind: ChannelKind
    state: ChannelState
    tier: str | None = None
    ends_in_days: int | None = 365
    aliases: tuple[str, ...] = ()


_CHANNELS = (
    _DemoChannel(
        "app-store", "Own app 自营应用", ChannelKind.ONLINE, ChannelState.ACTIVE, "prime", None, ("ios", "android")
    ),
    _DemoChannel("search-ads", "Search advertising 搜索推广", ChannelKind.ONLINE, ChannelState.ACTIVE),
    _DemoChannel("loan-market", "Aggregator 贷款超市", ChannelKind.ONLINE, ChannelState.ACTIVE, "risk", 55),
    _DemoChannel("branch-east", "Branches, east 东区网点", ChannelKind.OFFLINE, ChannelState.ACTIVE, "prime", None),
    _DemoChannel("shop-partner", "Partner shops 合作门店", ChannelKind.OFFLINE, ChannelState.PROBATION),
    _DemoChannel("broker-one", "Broker 中介一号", ChannelKind.INTERMEDIARY, ChannelState.ACTIVE, "risk", 25),
    _DemoChannel("lead-seller", "Lead seller 线索商", ChannelKind.INTERMEDIARY, ChannelState.SUSPENDED, "risk"),
    _DemoChannel("friend-referral", "Referral 老带新", ChannelKind.SOCIAL, ChannelState.ACTIVE, "general"),
    _DemoChannel("video-host", "Influencer 主播", ChannelKind.SOCIAL, ChannelState.PROBATION, None, 6),
    _DemoChannel("campus-group", "Campus groups 校园社群", ChannelKind.SOCIAL, ChannelState.PROPOSED),
)
_WAY: dict[ChannelState, tuple[ChannelState, ...]] = {
    ChannelState.PROPOSED: (),
    ChannelState.PROBATION: (ChannelState.PROBATION,),
    ChannelState.ACTIVE: (ChannelState.PROBATION, ChannelState.ACTIVE),
    ChannelState.SUSPENDED: (ChannelState.PROBATION, ChannelState.SUSPENDED),
}


async def seed(governance_url: str, *, now: datetime) -> None:
    """Put in what is absent: a policy where none is active, and the channels that are not on the list."""
    engine = make_engine(governance_url, pool_size=1, autocommit=True)
    try:
        await _publish_policy(engine)
        await _register_channels(engine, now)
    finally:
        await engine.dispose()


async def demo_keys(governance_url: str, file: Path) -> dict[str, str]:
    """The text of a key for each role: those of `file` while the database knows them all, else new ones."""
    connection = await connect(governance_url, purpose="demo")
    try:
        kept = _read_keys(file)
        now = datetime.now(UTC)
        known = {record.key_id for record in await keys.list_keys(connection) if record.state(now) == "valid"}
        if set(kept) == set(_KEYS) and all(text.split("_")[1] in known for text in kept.values()):
            return kept
        await keys.register_originator(connection, code=ORIGINATOR, name="Demo origination system", change=_change())
        made = {label: await _issue(connection, label, roles) for label, roles in _KEYS.items()}
    finally:
        await connection.close()
    _write_private(file, json.dumps(made, indent=2) + "\n")
    return made


def write_application(file: Path, *, now: datetime) -> None:
    """An application that the default policy accepts, with the dates of today: a credit report ages."""
    application: dict[str, Any] = deepcopy(APPLICATION)
    for field, before in {"submitted_at": 0, "completed_at": 1, "consent_at": 5}.items():
        application[field] = _text(now - timedelta(minutes=before))
    application["bureau"]["pulled_at"] = _text(now - timedelta(days=1))
    _write_private(file, json.dumps(application, indent=2, ensure_ascii=False) + "\n")


def write_environment(file: Path, variables: Mapping[str, str]) -> None:
    """Variables as a shell reads them."""
    _write_private(file, "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))


async def _publish_policy(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        if await store.active_policy(connection) is None:
            compiled = compile_policy(default_policy())
            await store.publish(
                connection, compiled, expected_active=None, comment="The default policy.", change=_change()
            )


async def _register_channels(engine: AsyncEngine, now: datetime) -> None:
    for wanted in _CHANNELS:
        async with engine.connect() as connection:
            if await registry.find_channel(connection, wanted.code) is not None:
                continue
            registration = registry.Registration(
                code=wanted.code,
                name=wanted.name,
                kind=wanted.kind,
                owner="demo",
                agreement_id=f"DEMO-{wanted.code}",
                valid_from=now,
                valid_to=None if wanted.ends_in_days is None else now + timedelta(days=wanted.ends_in_days),
            )
            await registry.register(connection, registration, reason="Part of the demo.", change=_change())
            for state in _WAY[wanted.state]:
                await registry.set_state(connection, wanted.code, state, reason="Part of the demo.", change=_change())
            for alias in wanted.aliases:
                await registry.put_alias(connection, wanted.code, alias, change=_change())
            if wanted.tier is not None:
                await _assign_tier(connection, wanted.code, wanted.tier)


async def _assign_tier(connection: Any, code: str, tier: str) -> None:
    await tiers.assign(
        connection,
        code,
        tiers.Scope(),
        tier=tier,
        valid_from=datetime.now(UTC),
        valid_to=None,
        cause=tiers.Cause.INITIAL,
        reason="Part of the demo.",
        change=_change(),
    )


async def _issue(connection: asyncpg.Connection, label: str, roles: tuple[Role, ...]) -> str:
    machine = not ORIGINATOR_ROLES.isdisjoint(roles)
    issued = await keys.issue(
        connection,
        label=f"demo {label}",
        roles=roles,
        originator_code=ORIGINATOR if machine else None,
        person_id=None if machine else f"demo-{label}",
        change=_change(),
    )
    return issued.text


def _read_keys(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_private(file: Path, text: str) -> None:
    """Only the user who runs the demo may read its keys."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)


def _change() -> Change:
    return Change(actor=_ACTOR, request_id=str(uuid7()))


def _text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
