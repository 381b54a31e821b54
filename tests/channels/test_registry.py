"""The registry as the governance login changes it and the serving login reads it."""

from __future__ import annotations

import json
from datetime import timedelta
from hashlib import sha256

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.channels import registry
from app.channels.expiry import count_expiring
from app.channels.registry import ChannelFilter
from app.db.changes import ConflictingChangeError, InvalidChangeError, StaleChangeError, UnknownSubjectError
from app.domain.channel import ALLOWED_TRANSITIONS, ChannelKind, ChannelState
from tests.channels.builders import CHANGE, LAUNCH, register


async def _codes(engine: AsyncEngine, where: ChannelFilter, **options: object) -> list[str]:
    async with engine.connect() as connection:
        found = await registry.list_channels(connection, where, **{"at": LAUNCH, **options})  # type: ignore[arg-type]
    return [channel.code for channel in found]


async def test_a_registered_channel_reads_as_it_was_stated(governance: AsyncEngine, serving: AsyncEngine) -> None:
    registered = await register(
        governance, name="网 Web", agreement_id="A-1", services=("leads", "ads"), valid_to=LAUNCH + timedelta(days=90)
    )
    async with serving.connect() as connection:
        found = await registry.find_channel(connection, "web")
        assert found == registered
        assert found is not None
        (entered,) = await registry.state_history(connection, found.channel_id)
    assert (entered.state_before, entered.state_after, entered.actor, entered.reason) == (
        None,
        ChannelState.ACTIVE,
        "tester",
        "test",
    )


async def test_a_code_and_an_alias_name_one_channel_only(governance: AsyncEngine) -> None:
    await register(governance, "web")
    await register(governance, "app")
    async with governance.begin() as connection:
        await registry.put_alias(connection, "web", "tag-1", change=CHANGE)
        await registry.put_alias(connection, "web", "tag-1", change=CHANGE)
    for code in ("web", "tag-1"):
        with pytest.raises(ConflictingChangeError):
            await register(governance, code)
    for alias in ("app", "tag-1"):
        async with governance.connect() as connection:
            with pytest.raises(ConflictingChangeError):
                await registry.put_alias(connection, "app", alias, change=CHANGE)


async def test_a_removed_alias_is_free_again(governance: AsyncEngine) -> None:
    await register(governance, "web")
    async with governance.begin() as connection:
        await registry.put_alias(connection, "web", "tag-1", change=CHANGE)
        assert await registry.remove_alias(connection, "web", "tag-1", change=CHANGE)
        assert not await registry.remove_alias(connection, "web", "tag-1", change=CHANGE)
    assert (await register(governance, "tag-1")).code == "tag-1"


async def test_amending_changes_what_is_given_and_nothing_else(governance: AsyncEngine) -> None:
    before = await register(governance, agreement_id="A-1", valid_to=LAUNCH + timedelta(days=1))
    async with governance.begin() as connection:
        after = await registry.amend(
            connection,
            "web",
            {"owner": "partners", "valid_to": None, "services": ("ads",)},
            expected_revision=before.revision,
            reason="reorganised",
            change=CHANGE,
        )
    assert (after.owner, after.valid_to, after.services) == ("partners", None, ("ads",))
    assert (after.name, after.agreement_id, after.valid_from) == (before.name, "A-1", before.valid_from)
    assert after.revision > before.revision


async def test_an_amendment_of_an_older_revision_is_refused(governance: AsyncEngine) -> None:
    before = await register(governance)
    for expected in (before.revision - 1, before.revision + 1):
        async with governance.connect() as connection:
            with pytest.raises(StaleChangeError):
                await registry.amend(
                    connection, "web", {"name": "x"}, expected_revision=expected, reason=None, change=CHANGE
                )


async def test_a_validity_that_ends_before_it_begins_is_refused(governance: AsyncEngine) -> None:
    with pytest.raises(InvalidChangeError):
        await register(governance, valid_to=LAUNCH)


async def test_what_is_not_there_cannot_be_changed(governance: AsyncEngine) -> None:
    async with governance.connect() as connection:
        with pytest.raises(UnknownSubjectError):
            await registry.set_state(connection, "nobody", ChannelState.ACTIVE, reason="x", change=CHANGE)


@pytest.mark.parametrize("current", [state for state in ChannelState if state is not ChannelState.EXITED])
async def test_the_database_and_the_domain_allow_the_same_moves(governance: AsyncEngine, current: ChannelState) -> None:
    for target in ChannelState:
        code = f"{current}-{target}"
        await register(governance, code, state=current)
        async with governance.begin() as connection:
            if target in ALLOWED_TRANSITIONS[current]:
                moved = await registry.set_state(connection, code, target, reason="x", change=CHANGE)
                assert moved.state is target
            else:
                with pytest.raises(ConflictingChangeError):
                    await registry.set_state(connection, code, target, reason="x", change=CHANGE)


async def test_filters_narrow_the_list_and_pages_continue_it(governance: AsyncEngine) -> None:
    await register(governance, "a", kind=ChannelKind.SOCIAL)
    await register(governance, "b", state=ChannelState.PROBATION)
    await register(governance, "c", owner="partners")
    assert await _codes(governance, ChannelFilter()) == ["a", "b", "c"]
    assert await _codes(governance, ChannelFilter(kind=ChannelKind.SOCIAL)) == ["a"]
    assert await _codes(governance, ChannelFilter(states=frozenset({ChannelState.PROBATION}))) == ["b"]
    assert await _codes(governance, ChannelFilter(owner="partners")) == ["c"]
    assert await _codes(governance, ChannelFilter(), limit=2) == ["a", "b"]
    assert await _codes(governance, ChannelFilter(), after_code="b") == ["c"]


async def test_warnings_are_due_60_30_and_7_days_before_the_end(governance: AsyncEngine, serving: AsyncEngine) -> None:
    at = LAUNCH + timedelta(days=100)
    moment = timedelta(microseconds=1)
    for days, warning in ((7, 7), (30, 30), (60, 60)):
        on_time = await register(governance, f"within-{days}", valid_to=at + timedelta(days=days))
        too_early = await register(governance, f"over-{days}", valid_to=at + timedelta(days=days) + moment)
        assert on_time.expires_within_days(at) == warning
        assert too_early.expires_within_days(at) == {7: 30, 30: 60, 60: None}[days]
    ended = await register(governance, "ended", valid_to=at)
    assert ended.expires_within_days(at) is None
    assert ended.expired(at)
    assert not ended.expired(at - moment)
    await register(governance, "open")
    await register(governance, "left", state=ChannelState.SUSPENDED, valid_to=at + timedelta(days=1))
    async with serving.connect() as connection:
        assert await count_expiring(connection, at=at) == {60: 5, 30: 3, 7: 1}
        soon = await registry.list_expiring(connection, at=at, within_days=7)
        assert [channel.code for channel in soon] == ["ended", "within-7"]
        listed = await registry.list_channels(connection, ChannelFilter(expiring_within_days=7), at=at)
        assert [channel.code for channel in listed] == ["within-7"]


async def test_every_change_is_chained_in_the_audit_log(governance: AsyncEngine) -> None:
    await register(governance)
    async with governance.begin() as connection:
        await registry.set_state(connection, "web", ChannelState.SUSPENDED, reason="fraud", change=CHANGE)
        await registry.put_alias(connection, "web", "tag-1", change=CHANGE)
        rows = (
            await connection.execute(
                text(
                    "SELECT actor, action, request_id, payload, previous_hash, hash"
                    " FROM gate.audit_log ORDER BY sequence"
                )
            )
        ).all()
    assert [row.action for row in rows] == ["channel.register", "channel.state", "channel.alias_put"]
    assert {(row.actor, row.request_id) for row in rows} == {("tester", "request-1")}
    assert json.loads(rows[1].payload)["reason"] == "fraud"
    previous = b""
    for row in rows:
        assert bytes(row.previous_hash) == previous
        previous = sha256(previous + row.payload.encode()).digest()
        assert bytes(row.hash) == previous


async def test_a_refused_change_leaves_no_trace(governance: AsyncEngine) -> None:
    await register(governance)
    async with governance.connect() as connection:
        counts = text("SELECT (SELECT count(*) FROM gate.audit_log), (SELECT revision FROM gate.state)")
        before = (await connection.execute(counts)).one()
    with pytest.raises(ConflictingChangeError):
        await register(governance)
    async with governance.connect() as connection:
        assert (await connection.execute(counts)).one() == before
