"""Fetching events: nothing is skipped, and nobody reads another originator's."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import httpx

from app.db.changes import Change
from app.identities import keys
from app.identities.principal import Role
from tests.events.conftest import Teller
from tests.support.cluster import Database, eventually

_PUT = "SELECT gate.event_put($1, 'decision.resolved', $2, jsonb_build_object('n', $3::int))"


async def _follow(client: httpx.AsyncClient, after: str | None, limit: int = 1000) -> tuple[list[Any], str | None]:
    query = {"limit": limit} | ({} if after is None else {"after": after})
    answer = await client.get("/v1/events", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"], answer.json()["next_cursor"]


async def _all(client: httpx.AsyncClient, after: str | None, limit: int) -> tuple[list[Any], str | None]:
    found: list[Any] = []
    while True:
        items, after = await _follow(client, after, limit)
        if not items:
            return found, after
        found += items


async def _next(client: httpx.AsyncClient, after: str | None, count: int) -> tuple[list[Any], str | None]:
    """The next `count` events. A transaction of another test in the cluster may hold them back for a moment."""
    found: list[Any] = []

    async def all_there() -> bool:
        nonlocal after
        items, after = await _follow(client, after)
        found.extend(items)
        return len(found) >= count

    await eventually(all_there)
    return found, after


async def test_a_cursor_does_not_skip_what_an_older_transaction_commits_later(
    teller: Teller, owner: asyncpg.Connection, seeded_database: Database
) -> None:
    client = await teller.client("admin")
    _, after = await _all(client, None, 1000)
    late = await asyncpg.connect(seeded_database.owner)
    try:
        transaction = late.transaction()
        await transaction.start()
        await late.execute(_PUT, None, "late", 1)
        await owner.execute(_PUT, None, "early", 2)  # drawn later, committed earlier
        assert await owner.fetchval("SELECT count(*) FROM gate.events WHERE subject = 'early'") == 1
        items, cursor = await _follow(client, after)
        assert items == []
        await transaction.commit()
    finally:
        await late.close()
    items, cursor = await _next(client, cursor, 2)
    assert [each["subject"] for each in items] == ["late", "early"]
    assert await _follow(client, cursor) == ([], cursor)


async def test_an_older_transaction_that_writes_its_event_last_is_not_skipped_either(
    teller: Teller, owner: asyncpg.Connection, seeded_database: Database
) -> None:
    """It has the older number of a transaction and the newer one of an event."""
    client = await teller.client("admin")
    _, after = await _all(client, None, 1000)
    late = await asyncpg.connect(seeded_database.owner)
    try:
        transaction = late.transaction()
        await transaction.start()
        await late.execute("SELECT pg_current_xact_id()")
        await owner.execute(_PUT, None, "early", 1)
        items, after = await _follow(client, after)
        assert items == []
        await late.execute(_PUT, None, "late", 2)
        await transaction.commit()
    finally:
        await late.close()
    items, _ = await _next(client, after, 2)
    assert [each["subject"] for each in items] == ["late", "early"]


async def test_a_follower_meets_every_event_once_while_many_write_at_once(
    teller: Teller, seeded_database: Database
) -> None:
    client = await teller.client("admin")
    _, after = await _all(client, None, 1000)
    writers, each_writes = 6, 40

    async def write(writer: int) -> None:
        connection = await asyncpg.connect(seeded_database.owner)
        try:
            for number in range(each_writes):
                async with connection.transaction():
                    await connection.execute(_PUT, None, f"{writer}", number)
                    await connection.execute("SELECT pg_sleep($1)", (writer * 7 + number * 3) % 5 / 1000)
        finally:
            await connection.close()

    writing = asyncio.gather(*(write(writer) for writer in range(writers)))
    met: list[tuple[str, int]] = []

    async def follow() -> bool:
        nonlocal after
        items, after = await _follow(client, after, 7)
        met.extend((each["subject"], each["data"]["n"]) for each in items)
        # A transaction of another test in the cluster may hold the last ones back for a moment.
        return writing.done() and not items and len(met) >= len(expected)

    expected = {(str(writer), number) for writer in range(writers) for number in range(each_writes)}
    await eventually(follow, timeout_seconds=60)
    await writing
    assert len(met) == len(expected)
    assert set(met) == expected
    for writer in range(writers):
        assert [number for subject, number in met if subject == str(writer)] == list(range(each_writes))


async def test_an_originator_sees_its_own_events_and_those_for_all(
    teller: Teller, owner: asyncpg.Connection, seeded_database: Database
) -> None:
    change = Change(actor="test", request_id="test")
    governance = await asyncpg.connect(seeded_database.governance)
    try:
        other = await keys.register_originator(governance, code="other", name="Other", change=change)
        issued = await keys.issue(
            governance, label="other", roles=[Role.ORIGINATION], originator_code="other", change=change
        )
    finally:
        await governance.close()
    own = await owner.fetchval("SELECT originator_id FROM gate.originators WHERE code = 'demo-origination'")
    for originator, subject in ((own, "own"), (other, "others"), (None, "all")):
        await owner.execute(_PUT, originator, subject, 0)
    await teller.app.gate.keeper.refresh(5.0)
    teller.database.keys["other"] = issued.text
    seen: dict[str, list[Any]] = {}
    everything = await teller.client("admin")

    async def none_is_held_back() -> bool:
        found, _ = await _all(everything, None, 1000)
        return sum(each["type"] == "decision.resolved" for each in found) == 3

    await eventually(none_is_held_back)
    for who in ("origination", "other", "admin", "analyst"):
        found, _ = await _all(await teller.client(who), None, 1000)
        seen[who] = [each for each in found if each["type"] == "decision.resolved"]
    subjects = {who: {each["subject"] for each in found} for who, found in seen.items()}
    assert subjects == {
        "origination": {"own", "all"},
        "other": {"others", "all"},
        "admin": {"own", "others", "all"},
        "analyst": {"own", "others", "all"},
    }
    (foreign,) = [each["id"] for each in seen["other"] if each["subject"] == "others"]
    origination = await teller.client("origination")
    for path in (f"/v1/events/{foreign}", f"/v1/events/{foreign}/deliveries"):
        assert (await origination.get(path)).status_code == 404
    assert (await origination.post(f"/v1/events/{foreign}/redeliver")).status_code == 404
    reviewer = await teller.client("reviewer")
    assert (await reviewer.get("/v1/events")).status_code == 403


async def test_a_cursor_that_is_none_is_refused(teller: Teller) -> None:
    client = await teller.client("admin")
    for wrong in ("x", "MTA", "MTAuLTE", "a" * 201):
        answer = await client.get("/v1/events", params={"after": wrong})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


async def test_nothing_is_told_of_a_change_that_is_rolled_back(teller: Teller, seeded_database: Database) -> None:
    client = await teller.client("admin")
    await teller.change("proposed")
    await teller.newest()
    _, after = await _all(client, None, 1000)
    governance = await asyncpg.connect(seeded_database.governance)
    try:
        transaction = governance.transaction()
        await transaction.start()
        await governance.execute("SELECT gate.channel_set_state('told', 'probation', NULL, 'me', 'try', 'request')")
        await transaction.rollback()
    finally:
        await governance.close()
    assert (await _follow(client, after))[0] == []
