"""The immutable snapshot that a worker decides from. It is swapped whole, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson

from app.domain.budget import NO_BUDGETS, Budget, BudgetBook, BudgetId, Measure
from app.domain.channel import Channel, ChannelId, ChannelKind, ChannelState, TierAssignment
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.identities.keys import KEY_ROWS_SQL, KeyRing


@dataclass(frozen=True, slots=True)
class ListedChannel:
    """A channel and the revision that it was read at; a flush refuses what was decided under an older one."""

    channel: Channel
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenger:
    """A policy to evaluate beside the active one. Its document is not compiled here: another process does that."""

    number: int
    sample_ppm: int
    document: bytes

    @property
    def sample_below(self) -> int:
        """Of the 32-bit numbers, those below this one are sampled."""
        return self.sample_ppm * 2**32 // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that decisions rest on, as it was at one revision of the database.

    `channels` is keyed by code and by alias. `policy` is None until the first one has been published.
    """

    revision: int
    policy: CompiledPolicy | None
    channels: Mapping[str, ListedChannel]
    keyring: KeyRing
    originators: Mapping[str, int]
    challenger: Challenger | None = None
    budgets: BudgetBook = NO_BUDGETS

    @property
    def policy_version(self) -> int | None:
        """The version of the active policy."""
        return None if self.policy is None else self.policy.version


EMPTY = Snapshot(revision=-1, policy=None, channels={}, keyring=KeyRing.from_rows(()), originators={})

_STATE = "SELECT revision, policy_version, budget_revision FROM gate.state"
_POLICY = "SELECT document FROM gate.policies WHERE version = $1"
_CHALLENGER = "SELECT challenger_id, sample_ppm FROM gate.challengers WHERE cleared_at IS NULL"
_CHALLENGER_DOCUMENT = "SELECT document FROM gate.challengers WHERE challenger_id = $1"
_CHANNELS = """
    SELECT c.channel_id, c.code, c.kind, c.state, c.valid_from, c.valid_to, c.revision,
           ARRAY(SELECT a.alias FROM gate.channel_aliases a WHERE a.channel_id = c.channel_id) AS aliases
    FROM gate.channels c WHERE c.revision > $1
"""
_ASSIGNMENTS = """
    SELECT s.channel_id, s.product, s.jurisdiction, a.tier, lower(a.valid) AS valid_from, upper(a.valid) AS valid_to
    FROM gate.channels c JOIN gate.scopes s USING (channel_id) JOIN gate.tier_assignments a USING (scope_id)
    WHERE c.revision > $1 AND (upper_inf(a.valid) OR upper(a.valid) > now() - interval '1 hour')
"""
_KEYS = f"{KEY_ROWS_SQL} WHERE k.revoked_at IS NULL OR k.revoked_at > now() - interval '1 hour'"
_BUDGETS = """
    SELECT budget_id, measure, channel_id, tier, product, jurisdiction, currency, loss_rate_ppm::text
    FROM gate.budgets WHERE ended_at IS NULL ORDER BY budget_id
"""
_ORIGINATORS = "SELECT code, originator_id FROM gate.originators"


async def read_snapshot(connection: asyncpg.Connection, before: Snapshot) -> Snapshot:
    """The newest snapshot, built on `before`: only channels that have changed since are read.

    Raises:
        asyncpg.PostgresError, OSError: where the database is away.
        PolicyError: where the active policy does not compile with this version of the service.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        revision, version, budget_revision = await connection.fetchrow(_STATE)
        if revision == before.revision:
            return before
        policy = before.policy
        if version is not None and version != before.policy_version:
            policy = compile_policy(orjson.loads(await connection.fetchval(_POLICY, version)), version=version)
        changed = await connection.fetch(_CHANNELS, before.revision)
        assignments = await connection.fetch(_ASSIGNMENTS, before.revision) if changed else []
        keys = await connection.fetch(_KEYS)
        originators = await connection.fetch(_ORIGINATORS)
        challenger = await _read_challenger(connection, before.challenger)
        budgets = before.budgets
        if budget_revision != budgets.revision:
            budgets = BudgetBook(budget_revision, map(_budget, await connection.fetch(_BUDGETS)))
    return replace(
        before,
        revision=revision,
        policy=policy,
        channels=_merge(before.channels, changed, assignments) if changed else before.channels,
        keyring=KeyRing.from_rows(keys),
        originators=dict(map(tuple, originators)),
        challenger=challenger,
        budgets=budgets,
    )


async def _read_challenger(connection: asyncpg.Connection, before: Challenger | None) -> Challenger | None:
    row = await connection.fetchrow(_CHALLENGER)
    if row is None:
        return None
    number, sample_ppm = row
    if before is not None and before.number == number:
        return before
    document: str = await connection.fetchval(_CHALLENGER_DOCUMENT, number)
    return Challenger(number=number, sample_ppm=sample_ppm, document=document.encode())


def _merge(
    before: Mapping[str, ListedChannel], changed: list[asyncpg.Record], assignments: list[asyncpg.Record]
) -> Mapping[str, ListedChannel]:
    tiers: dict[int, list[TierAssignment]] = {}
    for row in assignments:
        tiers.setdefault(row["channel_id"], []).append(_assignment(row))
    gone = {row["channel_id"] for row in changed}
    channels = {code: listed for code, listed in before.items() if listed.channel.channel_id not in gone}
    for row in changed:
        listed = ListedChannel(_channel(row, tuple(tiers.get(row["channel_id"], ()))), row["revision"])
        for code in (row["code"], *row["aliases"]):
            channels[code] = listed
    return channels


def _budget(row: Mapping[str, Any]) -> Budget:
    rates = row["loss_rate_ppm"]
    return Budget(
        budget_id=BudgetId(row["budget_id"]),
        measure=Measure(row["measure"]),
        channel_id=row["channel_id"],
        tier=row["tier"],
        product=row["product"],
        jurisdiction=row["jurisdiction"],
        currency=row["currency"],
        loss_rate_ppm=None if rates is None else orjson.loads(rates),
    )


def _assignment(row: Mapping[str, Any]) -> TierAssignment:
    return TierAssignment(
        tier=row["tier"],
        valid_from=_utc(row["valid_from"]),
        valid_to=row["valid_to"] and _utc(row["valid_to"]),
        product=row["product"],
        jurisdiction=row["jurisdiction"],
    )


def _channel(row: Mapping[str, Any], assignments: tuple[TierAssignment, ...]) -> Channel:
    return Channel(
        channel_id=ChannelId(row["channel_id"]),
        code=row["code"],
        kind=ChannelKind(row["kind"]),
        state=ChannelState(row["state"]),
        valid_from=_utc(row["valid_from"]),
        valid_to=row["valid_to"] and _utc(row["valid_to"]),
        assignments=assignments,
    )


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)
