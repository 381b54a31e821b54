"""Held decisions: once there is room each ends once, by what screening it again comes to, and the original stays."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from app.screening.held import HeldDesk, HeldResult
from app.screening.policy_library import PolicyLibrary
from app.screening.replay_held import replay_resolutions
from tests.api.conftest import Service, service, start_service  # noqa: F401 - fixtures
from tests.support.applications import application
from tests.support.cluster import eventually

AT_ONCE = timedelta(0)
LATER = timedelta(minutes=5)


@pytest.fixture
async def held(service: Service) -> Service:  # noqa: F811
    """A service whose own task of held decisions is stopped: the tests say when."""
    await service.app.gate.held.stop()
    return service


@pytest.fixture
async def owner(held: Service) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(held.database.owner)
    yield connection
    await connection.close()


async def decide(service: Service, name: str, **changes: Any) -> dict[str, Any]:  # noqa: F811
    client = await service.client("origination")
    answer = await client.post("/v1/decisions", json=application(name, channel_code="app-store", **changes))
    assert answer.status_code == 200, answer.text
    decided: dict[str, Any] = answer.json()
    return decided


async def limit(service: Service, units: int) -> None:  # noqa: F811
    """What the channel may take this month, from now on in every decision of this service."""
    connection = await asyncpg.connect(service.database.governance)
    await connection.execute(
        "SELECT gate.budget_set('app-store', NULL, NULL, NULL, 'monthly', 'count', NULL, $1, 100, NULL, 'UTC', 'a',"
        " 'r', NULL)",
        units,
    )
    await connection.close()
    await service.app.gate.keeper.refresh(10)


async def test_held_ones_become_accepts_when_there_is_room_the_oldest_first_and_each_once(
    held: Service, owner: asyncpg.Connection
) -> None:
    await limit(held, 1)
    answers = [await decide(held, f"h-{n}") for n in range(4)]
    assert [each["next_action"] for each in answers] == ["proceed", "held", "held", "held"]
    desks = [HeldDesk(held.app.gate.read_engine, held.app.gate.keeper) for _ in range(3)]
    assert not any((await desks[0].round()).values())  # without room none is even tried
    await limit(held, 3)
    counts: Counter[HeldResult] = Counter()
    for found in await asyncio.gather(*(desk.round(LATER) for desk in desks)):
        counts.update(found)
    assert counts[HeldResult.ACCEPTED] == 2
    client = await held.client("origination")
    states = [(await client.get(f"/v1/held-decisions/{a['decision_id']}")).json()["state"] for a in answers[1:]]
    assert states == ["resolved", "resolved", "waiting"]
    assert await owner.fetchval("SELECT max(reserved) FROM gate.budget_periods") == 3

    first = answers[1]
    found = (await client.get(f"/v1/held-decisions/{first['decision_id']}")).json()
    assert (found["resolution"]["outcome"], found["resolution"]["decision_id"]) == ("accept", first["decision_id"])
    original = (await client.get(f"/v1/decisions/{first['decision_id']}")).json()
    assert original == first
    waiting = (await client.get("/v1/held-decisions")).json()["items"]
    assert [each["decision_id"] for each in waiting] == [answers[3]["decision_id"]]

    async def resolved() -> list[str]:
        events = (await client.get("/v1/events")).json()["items"]
        return [each["subject"] for each in events if each["type"] == "decision.resolved"]

    told = await eventually(resolved)
    assert sorted(told) == sorted(each["decision_id"] for each in answers[1:3])
    async with held.app.gate.read_engine.connect() as connection:
        report = await replay_resolutions(connection, PolicyLibrary())
    assert (report.exact, report.total) == (True, 2)


async def test_what_only_the_transaction_knows_is_asked_again(held: Service, owner: asyncpg.Connection) -> None:
    await limit(held, 1)
    await decide(held, "takes-it")
    person = {"applicant_ref": "one-person"}
    first = await decide(held, "held-1", applicant=person)
    second = await decide(held, "held-2", applicant=person)
    assert [first["next_action"], second["next_action"]] == ["held", "held"]
    await limit(held, 9)
    desk = held.app.gate.held
    counts = await desk.round()
    assert (counts[HeldResult.ACCEPTED], counts[HeldResult.ESCALATED]) == (1, 1)
    rows = await owner.fetch("SELECT outcome, next_action, reason_codes FROM gate.held_queue ORDER BY decided_at")
    assert [tuple(row) for row in rows] == [("accept", "proceed", []), ("escalate", "review", ["DU01"])]
    third = await decide(held, "counts", applicant=person)  # an accept that came later is an open accept all the same
    assert third["next_action"] == "review"


async def test_a_channel_that_is_stopped_meanwhile_gets_no_accept(held: Service) -> None:
    await limit(held, 0)
    answer = await decide(held, "stopped")
    await limit(held, 5)
    admin = await held.client("admin")
    await admin.post("/v1/channels/app-store/state", json={"state": "suspended", "reason": "r"})
    counts = await held.app.gate.held.round()
    assert counts[HeldResult.REJECTED] == 1
    found = (await admin.get(f"/v1/held-decisions/{answer['decision_id']}")).json()
    assert (found["state"], found["outcome"]) == ("resolved", "reject")


async def test_a_newer_revision_takes_the_place_of_a_held_one(held: Service, owner: asyncpg.Connection) -> None:
    await limit(held, 0)
    await decide(held, "revised")
    await limit(held, 5)
    second = await decide(held, "revised", amount=1_000_000, revision=2)
    assert second["outcome"] == "accept"
    assert (await held.app.gate.held.round())[HeldResult.SUPERSEDED] == 1
    assert await owner.fetchval("SELECT count(*) FROM gate.reservations") == 1


async def test_what_has_waited_three_days_lapses_once_with_notice(held: Service, owner: asyncpg.Connection) -> None:
    await limit(held, 0)
    answers = [await decide(held, f"l-{n}") for n in range(3)]
    assert await owner.fetchval("SELECT bool_and(lapses_at = decided_at + interval '3 days') FROM gate.held_queue")
    await owner.execute("UPDATE gate.held_queue SET lapses_at = now()")
    desks = [HeldDesk(held.app.gate.read_engine, held.app.gate.keeper) for _ in range(3)]
    counts = await asyncio.gather(*(desk.round() for desk in desks))
    assert sum(found[HeldResult.LAPSED] for found in counts) == 3
    client = await held.client("origination")

    async def lapsed() -> list[str]:
        events = (await client.get("/v1/events")).json()["items"]
        return [each["subject"] for each in events if each["type"] == "reservation.lapsed"]

    assert sorted(await eventually(lapsed)) == sorted(each["decision_id"] for each in answers)
    await limit(held, 9)
    assert not any((await held.app.gate.held.round()).values())


async def test_a_reservation_of_a_held_decision_is_funded_expires_and_is_superseded_as_any_other(
    held: Service, owner: asyncpg.Connection
) -> None:
    await limit(held, 0)
    names = ("funded", "expires", "revised")
    ids = [(await decide(held, name))["decision_id"] for name in names]
    await limit(held, 9)
    assert (await held.app.gate.held.round(AT_ONCE))[HeldResult.ACCEPTED] == 3
    serving = await asyncpg.connect(held.database.serving)
    booked = await serving.fetchrow("SELECT * FROM gate.reservation_fund($1::uuid, 1000, now())", ids[0])
    assert tuple(booked) == ("posted", 0)
    await serving.close()
    await owner.execute("UPDATE gate.reservations SET expires_at = now() WHERE decision_id = $1::uuid", ids[1])
    await held.app.gate.upkeep.expire()
    await decide(held, "revised", amount=1_000_000, revision=2)
    states = dict(await owner.fetch("SELECT decision_id::text, state FROM gate.reservations"))
    assert [states[each] for each in ids] == ["posted", "expired", "voided"]
    assert await owner.fetchval("SELECT sum(reserved)::int FROM gate.budget_periods") == 1
