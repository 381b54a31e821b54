"""Months leave the log when their time is over, and what must outlive them stays."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from app.db.changes import InvalidChangeError
from app.retention.holds import HoldSubject, place_hold, release_hold
from app.retention.retain import MonthResult, Periods, drop_months, due_months, preview_month, sweep_quarantine
from tests.retention.decision_log import CHANGE, DUE, PERIODS, DecisionLog, month_back
from tests.support.cluster import eventually


async def drop(log: DecisionLog, periods: Periods = PERIODS) -> list[MonthResult]:
    async with log.governance() as connection:
        return [result async for result in drop_months(connection, periods, change=CHANGE)]


async def hold(log: DecisionLog, **subject: object) -> int:
    async with log.governance() as connection:
        return await place_hold(connection, HoldSubject(**subject), reason="lawsuit 7", change=CHANGE)  # type: ignore[arg-type]


async def test_month_past_its_period_goes_and_the_next_one_stays(log: DecisionLog) -> None:
    old, young = month_back(DUE), month_back(DUE - 1)
    await log.lay_out(old, young)
    last_moment = await log.decide(young - timedelta(microseconds=1))
    first_moment = await log.decide(young)
    await log.digest_month(old)
    results = await drop(log)
    consumer = [result for result in results if result.due.retention_class == "consumer"]
    assert [(r.due.month, r.removed, r.kept, r.refusal) for r in consumer] == [(old.date(), 1, 0, None)]
    assert await log.ids() == {first_moment.decision_id}
    keys = await log.arrange.fetch("SELECT decision_id FROM gate.decision_keys")
    assert [row[0] for row in keys] == [first_moment.decision_id] != [last_moment.decision_id]
    assert await log.arrange.fetchval("SELECT to_regclass($1)", f"gate.decisions_consumer_{old:%Y_%m}") is None


@pytest.mark.parametrize(("retention_class", "due"), [("consumer", DUE), ("business", 13)])
async def test_each_class_has_a_period_of_its_own(log: DecisionLog, retention_class: str, due: int) -> None:
    await log.lay_out(month_back(due), month_back(due - 1))
    async with log.governance() as connection:
        months = await due_months(connection, PERIODS)
    assert max(each.month for each in months if each.retention_class == retention_class) == month_back(due).date()


async def test_period_shorter_than_the_law_is_refused(log: DecisionLog) -> None:
    for periods in (Periods(consumer_months=24, business_months=12), Periods(consumer_months=25, business_months=11)):
        with pytest.raises(InvalidChangeError):
            await drop(log, periods)


async def test_drop_leaves_facts_without_people(log: DecisionLog) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    for day in (3, 9):
        await log.decide(month + timedelta(days=day), applicant_ref=f"person-{day}")
    await log.decide(
        month, applicant_ref="person-0", outcome="reject", next_action="decline", reason_codes="BU03,IN01", amount=98
    )
    await log.digest_month(month)
    await drop(log)
    facts = [dict(row) for row in await log.arrange.fetch("SELECT * FROM gate.decision_facts ORDER BY decisions DESC")]
    assert [(f["outcome"], f["amount_band"], f["reason_codes"], f["decisions"]) for f in facts] == [
        ("accept", 1_200_000, [], 2),
        ("reject", 98, ["BU03", "IN01"], 1),
    ]
    assert {f["month"] for f in facts} == {month.date()}
    assert set(facts[0]) == {
        "fact_id", "month", "retention_class", "channel_id", "product", "jurisdiction", "tier", "policy_version",
        "outcome", "currency", "amount_band", "term_months", "reason_codes", "decisions",
    }  # fmt: skip
    everything = json.dumps(facts, default=str)
    assert not any(text in everything for text in ("person-", "A-1", "click-77"))


async def test_rows_on_hold_outlive_their_month_and_still_answer_a_retry(log: DecisionLog) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    channels = [row["code"] for row in await log.arrange.fetch("SELECT code FROM gate.channels ORDER BY channel_id")]
    mine = await log.decide(month, applicant_ref="person-1")
    other = await log.decide(month, applicant_ref="person-2")
    named = await log.decide(month + timedelta(days=1))
    of_channel = await log.decide(month + timedelta(days=2), channel=channels[1])
    await hold(log, applicant_ref="person-1")
    await hold(log, decision_id=named.decision_id)
    await hold(log, channel_code=channels[1])
    await log.digest_month(month)
    [result] = [each for each in await drop(log) if each.due.retention_class == "consumer"]
    assert (result.removed, result.kept) == (1, 3)
    kept = {mine.decision_id, named.decision_id, of_channel.decision_id}
    assert await log.ids() == kept
    assert {row[0] for row in await log.arrange.fetch("SELECT decision_id FROM gate.held_decisions")} == kept
    again = mine._replace(decision_id=(await log.entry(month)).decision_id, decided_at=datetime.now(UTC))
    assert await log.flush(again) == [("replayed", mine.response)]
    anew = other._replace(decision_id=(await log.entry(month)).decision_id, decided_at=datetime.now(UTC))
    assert await log.flush(anew) == [("written", None)]


async def test_released_rows_go_with_the_next_run_and_others_stay(log: DecisionLog) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    await log.decide(month, applicant_ref="person-1")
    stays = await log.decide(month, applicant_ref="person-2")
    first, second = await hold(log, applicant_ref="person-1"), await hold(log, applicant_ref="person-2")
    await log.digest_month(month)
    await drop(log)
    for hold_id, left in ((first, {stays.decision_id}), (second, set())):
        async with log.governance() as connection:
            await release_hold(connection, hold_id, reason="settled", change=CHANGE)
        [result] = [each for each in await drop(log) if each.due.retention_class == "consumer"]
        assert (result.removed, result.kept) == (1, len(left))
        assert await log.ids() == left
        assert await log.arrange.fetchval("SELECT count(*) FROM gate.decision_keys") == len(left)
    assert await log.arrange.fetchval("SELECT to_regclass($1)", f"gate.decisions_consumer_{month:%Y_%m}") is None
    assert [json.loads(row)["after"]["removed"] for row in await log.audit("retention.sweep")] == [1, 1]


async def test_what_a_person_still_has_to_decide_is_kept_and_its_clock_starts_when_that_is_over(
    log: DecisionLog,
) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    escalated = {"outcome": "escalate", "reason_codes": "IN02"}
    still_open = await log.decide(month, next_action="review", **escalated)
    over = await log.decide(month, next_action="review", **escalated)
    offer = await log.decide(month, next_action="counter_offer", **escalated)
    start = "SELECT gate.retention_clock_start($1, $2, $3, $4)"
    for entry, days in ((still_open, 30), (over, 30), (offer, 0)):
        arguments = (entry.decision_id, entry.decided_at, entry.outcome, entry.next_action)
        assert await log.arrange.fetchval(start, *arguments) == entry.decided_at + timedelta(days=days)
    await log.arrange.execute("SELECT gate.reviews_gather()")
    await log.arrange.execute(
        "UPDATE gate.reviews SET state = 'rejected', resolved_at = opened_at, resolved_by = 'x' WHERE decision_id = $1",
        over.decision_id,
    )
    await log.arrange.execute("SELECT gate.review_act($1, 'rejected', 'x', 'why', NULL)", over.decision_id)
    await log.digest_month(month)
    await drop(log)
    assert await log.ids() == {still_open.decision_id}
    assert await log.arrange.fetchval("SELECT array_agg(decision_id) FROM gate.reviews") == [still_open.decision_id]
    assert await log.arrange.fetchval("SELECT count(*) FROM gate.review_actions") == 0


async def test_month_that_is_not_digested_is_not_dropped(log: DecisionLog) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    entry = await log.decide(month)
    [result] = [each for each in await drop(log) if each.due.retention_class == "consumer"]
    assert result.refusal is not None
    assert await log.ids() == {entry.decision_id}


async def test_month_that_was_tampered_with_is_not_dropped(log: DecisionLog) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    entry = await log.decide(month)
    await log.digest_month(month)
    await log.arrange.execute("UPDATE gate.decisions SET outcome = 'reject', reason_codes = '{BU03}'")
    [result] = [each for each in await drop(log) if each.due.retention_class == "consumer"]
    assert result.refusal == f"a decision of hour 0 has been changed ({month.date()})"
    assert await log.ids() == {entry.decision_id}


async def test_drop_is_audited_with_counts_and_digest(log: DecisionLog) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    await log.decide(month, applicant_ref="person-1")
    await log.decide(month)
    await hold(log, applicant_ref="person-1")
    await log.digest_month(month)
    await drop(log)
    [said] = [row for row in map(json.loads, await log.audit("retention.drop")) if "consumer" in row["subject"]]
    dropped = await log.arrange.fetchrow("SELECT * FROM gate.dropped_months WHERE retention_class = 'consumer'")
    assert said["after"] == {
        "decisions": 2, "kept": 1, "facts": 1, "months": 25, "digest": dropped["digest"].hex(),
    }  # fmt: skip
    assert said["actor"] == "test"


async def test_dry_run_counts_and_removes_nothing(log: DecisionLog) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    await log.decide(month, applicant_ref="person-1")
    await log.decide(month)
    await hold(log, applicant_ref="person-1")
    async with log.governance() as connection:
        due = [each for each in await due_months(connection, PERIODS) if each.retention_class == "consumer"]
        seen = await preview_month(connection, due[0])
    assert (seen.removed, seen.kept) == (1, 1)
    assert len(await log.ids()) == 2


async def test_decisions_go_on_while_a_drop_waits_for_a_long_read(log: DecisionLog) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    await log.decide(month)
    await log.digest_month(month)
    reader = await asyncpg.connect(log.database.serving)
    try:
        await reader.execute("BEGIN; SELECT count(*) FROM gate.decisions")
        dropping = asyncio.create_task(drop(log))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        await eventually(lambda: log.arrange.fetchval(waiting))
        for _ in range(5):
            started = asyncio.get_running_loop().time()
            await log.decide(datetime.now(UTC))
            assert asyncio.get_running_loop().time() - started < 1
        assert not dropping.done()
        await reader.execute("ROLLBACK")
        results = await dropping
    finally:
        await reader.close()
    assert all(result.refusal is None for result in results)


async def test_hold_waits_for_a_drop_that_is_under_way(log: DecisionLog) -> None:
    blocker = await asyncpg.connect(log.database.superuser)
    try:
        await blocker.execute("BEGIN; SELECT pg_advisory_xact_lock(4840311976251043)")
        placing = asyncio.create_task(hold(log, applicant_ref="person-1"))
        await eventually(lambda: log.arrange.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        assert await log.arrange.fetchval("SELECT count(*) FROM gate.legal_holds") == 0
        await blocker.execute("ROLLBACK")
        assert await placing == 1
    finally:
        await blocker.close()


async def test_quarantine_is_emptied_after_its_days_but_for_holds(log: DecisionLog) -> None:
    for person in ("person-1", "person-2", "person-3"):
        entry = await log.entry(datetime.now(UTC), applicant_ref=person)
        await log.arrange.execute(
            "SELECT gate.quarantine_put($1, 1, $2, '22003', $3)", entry.decision_id, entry.fingerprint, entry.input
        )
    await log.arrange.execute(
        "UPDATE gate.quarantine SET at = now() - interval '91 days' WHERE convert_from(input, 'UTF8') !~ 'person-3'"
    )
    await hold(log, applicant_ref="person-2")
    async with log.governance() as connection:
        assert await sweep_quarantine(connection, change=CHANGE) == 1
        assert await sweep_quarantine(connection, change=CHANGE) == 0
    left = await log.arrange.fetch("SELECT convert_from(input, 'UTF8') FROM gate.quarantine ORDER BY 1")
    assert ["person-2" in row[0] or "person-3" in row[0] for row in left] == [True, True]
