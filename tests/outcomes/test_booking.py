"""What becomes of reported facts: each counts once, in any order, and none is refused or lost."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db.engine import make_engine
from app.invariants.verify import verify
from app.outcomes.payload import EVENT, EventError, row_of
from app.outcomes.state import Decided, Kind
from app.outcomes.store import Result, contradictions, waiting, wake
from tests.outcomes.conftest import Desk
from tests.support.cluster import Database

DAY = date(2026, 1, 10)
AMOUNT = 5_000_000


def event(kind: str, application_id: str = "A-1", day: int | None = 0, **more: Any) -> dict[str, Any]:
    """An event `day` days after DAY."""
    dated = {} if day is None else {"occurred_on": (DAY + timedelta(days=day)).isoformat()}
    return {"application_id": application_id, "kind": kind, **dated, **more}


def results(booked: Any) -> list[str]:
    return [each.result.value for each in booked]


async def test_facts_are_accepted_once_and_repeated_afterwards(desk: Desk) -> None:
    await desk.decide("A-1")
    assert results(await desk.report(event("funded", amount=AMOUNT), event("funded", amount=AMOUNT))) == [
        "accepted",
        "repeated",
    ]
    assert results(await desk.report(event("funded", amount=AMOUNT))) == ["repeated"]
    assert (await desk.outcome("A-1")).funded_amount == AMOUNT


async def test_a_correction_supersedes_and_keeps_what_was(desk: Desk) -> None:
    await desk.decide("A-1")
    await desk.report(event("funded", amount=AMOUNT))
    assert results(await desk.report(event("funded", amount=4_000_000, correction=2))) == ["accepted"]
    assert results(await desk.report(event("funded", amount=4_500_000, correction=1))) == ["superseded"]
    assert (await desk.outcome("A-1")).funded_amount == 4_000_000
    assert await desk.owner.fetchval("SELECT count(*) FROM gate.outcome_events") == 3


async def test_facts_of_an_unknown_application_wait_for_it_and_take_effect_when_it_comes(desk: Desk) -> None:
    assert results(await desk.report(event("funded", amount=AMOUNT), event("paid_off", day=90))) == ["waiting"] * 2
    async with desk.engine.connect() as connection:
        listed = await waiting(connection, originator_id=None, after=None, limit=10)
        assert [each.application_id for each in listed] == ["A-1"]
        assert await wake(connection, after=0, limit=10) == (None, 0)
    decision = await desk.decide("A-1")
    async with desk.engine.begin() as connection:
        assert await wake(connection, after=0, limit=10) == (None, 1)
    async with desk.engine.connect() as connection:
        assert await waiting(connection, originator_id=None, after=None, limit=10) == []
    found = await desk.outcome("A-1")
    assert (found.status, found.decision_id, found.channel_code) == ("paid_off", decision, "app-store")
    assert await desk.owner.fetchval("SELECT state FROM gate.reservations") == "posted"


CONTRADICTIONS = [
    ([event("funded", amount=1, reference="L1"), event("funded", amount=2, reference="L2")], "funded_twice"),
    ([event("funded", amount=AMOUNT + 1)], "funded_above_reservation"),
    ([event("funded", amount=AMOUNT, currency="USD")], "currency_differs"),
    ([event("withdrawn"), event("funded", amount=AMOUNT)], "ended_and_funded"),
    ([event("performance", days_past_due=0)], "loan_without_funding"),
    (
        [
            event("funded", amount=AMOUNT),
            event("paid_off", day=30),
            event("performance", day=60, days_past_due=30, balance=1),
        ],
        "past_due_after_payoff",
    ),
    ([event("funded", amount=1), event("paid_off"), event("charged_off", day=9)], "charged_off_after_payoff"),
    ([event("funded", amount=1), event("funded", amount=2)], "reported_differently"),
]


async def test_contradictions_are_booked_flagged_and_listed(desk: Desk) -> None:
    for number, (events, flag) in enumerate(CONTRADICTIONS):
        name = f"A-{number}"
        await desk.decide(name)
        booked = await desk.report(*(each | {"application_id": name} for each in events))
        assert {each.result for each in booked} <= {Result.FLAGGED, Result.SUPERSEDED}
        assert booked[-1].flags == (flag,)
        async with desk.engine.connect() as connection:
            listed = await contradictions(connection, originator_id=1, flag=flag, after=None, limit=10)
        assert [each.application_id for each in listed] == [name]
    async with desk.engine.connect() as connection:
        listed = await contradictions(connection, originator_id=1, flag=None, after=None, limit=10)
    assert len(listed) == len(CONTRADICTIONS)
    assert await desk.owner.fetchval("SELECT count(*) FROM gate.outcome_events") == sum(
        len(events) for events, _ in CONTRADICTIONS
    )


async def test_a_funding_posts_the_reservation_and_repayment_frees_what_is_outstanding_alone(desk: Desk) -> None:
    flow, stock = await desk.budget("monthly", "amount"), await desk.budget("outstanding", "amount")
    loans = await desk.budget("outstanding", "count")
    lines = ((flow, AMOUNT), (stock, AMOUNT), (loans, 1))
    await desk.decide("A-1", budget_lines=lines, budget_available=True)
    assert await desk.taken(flow, stock, loans) == [(AMOUNT, 0), (AMOUNT, 0), (1, 0)]
    await desk.report(event("funded", amount=4_000_000))
    assert await desk.taken(flow, stock, loans) == [(0, 4_000_000), (0, 4_000_000), (0, 1)]
    await desk.report(event("performance", day=40, days_past_due=0, balance=3_000_000))
    assert await desk.taken(flow, stock, loans) == [(0, 4_000_000), (0, 3_000_000), (0, 1)]
    await desk.report(event("paid_off", day=90))
    assert await desk.taken(flow, stock, loans) == [(0, 4_000_000), (0, 0), (0, 0)]
    await desk.report(event("paid_off", day=90, correction=1, retracted=True))
    assert await desk.taken(flow, stock, loans) == [(0, 4_000_000), (0, 3_000_000), (0, 1)]


async def test_an_ending_gives_the_reservation_back(desk: Desk) -> None:
    flow = await desk.budget("monthly", "amount")
    for kind in ("withdrawn", "cancelled", "expired", "declined_downstream"):
        await desk.decide(kind, budget_lines=((flow, AMOUNT),), budget_available=True)
        assert await desk.taken(flow) == [(AMOUNT, 0)]
        booked = await desk.report(event(kind, kind))
        assert (booked[0].result, booked[0].status) == (Result.ACCEPTED, kind)
        assert await desk.taken(flow) == [(0, 0)]
    ended = await desk.owner.fetch("SELECT DISTINCT state, cause FROM gate.reservations")
    assert [tuple(row) for row in ended] == [("voided", "outcome")]


async def test_budgets_end_where_the_facts_are_whatever_came_first(desk: Desk) -> None:
    flow, stock = await desk.budget("monthly", "amount"), await desk.budget("outstanding", "amount")
    facts = [event("withdrawn"), event("funded", amount=AMOUNT + 7), event("performance", days_past_due=9, balance=11)]
    found = set()
    for turn, order in enumerate([(0, 1, 2), (1, 0, 2), (2, 1, 0)]):
        name = f"A-{turn}"
        before = await desk.taken(flow, stock)
        await desk.decide(name, budget_lines=((flow, AMOUNT), (stock, AMOUNT)), budget_available=True)
        for position in order:
            await desk.report(facts[position] | {"application_id": name})
        after = await desk.taken(flow, stock)
        moved = [after[each][part] - before[each][part] for each in (0, 1) for part in (0, 1)]
        found.add((*moved, (await desk.outcome(name)).flags))
    assert found == {(0, AMOUNT + 7, 0, 11, ("ended_and_funded", "funded_above_reservation"))}


async def test_a_funding_after_its_reservation_expired_is_booked_and_flagged(desk: Desk) -> None:
    flow = await desk.budget("monthly", "amount")
    await desk.decide("A-1", budget_lines=((flow, AMOUNT),), budget_available=True)
    await desk.owner.execute("UPDATE gate.reservations SET expires_at = now()")
    assert await desk.owner.fetchval("SELECT gate.reservations_expire(10)") == 1
    booked = await desk.report(event("funded", amount=AMOUNT))
    assert booked[0].flags == ("funded_after_release",)
    assert await desk.taken(flow) == [(0, AMOUNT)]


KINDS = st.sampled_from(
    [
        Kind.FUNDED,
        *(Kind.WITHDRAWN, Kind.CANCELLED, Kind.EXPIRED),
        *(Kind.PERFORMANCE, Kind.PERFORMANCE, Kind.PAID_OFF, Kind.CHARGED_OFF),
        *(Kind.INSTALMENT_DUE, Kind.INSTALMENT_PAID, Kind.COMPLAINT, Kind.RECOVERED),
    ]
)


@st.composite
def events(draw: st.DrawFn, application_id: str) -> dict[str, Any]:
    """A valid event; few days and amounts, so that many of them meet."""
    kind = draw(KINDS)
    found = event(kind, application_id, draw(st.integers(0, 3)) * 30)
    amount = st.sampled_from([0, 1, AMOUNT, AMOUNT + 1])
    if kind in {Kind.FUNDED, Kind.INSTALMENT_PAID, Kind.RECOVERED}:
        found["amount"] = draw(amount)
    if kind in {Kind.INSTALMENT_DUE, Kind.INSTALMENT_PAID}:
        found["instalment"] = draw(st.integers(1, 2))
    if kind == Kind.PERFORMANCE:
        found["days_past_due"] = draw(st.sampled_from([0, 1, 30]))
        if draw(st.booleans()):
            found["balance"] = draw(amount)
        if draw(st.booleans()):
            found["month_on_book"] = draw(st.integers(0, 3))
            del found["occurred_on"]
    elif draw(st.integers(0, 4)) == 0:
        found["reference"] = draw(st.sampled_from(["x", "y"]))
    if draw(st.integers(0, 3)) == 0:
        found |= {"correction": draw(st.integers(1, 2)), "retracted": draw(st.booleans())}
    if draw(st.integers(0, 5)) == 0:
        found["currency"] = draw(st.sampled_from(["CNY", "USD"]))
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_any_order_and_repetition_of_facts_gives_the_state_that_the_machine_folds(
    desk: Desk, data: st.DataObject
) -> None:
    name = f"A-{uuid4().hex}"
    outcome = data.draw(st.sampled_from([None, "accept", "escalate", "reject"]), "outcome")
    if outcome is not None:
        await desk.decide(name, outcome=outcome, reason_codes="" if outcome == "accept" else "IN01")
    told = data.draw(st.lists(events(name), min_size=1, max_size=10), "told")
    again = data.draw(st.permutations(told + told[:3]), "again")
    await desk.report(*told)
    decided = None if outcome is None else Decided(outcome=outcome, amount=AMOUNT, currency="CNY")
    expected = await desk.folded(name, decided)
    for each in again:
        await desk.report(each | {"application_id": f"{name}-2"})
    if outcome is not None:
        await desk.decide(f"{name}-2", outcome=outcome, reason_codes="" if outcome == "accept" else "IN01")
        async with desk.engine.begin() as connection:
            await wake(connection, after=0, limit=1_000)
    for each in (name, f"{name}-2"):
        found = await desk.outcome(each)
        assert found.flags == tuple(sorted(expected.flags))
        for field in set(expected.__dataclass_fields__) - {"flags"}:
            assert getattr(found, field) == getattr(expected, field), field


async def test_concurrent_reports_of_the_same_applications_end_in_one_state_without_a_deadlock(desk: Desk) -> None:
    for number in range(6):
        await desk.decide(f"A-{number}")
    facts = [
        fact
        for number in range(9)
        for fact in (
            event("funded", f"A-{number}", amount=AMOUNT),
            event("performance", f"A-{number}", day=31, days_past_due=31, balance=7),
            event("performance", f"A-{number}", day=31, days_past_due=3, balance=7, correction=1),
        )
    ]
    shuffle = random.Random(4).sample
    booked = await asyncio.gather(*(desk.report(*shuffle(facts, len(facts))) for _ in range(8)))
    counted = [result for each in booked for result in results(each)]
    assert counted.count("repeated") == 7 * len(facts)
    assert await desk.owner.fetchval("SELECT count(*) FROM gate.outcome_events") == len(facts)
    for number in range(9):
        found = await desk.outcome(f"A-{number}")
        assert (found.status, found.days_past_due, found.outstanding) == ("past_due", 3, 7)


@pytest.mark.parametrize(
    ("fault", "pointer"),
    [
        ({"kind": "funded", "occurred_on": "2026-01-10"}, "/amount"),
        ({"kind": "funded", "occurred_on": "2026-01-10", "amount": 1, "rating": 3}, "/rating"),
        ({"kind": "performance", "days_past_due": 3}, "/occurred_on"),
        ({"kind": "paid_off", "occurred_on": "2026-01-10", "retracted": True}, "/correction"),
        ({"kind": "satisfaction", "occurred_on": "2026-01-10"}, "/rating"),
    ],
)
def test_an_event_that_does_not_fit_its_kind_names_the_field(fault: dict[str, Any], pointer: str) -> None:
    with pytest.raises(EventError) as refused:
        row_of(EVENT.validate_python({"application_id": "A-1", **fault}))
    assert refused.value.pointer == pointer


async def test_a_funding_of_what_was_never_accepted_takes_the_budgets_of_today(desk: Desk) -> None:
    flow = await desk.budget("monthly", "amount")
    await desk.decide("A-1", outcome="reject", reason_codes="IN01")
    booked = await desk.report(event("funded", amount=AMOUNT))
    assert booked[0].flags == ("funded_without_accept",)
    assert await desk.taken(flow) == [(0, AMOUNT)]
    overrun = await desk.owner.fetchrow("SELECT kind, amount FROM gate.overruns")
    assert tuple(overrun) == ("unreserved", AMOUNT)


async def test_a_corrected_and_a_retracted_funding_take_their_units_along(
    desk: Desk, seeded_database: Database
) -> None:
    flow, stock = await desk.budget("monthly", "amount"), await desk.budget("outstanding", "amount")
    await desk.decide("A-1", budget_lines=((flow, AMOUNT), (stock, AMOUNT)), budget_available=True)
    for correction, amount in enumerate([5_000_000, 4_000_000, 4_500_000]):
        await desk.report(event("funded", amount=amount, correction=correction))
        assert await desk.taken(flow, stock) == [(0, amount)] * 2
    await desk.report(event("performance", day=40, days_past_due=0, balance=1_000_000))
    assert await desk.taken(flow, stock) == [(0, 4_500_000), (0, 1_000_000)]
    await assert_budgets_agree(seeded_database)
    await desk.report(event("funded", correction=9, retracted=True))
    await assert_budgets_agree(seeded_database)
    assert await desk.taken(flow, stock) == [(0, 0)] * 2
    await desk.report(event("funded", amount=AMOUNT, correction=10))
    assert await desk.taken(flow, stock) == [(0, AMOUNT), (0, 1_000_000)]
    await assert_budgets_agree(seeded_database)


async def assert_budgets_agree(database: Database) -> None:
    """What the nightly invariants say of budgets."""
    engine = make_engine(database.governance, pool_size=1)
    async with engine.connect() as connection:
        found = [each async for each in verify(connection, since=datetime(2000, 1, 1, tzinfo=UTC))]
    await engine.dispose()
    assert {each.invariant.name: each.shown for each in found if "budget" in each.invariant.name and each.count} == {}
