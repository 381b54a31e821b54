"""Any order of accepts, amendments, fundings, voids, expiries, kills and new limits leaves what a simple model says.

The model is a dictionary; the other side is the flush and the functions of a real PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from app.journal.call import FLUSH_SQL, flush_arguments
from app.journal.entry import JournalEntry
from tests.support.cluster import SEEDED_TEMPLATE, Cluster, Database
from tests.support.entries import ground

Result = TypeVar("Result")
AMOUNTS = st.integers(1, 9)
FACTS = "- - - - 0"


@dataclass(slots=True)
class Reservation:
    """What the model knows of one accept. `posted` stays at 0 until it is funded; `balance` is what is owed then."""

    application: str
    revision: int
    amount: int
    state: str = "reserved"
    posted: int = 0
    unreserved: int = 0
    balance: int | None = None


@dataclass(slots=True)
class Limits:
    """A count and an amount of the month, and an amount outstanding, of one channel."""

    count: int = 4
    amount: int = 20
    outstanding: int = 25


@dataclass(slots=True)
class World:
    """The database that all runs of the machine share; each has a channel of its own."""

    database: Database
    loop: asyncio.AbstractEventLoop
    owner: asyncpg.Connection
    serving: asyncpg.Connection
    governance: asyncpg.Connection
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def run(self, work: Awaitable[Result]) -> Result:
        return self.loop.run_until_complete(work)  # type: ignore[arg-type]


class ReservationMachine(RuleBasedStateMachine):
    """Rules act on both sides and compare the answers; the invariant compares what is stored."""

    world: World
    accepts = Bundle("accepts")

    def __init__(self) -> None:
        super().__init__()
        self.code = f"m-{next(self.world.numbers)}"
        self.made = count(1)
        self.limits = Limits()
        self.model: dict[str, Reservation] = {}
        self.held = 0
        self.world.run(self._open())

    async def _open(self) -> None:
        await self.world.governance.execute(
            "SELECT gate.channel_register($1, $1, 'online', 'active', 'o', NULL, '{}', now(), NULL, 'a', 'r', NULL)",
            self.code,
        )
        self.budgets = [
            await self._set(period, measure, limit)
            for period, measure, limit in (
                ("monthly", "count", self.limits.count),
                ("monthly", "amount", self.limits.amount),
                ("outstanding", "amount", self.limits.outstanding),
            )
        ]

    async def _set(self, period: str, measure: str, limit: int) -> int:
        number: int = await self.world.governance.fetchval(
            "SELECT budget_id FROM gate.budget_set($1, NULL, NULL, NULL, $2, $3, $4, $5, 100, NULL, 'UTC', 'a', 'r',"
            " NULL)",
            *(self.code, period, measure, None if measure == "count" else "CNY", limit),
        )
        return number

    # What the model says ----------------------------------------------------------------------------------------------

    def _taken(self) -> tuple[int, int, int, int, int, int]:
        """Reserved and posted of each budget, in the order of `self.budgets`."""
        reserved = [each for each in self.model.values() if each.state == "reserved"]
        funded = [each for each in self.model.values() if each.state == "posted" or each.unreserved]
        paid = [each.posted or each.unreserved for each in funded]
        owed = [
            min(amount, amount if each.balance is None else each.balance)
            for each, amount in zip(funded, paid, strict=True)
        ]
        open_amount = sum(each.amount for each in reserved)
        return (len(reserved), len(funded), open_amount, sum(paid), open_amount, sum(owed))

    def _has_room(self, amount: int, without: Reservation | None) -> bool:
        if without is not None:
            without.state = "voided"
        count_r, count_p, month_r, month_p, out_r, out_p = self._taken()
        if without is not None:
            without.state = "reserved"
        return (
            count_r + count_p + 1 <= self.limits.count
            and month_r + month_p + amount <= self.limits.amount
            and out_r + out_p + amount <= self.limits.outstanding
        )

    def _open_before(self, application: str) -> Reservation | None:
        found = [each for each in self.model.values() if each.application == application and each.state == "reserved"]
        assert len(found) <= 1
        return found[0] if found else None

    # Rules ------------------------------------------------------------------------------------------------------------

    @rule(target=accepts, amounts=st.lists(AMOUNTS, min_size=1, max_size=4), hopeful=st.booleans())
    def apply(self, amounts: list[int], hopeful: bool) -> Any:
        """New applications, in one flush: all that expect room, or none that does."""
        wanted = [(f"{self.code}-{next(self.made)}", 1, amount) for amount in amounts]
        return multiple(*self._flush(wanted, expects_room=hopeful))

    @rule(target=accepts, accept=accepts, amount=AMOUNTS, hopeful=st.booleans())
    def amend(self, accept: str, amount: int, hopeful: bool) -> Any:
        """The next revision takes the place of the one before."""
        application = self.model[accept].application
        revision = 1 + max(each.revision for each in self.model.values() if each.application == application)
        return multiple(*self._flush([(application, revision, amount)], expects_room=hopeful))

    def _flush(self, wanted: list[tuple[str, int, int]], *, expects_room: bool) -> list[str]:
        entries = self.world.run(self._entries(wanted, expects_room=expects_room))
        arguments = flush_arguments(entries)
        rows = {row["row_number"]: row for row in self.world.run(self.world.serving.fetch(FLUSH_SQL, *arguments))}
        made = []
        for number, (entry, (application, revision, amount)) in enumerate(zip(entries, wanted, strict=True), 1):
            before = self._open_before(application)
            room = self._has_room(amount, before)
            if room != expects_room:
                assert rows[number]["status"] == "unsettled"
                assert orjson.loads(rows[number]["response"])["budget.available"] is room
                continue
            assert number not in rows
            if before is not None:
                before.state = "voided"
            if room:
                self.model[str(entry.decision_id)] = Reservation(application, revision, amount)
                made.append(str(entry.decision_id))
            else:
                self.held += 1
                # A revision that was decided without a reservation counts as one, for the next to follow.
                self.model[str(entry.decision_id)] = Reservation(application, revision, amount, state="none")
        return made

    async def _entries(self, wanted: list[tuple[str, int, int]], *, expects_room: bool) -> list[JournalEntry]:
        stand = await ground(self.world.database, self.code)
        revision = await self.world.owner.fetchval("SELECT budget_revision FROM gate.state")
        outcome = (
            {"outcome": "accept"}
            if expects_room
            else {"outcome": "escalate", "next_action": "held", "reason_codes": "CH02"}
        )
        return [
            stand.entry(
                application,
                body=f"{application} {number}".encode(),
                revision=number,
                amount=amount,
                decided_at=datetime.now(UTC),
                facts=None,
                budget_revision=revision,
                budget_available=expects_room,
                budget_lines=((self.budgets[0], 1), (self.budgets[1], amount), (self.budgets[2], amount)),
                **outcome,
            )
            for application, number, amount in wanted
        ]

    @rule(accept=accepts, amount=AMOUNTS)
    def fund(self, accept: str, amount: int) -> None:
        known = self.model[accept]
        statement = "SELECT booked, overrun FROM gate.reservation_fund($1::uuid, $2, now())"
        booked = tuple(self.world.run(self.world.serving.fetchrow(statement, accept, amount)))
        if known.state == "reserved":
            known.state, known.posted = "posted", amount
            over = max(0, amount - known.amount)
            assert booked == ("above" if over else "posted", over)
        elif known.state == "posted" or known.unreserved:
            assert booked == ("again", 0)
        else:
            known.unreserved = amount
            assert booked == ("unreserved", amount)

    @rule(accept=accepts)
    def void(self, accept: str) -> None:
        known = self.model[accept]
        done = self.world.run(
            self.world.serving.fetchval("SELECT gate.reservation_void($1::uuid, 'cancelled')", accept)
        )
        assert done is (known.state == "reserved")
        if done:
            known.state = "voided"

    @rule(accept=accepts)
    def expire(self, accept: str) -> None:
        known = self.model[accept]
        self.world.run(
            self.world.owner.execute(
                "UPDATE gate.reservations SET expires_at = now() WHERE decision_id = $1::uuid AND state = 'reserved'",
                accept,
            )
        )
        ended = self.world.run(self.world.serving.fetchval("SELECT gate.reservations_expire(100)"))
        assert ended == (known.state == "reserved")
        if ended:
            known.state = "expired"

    @rule(accept=accepts, balance=st.integers(0, 12))
    def repay(self, accept: str, balance: int) -> None:
        """Also before its funding is heard of."""
        statement = "SELECT gate.loan_balance_put($1::uuid, $2, now())"
        assert self.world.run(self.world.serving.fetchval(statement, accept, balance)) is True
        self.model[accept].balance = balance

    @rule()
    def kill(self) -> None:
        """The channel is suspended with what it has open, and served again."""
        governance = self.world.governance
        voided = self.world.run(
            governance.fetchval(
                "SELECT voided FROM gate.channel_kill($1, 'suspended', NULL, 'a', 'r', NULL)", self.code
            )
        )
        self.world.run(
            governance.execute("SELECT gate.channel_set_state($1, 'active', NULL, 'a', 'r', NULL)", self.code)
        )
        open_ones = [each for each in self.model.values() if each.state == "reserved"]
        assert voided == len(open_ones)
        for each in open_ones:
            each.state = "voided"

    @rule(count_limit=st.integers(0, 8), amount_limit=st.integers(0, 40))
    def limit(self, count_limit: int, amount_limit: int) -> None:
        """Also to less than what is taken."""
        self.world.run(self._set("monthly", "count", count_limit))
        self.world.run(self._set("monthly", "amount", amount_limit))
        self.limits.count, self.limits.amount = count_limit, amount_limit

    @invariant()
    def what_is_stored_is_what_the_model_says(self) -> None:
        rows = self.world.run(
            self.world.owner.fetch(
                "SELECT budget_id, sum(reserved)::int AS reserved, sum(posted)::int AS posted"
                " FROM gate.budget_periods WHERE budget_id = ANY ($1) GROUP BY 1 ORDER BY 1",
                self.budgets,
            )
        )
        stored = [figure for row in rows for figure in (row["reserved"], row["posted"])]
        assert tuple(stored) == self._taken()
        states = self.world.run(
            self.world.owner.fetch(
                "SELECT r.decision_id::text, r.state FROM gate.reservations r JOIN gate.channels USING (channel_id)"
                " WHERE code = $1",
                self.code,
            )
        )
        assert dict(states) == {key: each.state for key, each in self.model.items() if each.state != "none"}


@pytest.fixture
def world(cluster: Cluster) -> Iterator[World]:
    loop = asyncio.new_event_loop()
    run: Callable[[Awaitable[Any]], Any] = loop.run_until_complete
    database = run(cluster.create(SEEDED_TEMPLATE))
    links = [run(asyncpg.connect(url)) for url in (database.owner, database.serving, database.governance)]
    yield World(database=database, loop=loop, owner=links[0], serving=links[1], governance=links[2])
    for link in links:
        run(link.close())
    run(cluster.drop(database))
    loop.close()


def _machine(world: World) -> type[ReservationMachine]:
    return type("Machine", (ReservationMachine,), {"world": world})


_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def test_reservations_and_budgets_follow_the_model(world: World) -> None:
    run_state_machine_as_test(
        _machine(world),
        settings=settings(max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=_QUIET),
    )


@pytest.mark.slow
def test_reservations_and_budgets_follow_the_model_for_long(world: World) -> None:
    run_state_machine_as_test(
        _machine(world),
        settings=settings(max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=_QUIET),
    )
