"""Each invariant holds on what the service did, and a violation that the owner plants is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from app.cli import build_app
from app.db.engine import make_engine
from app.invariants.checks import INVARIANTS
from app.invariants.verify import since_when, verify
from app.journal.call import FLUSH_SQL, flush_arguments
from tests.reviews.conftest import Desk, running_desk
from tests.support.cluster import Cluster
from tests.support.entries import ground

pytestmark = pytest.mark.xdist_group("invariants")


@dataclass(frozen=True)
class Book:
    """A service that has accepted, rejected, escalated, reviewed and funded; and ids of what is planted on."""

    desk: Desk
    owner: AsyncEngine
    ids: dict[str, str]

    async def broken(self, *plants: str) -> dict[str, set[str]]:
        """Which invariants are broken after these statements of the owner, by what. Nothing of it stays."""
        async with self.owner.connect() as connection:
            for plant in plants:
                given = {name: value for name, value in self.ids.items() if f":{name}" in plant}
                await connection.execute(text(plant), given)
            since = await since_when(connection, days=None, now=datetime.now(UTC))
            found = {
                finding.invariant.name: {violation.subject for violation in finding.shown}
                async for finding in verify(connection, since=since)
                if finding.count
            }
            await connection.rollback()
        return found


@pytest.fixture(scope="module")
async def book(cluster: Cluster) -> AsyncIterator[Book]:
    async with running_desk(cluster, single_person=True) as desk:
        admin = await asyncpg.connect(desk.database.governance)
        for measure, currency in (("count", None), ("amount", "CNY")):
            await admin.execute(
                "SELECT gate.budget_set('app-store', NULL, NULL, NULL, 'monthly', $1, $2, 1000000000, 100, NULL, 'UTC',"
                " 'a', 'r', NULL)",
                measure,
                currency,
            )
        await admin.close()
        ids = {}
        for name in ("accepted", "funded", "expired"):
            ids[name] = (await desk.service.decide(name)).json()["decision_id"]
        ids["rejected"] = await desk.rejected("rejected")
        for name, resolution in (("agreed", "accept"), ("declined", "reject")):
            ids[name] = await desk.escalated(name)
            assert (await desk.resolve(await desk.claimed(ids[name]), resolution)).status_code == 200
        ids["open"] = await desk.escalated("open")
        serving = await asyncpg.connect(desk.database.serving)
        old = (await ground(desk.database)).entry(
            "old",
            decided_at=datetime.now(UTC) - timedelta(minutes=20),
            outcome="escalate",
            next_action="review",
            reason_codes="EM01",
        )
        assert await serving.fetch(FLUSH_SQL, *flush_arguments([old])) == []
        ids["old"] = str(old.decision_id)
        await serving.execute("SELECT gate.reservation_post($1, 4000000)", ids["funded"])
        async with desk.owner() as owner:
            await owner.execute(
                "UPDATE gate.reservations SET expires_at = now() - interval '1 second' WHERE decision_id = $1",
                ids["expired"],
            )
        assert await serving.fetchval("SELECT gate.reservations_expire(10)") >= 0
        await serving.execute("SELECT gate.reviews_gather(true)")
        await serving.close()
        engine = make_engine(desk.database.owner, pool_size=1)
        yield Book(desk, engine, ids)
        await engine.dispose()


async def test_they_hold_on_what_the_service_has_done(book: Book) -> None:
    assert await book.broken() == {}


_PLANTED = [
    ("budget_reserved", None, ["UPDATE gate.budget_periods SET reserved = reserved + 1 WHERE reserved > 1"]),
    ("budget_posted", None, ["UPDATE gate.budget_periods SET posted = posted + 5 WHERE posted > 0"]),
    ("accept_reserved", "accepted", ["DELETE FROM gate.reservations WHERE decision_id = CAST(:accepted AS uuid)"]),
    ("accept_reserved", "agreed", ["DELETE FROM gate.reservations WHERE decision_id = CAST(:agreed AS uuid)"]),
    (
        "reservation_explained",
        "rejected",
        [
            "INSERT INTO gate.reservations (decision_id, channel_id, amount, currency, reserved_at, expires_at)"
            " SELECT decision_id, channel_id, amount, currency, decided_at, decided_at FROM gate.decisions"
            " WHERE decision_id = CAST(:rejected AS uuid)"
        ],
    ),
    (
        "reservation_units",
        "accepted",
        [
            "UPDATE gate.budgets SET created_at = created_at - interval '1 hour'",
            "DELETE FROM gate.reservation_units WHERE decision_id = CAST(:accepted AS uuid)",
        ],
    ),
    (
        "reservation_units",
        "rejected",
        [
            "INSERT INTO gate.reservation_units (decision_id, period_id, units)"
            " SELECT CAST(:rejected AS uuid), min(period_id), 0 FROM gate.budget_periods"
        ],
    ),
    (
        "resolved_once",
        "expired",
        ["SELECT gate.event_put(NULL, 'reservation.expired', :expired, jsonb_build_object('n', 2))"],
    ),
    (
        "resolved_once",
        "agreed",
        [
            "SELECT gate.event_put(NULL, 'decision.resolved', :agreed,"
            " jsonb_build_object('by', 'reviewer', 'outcome', 'reject'))"
        ],
    ),
    (
        "resolved_once",
        "funded",
        [
            "INSERT INTO gate.overruns (decision_id, kind, channel_id, amount, currency, at)"
            " SELECT decision_id, 'unreserved', channel_id, 1, currency, now() FROM gate.reservations"
            " WHERE decision_id = CAST(:funded AS uuid)"
        ],
    ),
    (
        "outbox_reservations",
        "accepted",
        [
            "UPDATE gate.reservations SET state = 'expired', resolved_at = now(), cause = 'time'"
            " WHERE decision_id = CAST(:accepted AS uuid)"
        ],
    ),
    (
        "outbox_reservations",
        "funded",
        ["SELECT gate.event_put(NULL, 'reservation.expired', :funded, jsonb_build_object('n', 1))"],
    ),
    (
        "outbox_decisions",
        "open",
        [
            "UPDATE gate.reviews SET state = 'rejected', resolved_at = now(), resolved_by = 'x'"
            " WHERE decision_id = CAST(:open AS uuid)"
        ],
    ),
    (
        "outbox_decisions",
        "open",
        [
            "SELECT gate.event_put(NULL, 'decision.resolved', :open,"
            " jsonb_build_object('by', 'reviewer', 'outcome', 'accept'))"
        ],
    ),
    (
        "outbox_channels",
        None,
        [
            "ALTER TABLE gate.channel_state_changes DISABLE TRIGGER channel_state_changes_are_told",
            "INSERT INTO gate.channel_state_changes (channel_id, state_before, state_after, at, actor)"
            " SELECT min(channel_id), 'active', 'suspended', now(), 'x' FROM gate.channels",
        ],
    ),
    ("reviews_complete", "old", ["DELETE FROM gate.reviews WHERE decision_id = CAST(:old AS uuid)"]),
    ("keys", "accepted", ["DELETE FROM gate.decision_keys WHERE decision_id = CAST(:accepted AS uuid)"]),
]


@pytest.mark.parametrize(
    ("invariant", "name", "plants"), _PLANTED, ids=[f"{each[0]}-{number}" for number, each in enumerate(_PLANTED)]
)
async def test_a_planted_violation_is_found(book: Book, invariant: str, name: str | None, plants: list[str]) -> None:
    found = await book.broken(*plants)
    assert invariant in found
    if name is not None:
        assert book.ids[name] in found[invariant]


def test_each_invariant_has_a_violation_that_is_planted() -> None:
    assert {each.name for each in INVARIANTS} == {each[0] for each in _PLANTED}


async def test_the_command_names_what_it_finds_ends_with_one_and_the_metric_tells(book: Book) -> None:
    async def run(*words: str) -> tuple[int, str]:
        environment: dict[str, str | None] = dict(book.desk.database.environment())
        call = ["invariants", "verify", *words]
        result = await asyncio.to_thread(CliRunner().invoke, build_app(), call, env=environment)
        return (1 if result.exception is not None else 0), f"{result.stdout} {result.exception or ''}"

    async def told() -> str:
        await book.desk.service.app.gate.upkeep.reviews()
        return (await book.desk.call("admin", "GET", "/metrics")).text

    code, output = await run("--days", "30")
    assert (code, output.split()[:3]) == (0, [str(len(INVARIANTS)), "invariants", "hold"])
    assert 'gate_invariant_violations{invariant="budget_reserved"} 0.0' in await told()
    async with book.desk.owner() as owner:
        await owner.execute("UPDATE gate.budget_periods SET reserved = reserved + 1 WHERE reserved > 1")
        code, output = await run()
        assert code == 1
        assert "budget_reserved: " in output
        assert "violations of budget_reserved" in output
        exposition = await told()
        assert 'gate_invariant_violations{invariant="budget_reserved"} 2.0' in exposition
        assert "gate_invariants_age_seconds" in exposition
        await owner.execute("UPDATE gate.budget_periods SET reserved = reserved - 1 WHERE reserved > 1")
    assert (await run("--no-record"))[0] == 0
    assert 'gate_invariant_violations{invariant="budget_reserved"} 2.0' in await told()
