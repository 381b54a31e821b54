"""Channels and tiers: up by two persons, down by one at once, and an override that ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.channels import registry, tiers
from app.channels.tiers import Cause, Scope
from app.db.changes import ConflictingChangeError, ForbiddenChangeError, InvalidChangeError
from app.domain.channel import ChannelState
from app.domain.signing import Statement
from app.governance.requests import (
    ChangeRequest,
    WantedChange,
    approve_change,
    channel_move,
    request_change,
    tier_change,
)
from app.governance.signature import new_nonce
from tests.channels.builders import register
from tests.governance.people import APPROVER, AUTHOR, CHANGE, People
from tests.support.cluster import eventually


async def _ask(engine: AsyncEngine, people: People, wanted: WantedChange) -> ChangeRequest:
    nonce = new_nonce()
    statement = Statement(act="request", subject=wanted.signed_subject, nonce=nonce, digest=wanted.digest)
    async with engine.begin() as connection:
        return await request_change(
            connection,
            wanted,
            reason="good figures",
            signature=people.sign(AUTHOR, statement),
            nonce=nonce,
            change=CHANGE,
        )


async def _grant(engine: AsyncEngine, people: People, asked: ChangeRequest, person_id: str = APPROVER) -> ChangeRequest:
    statement = Statement(act="approve", subject=f"request/{asked.change_id}", nonce=asked.nonce, digest=asked.digest)
    async with engine.begin() as connection:
        return await approve_change(
            connection,
            asked.change_id,
            signature=people.sign(person_id, statement),
            payload_digest=asked.digest,
            comment=None,
            change=CHANGE,
        )


async def _both(engine: AsyncEngine, people: People, wanted: WantedChange) -> ChangeRequest:
    return await _grant(engine, people, await _ask(engine, people, wanted))


async def _tier(engine: AsyncEngine, scope: Scope | None = None) -> str | None:
    async with engine.connect() as connection:
        found = await tiers.assignment_at(connection, "web", scope or Scope(), datetime.now(UTC))
    return None if found is None else found.tier


async def _assign(engine: AsyncEngine, tier: str, scope: Scope | None = None, end: datetime | None = None) -> None:
    async with engine.begin() as connection:
        await tiers.assign(
            connection,
            "web",
            scope or Scope(),
            tier=tier,
            valid_from=datetime.now(UTC),
            valid_to=end,
            cause=Cause.MANUAL,
            reason="x",
            change=CHANGE,
        )


@pytest.fixture
async def channel(governance: AsyncEngine) -> None:
    await register(governance, state=ChannelState.PROPOSED)


@pytest.mark.usefixtures("channel")
async def test_a_channel_goes_up_by_two_persons_and_down_by_one(governance: AsyncEngine, people: People) -> None:
    asked = await _ask(
        governance, people, channel_move("web", before=ChannelState.PROPOSED, after=ChannelState.PROBATION)
    )
    with pytest.raises(ForbiddenChangeError, match="who asks"):
        await _grant(governance, people, asked, AUTHOR)
    assert (await _grant(governance, people, asked)).state == "applied"
    async with governance.begin() as connection:
        down = await registry.set_state(connection, "web", ChannelState.SUSPENDED, reason="fraud", change=CHANGE)
    assert down.state is ChannelState.SUSPENDED
    for up in (ChannelState.PROBATION, ChannelState.ACTIVE):
        async with governance.connect() as connection:
            with pytest.raises(ForbiddenChangeError, match="second person"):
                await registry.set_state(connection, "web", up, reason="x", change=CHANGE)


@pytest.mark.usefixtures("channel")
async def test_a_request_whose_channel_has_moved_meanwhile_changes_nothing(
    governance: AsyncEngine, people: People
) -> None:
    wanted = channel_move("web", before=ChannelState.PROPOSED, after=ChannelState.PROBATION)
    first, second = await _ask(governance, people, wanted), await _ask(governance, people, wanted)
    await _grant(governance, people, first)
    with pytest.raises(ConflictingChangeError, match="is probation now"):
        await _grant(governance, people, second)


@pytest.mark.usefixtures("channel")
async def test_a_tier_goes_down_at_once_and_up_by_request(governance: AsyncEngine, people: People) -> None:
    await _assign(governance, "risk")
    for tier in ("general", "prime"):
        with pytest.raises(ForbiddenChangeError, match="second person"):
            await _assign(governance, tier)
    await _both(governance, people, tier_change("web", Scope(), tier="prime", cause=Cause.RETIERING, valid_to=None))
    assert await _tier(governance) == "prime"


@pytest.mark.usefixtures("channel")
async def test_a_demotion_with_an_end_would_go_up_at_its_end(governance: AsyncEngine) -> None:
    with pytest.raises(ForbiddenChangeError, match="one with an end"):
        await _assign(governance, "risk", end=datetime.now(UTC) + timedelta(seconds=5))


@pytest.mark.usefixtures("channel")
async def test_another_scope_that_takes_over_counts_as_up(governance: AsyncEngine) -> None:
    """A product goes before a jurisdiction: general for the product would lift what is risk for CN."""
    await _assign(governance, "risk", Scope(jurisdiction="CN"))
    with pytest.raises(ForbiddenChangeError, match="second person"):
        await _assign(governance, "general", Scope(product="unsecured_consumer"))
    await _assign(governance, "risk", Scope(product="unsecured_consumer"))


@pytest.mark.usefixtures("channel")
async def test_a_narrower_scope_that_keeps_its_tier_does_not_stop_a_demotion(
    governance: AsyncEngine, people: People
) -> None:
    await _both(governance, people, tier_change("web", Scope(), tier="prime", cause=Cause.RETIERING, valid_to=None))
    await _assign(governance, "risk", Scope(product="unsecured_consumer"))
    await _assign(governance, "general")
    assert await _tier(governance) == "general"


async def _tick(engine: AsyncEngine) -> Any:
    async with engine.begin() as connection:
        return (await connection.execute(text("SELECT * FROM gate.governance_tick()"))).one()


@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize("before", ["risk", None])
async def test_after_an_override_the_assignment_before_goes_on(
    governance: AsyncEngine, serving: AsyncEngine, people: People, before: str | None
) -> None:
    if before is not None:
        await _assign(governance, before)
    end = datetime.now(UTC) + timedelta(seconds=2)
    await _both(governance, people, tier_change("web", Scope(), tier="prime", cause=Cause.MANUAL, valid_to=end))
    assert await _tier(governance) == "prime"

    async def ended() -> bool:
        return (await _tick(serving)).overrides_ended == 1

    await eventually(ended)
    assert await _tier(governance) == before


@pytest.mark.usefixtures("channel")
async def test_a_demotion_ends_an_override_and_is_not_undone_by_its_expiry(
    governance: AsyncEngine, serving: AsyncEngine, people: People
) -> None:
    end = datetime.now(UTC) + timedelta(seconds=2)
    await _both(governance, people, tier_change("web", Scope(), tier="prime", cause=Cause.MANUAL, valid_to=end))
    await _assign(governance, "risk")

    async def ended() -> bool:
        return (await _tick(serving)).overrides_ended == 1

    await eventually(ended)
    assert await _tier(governance) == "risk"


@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize("before", ["general", None])
@pytest.mark.parametrize(
    "scope", [Scope(), Scope(product="unsecured_consumer"), Scope(jurisdiction="CN")], ids=["same", "product", "place"]
)
async def test_one_person_does_not_make_an_override_last(
    governance: AsyncEngine, people: People, before: str | None, scope: Scope
) -> None:
    """It is prime for a while: the same tier again, without an end, would be prime for good."""
    if before is not None:
        await _assign(governance, before)
    end = datetime.now(UTC) + timedelta(days=1)
    await _both(governance, people, tier_change("web", Scope(), tier="prime", cause=Cause.MANUAL, valid_to=end))
    with pytest.raises(ForbiddenChangeError, match="second person"):
        await _assign(governance, "prime", scope)
    await _assign(governance, "general", scope)


@pytest.mark.usefixtures("channel")
async def test_one_person_does_not_go_round_a_demotion_that_is_to_come(governance: AsyncEngine, people: People) -> None:
    """It is risk from tomorrow on: general for a product from today on would stay general then."""
    async with governance.begin() as connection:
        await tiers.assign(
            connection,
            "web",
            Scope(),
            tier="risk",
            valid_from=datetime.now(UTC) + timedelta(days=1),
            valid_to=None,
            cause=Cause.RETIERING,
            reason="x",
            change=CHANGE,
        )
    with pytest.raises(ForbiddenChangeError, match="second person"):
        await _assign(governance, "general", Scope(product="unsecured_consumer"))
    await _assign(governance, "risk", Scope(product="unsecured_consumer"))


@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize(
    ("cause", "lasts"), [(Cause.MANUAL, None), (Cause.RETIERING, timedelta(days=1))], ids=["open", "ends"]
)
async def test_an_override_has_an_end_and_nothing_else_has(
    governance: AsyncEngine, people: People, cause: Cause, lasts: timedelta | None
) -> None:
    end = None if lasts is None else datetime.now(UTC) + lasts
    with pytest.raises(InvalidChangeError, match="an override"):
        await _both(governance, people, tier_change("web", Scope(), tier="prime", cause=cause, valid_to=end))
