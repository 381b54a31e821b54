"""What must stay is not emptied by a slip, not even by the owner; a month still leaves the log as it should."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import pytest

from app.retention.holds import HoldSubject, place_hold
from app.retention.retain import drop_months
from tests.retention.decision_log import CHANGE, DUE, PERIODS, month_back, opened
from tests.support.cluster import Database

_PASSING = {
    "workers",
    "schema_version",
    "channel_aliases",
    "channel_days",
    "change_kinds",
    "whatif_runs",
    "reservation_terms",
    "outcome_staging",
    "book_staging",
}
"""What holds no record of its own: it is counted, made or read again."""

_UNGUARDED = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'gate'::regnamespace AND c.relkind IN ('r', 'p')
      AND NOT EXISTS (SELECT FROM pg_trigger t
                      WHERE t.tgrelid = c.oid AND t.tgfoid = 'gate.refuse_truncate'::regproc AND t.tgenabled <> 'D')
"""


async def test_every_table_refuses_to_be_truncated_by_its_owner_but_for_those_that_hold_no_record(
    database: Database,
) -> None:
    owner = await asyncpg.connect(database.owner)
    try:
        unguarded = {row[0] for row in await owner.fetch(_UNGUARDED)}
        assert {name for name in unguarded if not name.startswith("shadow_")} == _PASSING
        tables = [row[0] for row in await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'gate'")]
        assert [name for name in tables if name.startswith("decisions_consumer_2")]
        for name in set(tables) - unguarded:
            for cascade in ("", " CASCADE"):
                with pytest.raises(asyncpg.PostgresError) as refusal:
                    await owner.execute(f"TRUNCATE gate.{name}{cascade}")
                # Without a cascade, a table that others refer to is refused before any trigger is asked.
                assert refusal.value.sqlstate in ({"CG403"} if cascade else {"CG403", "0A000"})
    finally:
        await owner.close()


async def test_month_is_dropped_all_the_same_and_what_outlives_it_is_guarded_again(seeded_database: Database) -> None:
    old = month_back(DUE)
    name = f"decisions_consumer_{old:%Y_%m}"
    async with opened(seeded_database) as log:
        await log.lay_out(old)
        kept, gone = await log.decide(old), await log.decide(old)
        await log.digest_month(old)
        async with log.governance() as connection:
            subject = HoldSubject(decision_id=UUID(str(kept.decision_id)))
            await place_hold(connection, subject, reason="lawsuit 7", change=CHANGE)
            results = [result async for result in drop_months(connection, PERIODS, change=CHANGE)]
        (consumer,) = [each for each in results if each.due.retention_class == "consumer"]
        assert (consumer.removed, consumer.kept, consumer.refusal) == (1, 1, None)
        assert await log.ids() == {kept.decision_id} != {gone.decision_id}
    owner = await asyncpg.connect(seeded_database.owner)
    try:
        with pytest.raises(asyncpg.PostgresError, match="its rows are kept"):
            await owner.execute(f"TRUNCATE gate.{name}")
        assert await owner.fetchval(f"SELECT count(*) FROM gate.{name}") == 1
    finally:
        await owner.close()
