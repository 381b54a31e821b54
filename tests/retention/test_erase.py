"""A person's data leaves the log where the law lets it, and nobody else's does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db.changes import InvalidChangeError, UnknownSubjectError
from app.journal.digest import check_days
from app.retention.erase import Erasure, LawBasis, erase_person
from app.retention.holds import HoldSubject, place_hold
from app.retention.retain import drop_months
from tests.retention.decision_log import CHANGE, DUE, PERIODS, DecisionLog, month_back

_BLANKED = {"input", "record", "applicant_ref", "sub_id", "erased_at"}


async def erase(
    log: DecisionLog, person: str = "person-1", basis: LawBasis | None = LawBasis.ORDERED, reason: str = "request 12"
) -> Erasure:
    async with log.governance() as connection:
        return await erase_person(connection, person, basis=basis, periods=PERIODS, reason=reason, change=CHANGE)


async def rows(log: DecisionLog) -> dict[Any, dict[str, Any]]:
    return {row["decision_id"]: dict(row) for row in await log.arrange.fetch("SELECT * FROM gate.decisions")}


async def test_only_the_rows_of_that_person_change_and_only_what_is_personal(log: DecisionLog) -> None:
    now = datetime.now(UTC)
    neighbours = ("person-2", "person-11", "PERSON-1", None, "person-1 ")
    mine = [await log.decide(now, applicant_ref="person-1", retention_class=each) for each in ("consumer", "business")]
    for person in neighbours:
        await log.decide(now, applicant_ref=person)
    before = await rows(log)
    assert await erase(log) == Erasure(erased=2, quarantined=0, on_hold=0, within_period=0)
    after = await rows(log)
    assert {each.decision_id for each in mine} == {number for number in before if before[number] != after[number]}
    for entry in mine:
        row = after[entry.decision_id]
        assert {name for name in row if row[name] != before[entry.decision_id][name]} == _BLANKED
        assert [row[name] for name in ("input", "record", "applicant_ref", "sub_id")] == [None] * 4
        assert row["erased_at"] >= now


async def test_retry_of_an_erased_decision_gets_the_stored_answer(log: DecisionLog) -> None:
    entry = await log.decide(datetime.now(UTC), applicant_ref="person-1")
    await erase(log)
    again = entry._replace(decision_id=(await log.entry(datetime.now(UTC))).decision_id)
    assert await log.flush(again) == [("replayed", entry.response)]


async def test_without_a_basis_the_law_keeps_what_is_within_its_period(log: DecisionLog) -> None:
    old = month_back(DUE)
    await log.lay_out(old, month_back(13))
    past = await log.decide(old, applicant_ref="person-1")
    business = await log.decide(month_back(13), applicant_ref="person-1", retention_class="business")
    within = await log.decide(month_back(13), applicant_ref="person-1")
    assert await erase(log, basis=None) == Erasure(erased=2, quarantined=0, on_hold=0, within_period=1)
    erased = {number for number, row in (await rows(log)).items() if row["erased_at"]}
    assert erased == {past.decision_id, business.decision_id}
    assert await erase(log, basis=LawBasis.NO_DUTY) == Erasure(erased=1, quarantined=0, on_hold=0, within_period=0)
    assert (await rows(log))[within.decision_id]["input"] is None


async def test_no_basis_lifts_a_legal_hold(log: DecisionLog) -> None:
    first = await log.decide(datetime.now(UTC), applicant_ref="person-1")
    await log.decide(datetime.now(UTC), applicant_ref="person-1")
    async with log.governance() as connection:
        await place_hold(connection, HoldSubject(decision_id=first.decision_id), reason="lawsuit", change=CHANGE)
    assert await erase(log) == Erasure(erased=1, quarantined=0, on_hold=1, within_period=0)
    assert (await rows(log))[first.decision_id]["input"] == first.input


async def test_erasure_reaches_quarantine_and_what_outlived_its_month(log: DecisionLog) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    kept = await log.decide(month, applicant_ref="person-1")
    for person in ("person-1", "person-11"):
        entry = await log.entry(datetime.now(UTC), applicant_ref=person)
        await log.arrange.execute(
            "SELECT gate.quarantine_put($1, 1, $2, '22003', $3)", entry.decision_id, entry.fingerprint, entry.input
        )
    await log.arrange.execute("SELECT gate.quarantine_put($1, 1, '', '22021', '\\xff')", kept.decision_id)
    await log.digest_month(month)
    async with log.governance() as connection:
        hold = await place_hold(connection, HoldSubject(decision_id=kept.decision_id), reason="lawsuit", change=CHANGE)
        assert all([result.refusal is None async for result in drop_months(connection, PERIODS, change=CHANGE)])
    assert await log.arrange.fetchval("SELECT count(*) FROM gate.held_decisions") == 1
    await log.arrange.execute(f"SELECT gate.hold_release({hold}, 'settled', 'test', NULL)")
    assert await erase(log) == Erasure(erased=1, quarantined=1, on_hold=0, within_period=0)
    held = await log.arrange.fetchrow("SELECT * FROM gate.held_decisions")
    assert (held["input"], held["applicant_ref"]) == (None, None)
    left = await log.arrange.fetch("SELECT input FROM gate.quarantine ORDER BY quarantine_id")
    assert [row["input"] is None for row in left] == [True, False, False]


async def test_audit_log_gets_counts_and_no_person(log: DecisionLog) -> None:
    entry = await log.decide(datetime.now(UTC), applicant_ref="person-1")
    await erase(log)
    [payload] = await log.audit("person.erase")
    assert '"erased": 1' in payload
    assert '"basis": "ordered"' in payload
    assert not any(text in payload for text in ("person-1", entry.application_id, str(entry.decision_id)))


async def test_reason_must_not_name_the_person_and_an_unknown_person_is_said(log: DecisionLog) -> None:
    await log.decide(datetime.now(UTC), applicant_ref="person-1")
    for reason in ("", "person-1 asks"):
        with pytest.raises(InvalidChangeError):
            await erase(log, reason=reason)
    with pytest.raises(UnknownSubjectError):
        await erase(log, "person-9")
    assert await log.audit("person.erase") == []


async def test_digest_and_contents_still_hold_after_an_erasure(log: DecisionLog) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=2)
    await log.decide(yesterday, applicant_ref="person-1")
    await log.decide(yesterday, applicant_ref="person-2")
    await log.digest(yesterday)
    await erase(log)
    async with log.governance() as connection:
        assert [check.faults async for check in check_days(connection)] == [(), ()]


async def test_ten_thousand_rows_of_one_person_are_erased_at_once(log: DecisionLog) -> None:
    now = datetime.now(UTC)
    await log.decide(now, applicant_ref="person-1")
    await log.arrange.execute(
        """
        INSERT INTO gate.decisions
        SELECT (jsonb_populate_record(d, jsonb_build_object(
            'decision_id', gen_random_uuid(), 'application_id', 'many-' || number))).*
        FROM gate.decisions d, generate_series(1, 9999) AS number
        """
    )
    neighbour = await log.decide(now, applicant_ref="person-2")
    assert (await erase(log)).erased == 10_000
    assert await log.arrange.fetchval("SELECT count(*) FROM gate.decisions WHERE input IS NOT NULL") == 1
    assert (await rows(log))[neighbour.decision_id]["input"] == neighbour.input
