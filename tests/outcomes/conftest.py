"""What the tests of outcomes share: decisions in the log, booking, and what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import make_engine
from app.journal.call import FLUSH_SQL, flush_arguments
from app.outcomes.payload import EVENT, row_of
from app.outcomes.state import Decided, Fact, Kind, State, fold
from app.outcomes.store import Booked, Outcome, book_events, events_of, find_outcome
from tests.support.cluster import Database
from tests.support.entries import Ground, ground


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Decides and reports, each as its login."""

    engine: AsyncEngine
    owner: asyncpg.Connection
    ground: Ground

    async def decide(self, application_id: str, **changes: Any) -> Any:
        """A decision in the log, as a flush writes it; its id."""
        entry = self.ground.entry(application_id, **changes)
        found = await self.owner.fetch(FLUSH_SQL, *flush_arguments([entry]))
        assert found == [], found
        return entry.decision_id

    async def report(self, *events: dict[str, Any]) -> tuple[Booked, ...]:
        """Book events in one call."""
        rows = [row_of(EVENT.validate_python(event)) for event in events]
        async with self.engine.begin() as connection:
            return await book_events(connection, originator_id=1, events=rows, by="key:test")

    async def outcome(self, application_id: str) -> Outcome:
        """What is stored of an application that facts were reported of."""
        async with self.engine.connect() as connection:
            found = await find_outcome(connection, originator_id=1, application_id=application_id)
        assert found is not None
        return found

    async def folded(self, application_id: str, decided: Decided | None) -> State:
        """The same, folded in Python from the stored facts."""
        outcome = await self.outcome(application_id)
        async with self.engine.connect() as connection:
            rows = await events_of(connection, outcome.subject_id)
        names = set(Fact.__dataclass_fields__) - {"kind"}
        facts = [Fact(kind=Kind(row.kind), **{name: getattr(row, name) for name in names}) for row in rows]
        return fold(facts, decided)

    async def taken(self, *budgets: int) -> list[tuple[int, int]]:
        """What is reserved and posted of each of these budgets."""
        rows = await self.owner.fetch(
            "SELECT budget_id, sum(reserved)::int AS reserved, sum(posted)::int AS posted"
            " FROM gate.budget_periods GROUP BY budget_id"
        )
        found = {row["budget_id"]: (row["reserved"], row["posted"]) for row in rows}
        return [found[each] for each in budgets]

    async def budget(self, period: str, measure: str, limit: int = 10**12) -> int:
        """A budget over everything; its number."""
        number: int = await self.owner.fetchval(
            "SELECT budget_id FROM gate.budget_set(NULL, NULL, NULL, NULL, $1, $2, $3, $4, 100, NULL, 'UTC',"
            " 'admin', 'test', NULL)",
            *(period, measure, None if measure == "count" else "CNY", limit),
        )
        return number


@pytest.fixture
async def desk(seeded_database: Database) -> AsyncIterator[Desk]:
    """A desk on a clean database with the demo's channels."""
    engine = make_engine(seeded_database.serving, pool_size=2)
    owner = await asyncpg.connect(seeded_database.owner)
    yield Desk(engine=engine, owner=owner, ground=await ground(seeded_database))
    await owner.close()
    await engine.dispose()
