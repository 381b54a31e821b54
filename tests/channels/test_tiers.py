"""Tier assignments: half-open, never overlapping, never rewritten, whoever tries."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.channels import tiers
from app.channels.tiers import Assignment, Cause, Scope
from app.db.changes import ConflictingChangeError, InvalidChangeError
from app.domain.channel import Channel, TierAssignment
from tests.channels.builders import CHANGE, LAUNCH, register
from tests.support.cluster import Database

ANYWHERE = Scope()
MOMENT = timedelta(microseconds=1)
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


async def _assign(
    engine: AsyncEngine,
    tier: str,
    valid_from: datetime,
    valid_to: datetime | None = None,
    scope: Scope = ANYWHERE,
    cause: Cause = Cause.MANUAL,
) -> Assignment:
    async with engine.begin() as connection:
        return await tiers.assign(
            connection,
            "web",
            scope,
            tier=tier,
            valid_from=valid_from,
            valid_to=valid_to,
            cause=cause,
            reason="test",
            change=CHANGE,
        )


async def _tier_at(engine: AsyncEngine, at: datetime, scope: Scope = ANYWHERE) -> str | None:
    async with engine.connect() as connection:
        found = await tiers.assignment_at(connection, "web", scope, at)
    return None if found is None else found.tier


async def test_at_the_very_moment_of_a_change_the_new_tier_holds(governance: AsyncEngine) -> None:
    await register(governance)
    await _assign(governance, "prime", SOON)
    change = SOON + timedelta(days=30)
    await _assign(governance, "risk", change)
    assert await _tier_at(governance, SOON - MOMENT) is None
    assert await _tier_at(governance, SOON) == "prime"
    assert await _tier_at(governance, change - MOMENT) == "prime"
    assert await _tier_at(governance, change) == "risk"


async def test_an_assignment_does_not_hold_at_its_end(governance: AsyncEngine) -> None:
    await register(governance)
    end = SOON + timedelta(days=1)
    await _assign(governance, "prime", SOON, end)
    assert await _tier_at(governance, end - MOMENT) == "prime"
    assert await _tier_at(governance, end) is None
    await _assign(governance, "risk", end)
    assert await _tier_at(governance, end) == "risk"


async def test_an_overlap_is_refused(governance: AsyncEngine) -> None:
    await register(governance)
    later = SOON + timedelta(days=30)
    await _assign(governance, "prime", later, later + timedelta(days=10))
    for start, end in ((-5, 1), (0, 10), (3, 4), (9, 20), (9, None), (-5, None), (-5, 20)):
        with pytest.raises(ConflictingChangeError):
            await _assign(
                governance,
                "risk",
                later + timedelta(days=start),
                None if end is None else later + timedelta(days=end),
            )


async def test_an_empty_or_backward_assignment_is_refused(governance: AsyncEngine) -> None:
    await register(governance)
    for end in (SOON, SOON - MOMENT):
        with pytest.raises(InvalidChangeError):
            await _assign(governance, "prime", SOON, end)


async def test_history_is_not_rewritten(governance: AsyncEngine) -> None:
    await register(governance)
    past = datetime.now(UTC) - timedelta(hours=1)
    with pytest.raises(InvalidChangeError):
        await _assign(governance, "prime", past)
    await _assign(governance, "prime", past, cause=Cause.INITIAL)
    with pytest.raises(InvalidChangeError):
        await _assign(governance, "risk", past + timedelta(minutes=1), cause=Cause.INITIAL)


async def test_the_most_specific_scope_wins_and_a_product_weighs_more(governance: AsyncEngine) -> None:
    await register(governance)
    await _assign(governance, "general", SOON)
    await _assign(governance, "risk", SOON, scope=Scope(jurisdiction="CN-SH"))
    await _assign(governance, "prime", SOON, scope=Scope(product="small_business"))
    both = Scope(product="small_business", jurisdiction="CN-SH")
    assert await _tier_at(governance, SOON) == "general"
    assert await _tier_at(governance, SOON, Scope(product="other", jurisdiction="CN-BJ")) == "general"
    assert await _tier_at(governance, SOON, Scope(product="other", jurisdiction="CN-SH")) == "risk"
    assert await _tier_at(governance, SOON, both) == "prime"
    await _assign(governance, "risk", SOON, scope=both)
    assert await _tier_at(governance, SOON, both) == "risk"


async def test_the_database_and_the_domain_give_the_same_tier(governance: AsyncEngine) -> None:
    channel = await register(governance)
    choose = random.Random(20261124)
    for _ in range(40):
        start = choose.randrange(0, 40)
        scope = Scope(product=choose.choice([None, "p", "q"]), jurisdiction=choose.choice([None, "CN", "US"]))
        end = choose.choice([None, SOON + timedelta(days=start + choose.randrange(1, 9))])
        try:
            await _assign(
                governance, choose.choice(["prime", "general", "risk"]), SOON + timedelta(days=start), end, scope
            )
        except ConflictingChangeError:
            continue
    async with governance.connect() as connection:
        stored = await tiers.history(connection, channel.channel_id)
        assert len(stored) > 10
        held = Channel(
            channel_id=channel.channel_id,
            code="web",
            kind=channel.kind,
            state=channel.state,
            valid_from=LAUNCH,
            assignments=tuple(
                TierAssignment(
                    tier=each.tier,
                    valid_from=each.valid_from,
                    valid_to=each.valid_to,
                    product=each.scope.product,
                    jurisdiction=each.scope.jurisdiction,
                )
                for each in stored
            ),
        )
        for day in range(-1, 52):
            for product in ("p", "q", "r"):
                for jurisdiction in (None, "CN", "US"):
                    at = SOON + timedelta(days=day)
                    scope = Scope(product=product, jurisdiction=jurisdiction)
                    found = await tiers.assignment_at(connection, "web", scope, at)
                    assert (found and found.tier) == held.tier(product, jurisdiction, at)


async def test_fifty_concurrent_assignments_never_overlap(governance: AsyncEngine) -> None:
    await register(governance)
    choose = random.Random(7)

    async def attempt(number: int) -> bool:
        start = SOON + timedelta(days=choose.randrange(0, 20))
        end = choose.choice([None, start + timedelta(days=choose.randrange(1, 10))])
        try:
            await _assign(governance, "prime" if number % 2 else "risk", start, end)
        except ConflictingChangeError:
            return False
        return True

    done = await asyncio.gather(*(attempt(number) for number in range(50)))
    async with governance.connect() as connection:
        overlaps = await connection.scalar(
            text(
                "SELECT count(*) FROM gate.tier_assignments a JOIN gate.tier_assignments b USING (scope_id)"
                " WHERE a.assignment_id < b.assignment_id AND a.valid && b.valid"
            )
        )
        stored = await connection.scalar(text("SELECT count(*) FROM gate.tier_assignments"))
    assert overlaps == 0
    assert stored == sum(done)
    assert 0 < sum(done) < 50


async def test_not_even_the_owner_stores_an_overlap_or_rewrites_an_assignment(
    governance: AsyncEngine, database: Database
) -> None:
    await register(governance)
    stored = await _assign(governance, "prime", SOON, SOON + timedelta(days=10))
    owner = await asyncpg.connect(database.owner)
    try:
        with pytest.raises(asyncpg.ExclusionViolationError):
            await owner.execute(
                "INSERT INTO gate.tier_assignments (scope_id, tier, valid, cause, assigned_by)"
                " SELECT scope_id, tier, tstzrange($1, $2), cause, assigned_by FROM gate.tier_assignments",
                SOON + timedelta(days=9),
                SOON + timedelta(days=11),
            )
        for attack in (
            "UPDATE gate.tier_assignments SET tier = 'risk'",
            "UPDATE gate.tier_assignments SET valid = tstzrange(lower(valid), upper(valid) - interval '1 day')",
            "DELETE FROM gate.tier_assignments",
        ):
            with pytest.raises(asyncpg.PostgresError) as refused:
                await owner.execute(attack)
            assert refused.value.sqlstate == "CG403"
    finally:
        await owner.close()
    assert await _tier_at(governance, SOON + timedelta(days=9)) == stored.tier
