"""Many reviewers at once, budgets and persons under them, late commits, and who attacks the queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from app.journal.call import FLUSH_SQL, flush_arguments
from app.retention.erase import LawBasis, erase_person
from app.retention.retain import Periods
from tests.reviews.conftest import CHANGE, Desk
from tests.support.cluster import Database, eventually
from tests.support.entries import ground

pytestmark = pytest.mark.xdist_group("reviews")

_CLAIM_NEXT = "SELECT decision_id FROM gate.review_claim_next($1, interval '30 minutes', $1)"
_REVIEW: dict[str, Any] = {"outcome": "escalate", "next_action": "review", "reason_codes": "EM01"}


async def connections(url: str, count: int) -> list[asyncpg.Connection]:
    return [await asyncpg.connect(url) for _ in range(count)]


async def close(opened: Sequence[asyncpg.Connection]) -> None:
    for each in opened:
        await each.close()


async def flushed(database: Database, count: int, **changes: Any) -> list[Any]:
    """Write escalations into the log; their ids."""
    here = await ground(database)
    entries = [here.entry(f"E-{number}", **(_REVIEW | changes)) for number in range(count)]
    serving = await asyncpg.connect(database.serving)
    assert await serving.fetch(FLUSH_SQL, *flush_arguments(entries)) == []
    await serving.execute("SELECT gate.reviews_gather()")
    await serving.close()
    return [entry.decision_id for entry in entries]


async def test_each_review_is_claimed_once_by_many_who_ask_at_once(seeded_database: Database) -> None:
    ids = await flushed(seeded_database, 40)
    desks = await connections(seeded_database.governance, 12)

    async def work(number: int, connection: asyncpg.Connection) -> list[Any]:
        taken = []
        while (claimed := await connection.fetchval(_CLAIM_NEXT, f"reviewer-{number}")) is not None:
            taken.append(claimed)
        return taken

    taken = await asyncio.gather(*(work(number, each) for number, each in enumerate(desks)))
    await close(desks)
    # A row that another has just locked is passed over, so nobody waits, and nobody gets it twice.
    assert sorted(each for some in taken for each in some) == sorted(ids)


async def test_a_claim_that_has_run_out_returns_to_the_queue(seeded_database: Database) -> None:
    [decision_id] = await flushed(seeded_database, 1)
    governance, owner = await asyncpg.connect(seeded_database.governance), await asyncpg.connect(seeded_database.owner)
    assert await governance.fetchval(_CLAIM_NEXT, "rita") == decision_id
    assert await governance.fetchval(_CLAIM_NEXT, "sam") is None
    await owner.execute("UPDATE gate.reviews SET held_until = now() - interval '1 second'")
    assert await governance.fetchval(_CLAIM_NEXT, "sam") == decision_id
    resolve = "SELECT gate.review_resolve($1, NULL, 'reject', 'why', 'rita', NULL, NULL, NULL, NULL, 'rita', NULL)"
    with pytest.raises(asyncpg.PostgresError, match="only who has claimed"):
        await governance.execute(resolve, decision_id)
    await close([governance, owner])


async def test_two_who_accept_at_once_reserve_once(desk: Desk) -> None:
    decision_id = await desk.escalated("once-1")
    review = await desk.claimed(decision_id)
    answers = await asyncio.gather(*(desk.resolve(review) for _ in range(4)))
    assert (
        sorted(answer.status_code for answer in answers)[:2] == [200, 409]
        or Counter(answer.status_code for answer in answers)[200] == 1
    )
    assert await desk.value("SELECT count(*) FROM gate.reservations WHERE decision_id = $1", decision_id) == 1

    second = await desk.escalated("once-2", amount=19_000_000)
    proposal = (await desk.propose(await desk.claimed(second))).json()
    approvals = await asyncio.gather(desk.approve(proposal, "sam"), desk.approve(proposal, "tom"))
    assert sorted(answer.status_code for answer in approvals)[0] == 200
    assert sorted(answer.status_code for answer in approvals)[1] in {409, 412}
    assert await desk.value("SELECT count(*) FROM gate.events WHERE subject = $1", second) == 1


async def test_acceptances_never_pass_a_budget_and_decisions_beside_them_neither(desk: Desk) -> None:
    admin = await asyncpg.connect(desk.database.governance)
    budget_id = await admin.fetchval(
        "SELECT budget_id FROM gate.budget_set('search-ads', NULL, NULL, NULL, 'daily', 'count', NULL, 5, 100, NULL,"
        " 'UTC', 'a', 'r', NULL)"
    )
    await admin.close()
    ids = [
        await desk.escalated(f"full-{number}", channel_code="search-ads", applicant__employment_months=5)
        for number in range(8)
    ]
    reviews = [await desk.claimed(decision_id) for decision_id in ids]

    async def decide(number: int) -> int:
        answer = await desk.service.decide(f"full-now-{number}", channel_code="search-ads")
        return int(answer.json()["outcome"] == "accept")

    async def accept(review: dict[str, Any]) -> int:
        answer = await desk.resolve(review)
        assert answer.status_code in {200, 409}, answer.text
        return int(answer.status_code == 200)

    accepted = await asyncio.gather(*map(accept, reviews), *map(decide, range(8)))
    assert sum(accepted) == 5
    query = """SELECT max(p.reserved) FROM gate.budget_periods p WHERE p.budget_id = $1
               AND p.reserved = (SELECT coalesce(sum(u.units), 0) FROM gate.reservation_units u
                                 WHERE u.period_id = p.period_id)"""
    assert await desk.value(query, budget_id) == 5


async def test_of_one_persons_reviews_one_is_accepted_however_many_are_resolved_at_once(desk: Desk) -> None:
    ids = [
        await desk.escalated(
            f"person-{number}", channel_code=code, applicant__applicant_ref="p-many", applicant__employment_months=1
        )
        for number, code in enumerate(["app-store", "app-store", "app-store"])
    ]
    reviews = [await desk.claimed(decision_id) for decision_id in ids]
    answers = await asyncio.gather(*map(desk.resolve, reviews))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    query = "SELECT count(*) FROM gate.reservations WHERE decision_id = ANY ($1::uuid[])"
    assert await desk.value(query, ids) == 1


async def test_an_escalation_that_commits_late_is_not_passed_over(seeded_database: Database) -> None:
    here = await ground(seeded_database)
    slow, other, owner = (
        await asyncpg.connect(seeded_database.serving),
        await asyncpg.connect(seeded_database.serving),
        await asyncpg.connect(seeded_database.owner),
    )
    late = here.entry("late", decided_at=datetime.now(UTC) - timedelta(minutes=30), **_REVIEW)
    transaction = slow.transaction()
    await transaction.start()
    assert await slow.fetch(FLUSH_SQL, *flush_arguments([late])) == []
    # As if everything up to now had been read, while that one was under way.
    await owner.execute(
        "UPDATE gate.review_intake SET complete_to = '-infinity', mark_at = now(),"
        " mark_transaction = pg_current_xact_id()::text::bigint"
    )
    for _ in range(3):
        assert await other.fetchval("SELECT gate.reviews_gather()") == 0
        assert await owner.fetchval("SELECT complete_to = '-infinity' FROM gate.review_intake")
    await transaction.commit()
    assert await other.fetchval("SELECT gate.reviews_gather()") == 1

    async def read_on() -> bool:
        """Transactions of other tests end as well, in a moment."""
        await other.execute("SELECT gate.reviews_gather()")
        return bool(await owner.fetchval("SELECT complete_to > '-infinity' FROM gate.review_intake"))

    await eventually(read_on)
    await close([slow, other, owner])


async def test_a_gathered_log_is_read_on_from_where_it_was_complete(seeded_database: Database) -> None:
    [first] = await flushed(seeded_database, 1)
    owner = await asyncpg.connect(seeded_database.owner)
    for _ in range(2):
        await owner.execute("SELECT gate.reviews_gather()")
    at = datetime.now(UTC) - timedelta(minutes=6)
    assert await owner.fetchval("SELECT complete_to FROM gate.review_intake") > at - timedelta(minutes=1)
    # What nobody has seen for so long comes in by a reading of the whole log.
    await owner.execute("DELETE FROM gate.reviews WHERE decision_id = $1", first)
    await owner.execute("UPDATE gate.review_intake SET complete_to = now() + interval '1 hour'")
    assert await owner.fetchval("SELECT gate.reviews_gather()") == 0
    assert await owner.fetchval("SELECT gate.reviews_gather(true)") == 1
    await owner.close()


async def test_a_held_decision_that_escalates_when_it_is_screened_again_is_to_be_reviewed(
    seeded_database: Database,
) -> None:
    [decision_id] = await flushed(seeded_database, 1, next_action="held", reason_codes="CH02")
    owner = await asyncpg.connect(seeded_database.owner)
    assert await owner.fetchval("SELECT count(*) FROM gate.reviews") == 0
    await owner.execute(
        "UPDATE gate.held_queue SET state = 'resolved', closed_at = now(), outcome = 'escalate',"
        " next_action = 'review', response = '' WHERE decision_id = $1",
        decision_id,
    )
    assert await owner.fetchval("SELECT gate.reviews_gather()") == 1
    assert await owner.fetchval("SELECT kind || ' ' || state FROM gate.reviews") == "escalation open"
    await owner.close()


async def test_an_erasure_blanks_the_notes_and_leaves_nothing_to_accept(desk: Desk) -> None:
    first = await desk.escalated("erase-1", applicant__applicant_ref="p-erase", amount=19_000_000)
    proposal = (await desk.propose(await desk.claimed(first))).json()
    periods = Periods(consumer_months=25, business_months=12)
    async with desk.service.app.gate.admin_engine.connect() as connection:
        await erase_person(
            connection, "p-erase", basis=LawBasis.ORDERED, periods=periods, reason="request 12", change=CHANGE
        )
    history = (await desk.call("rita", "GET", f"/v1/reviews/{first}/history")).json()["items"]
    assert [each["action"] for each in history] == ["claimed", "proposed"]
    assert {each["note"] for each in history} == {None}
    after = (await desk.call("rita", "GET", f"/v1/reviews/{first}")).json()
    assert (after["state"], after["proposal"]) == ("open", None)
    assert (await desk.approve(proposal)).status_code == 409
    review = await desk.claimed(first)
    refused = await desk.propose(review)
    if refused.status_code == 202:
        refused = await desk.approve(refused.json())
    assert refused.status_code == 409
    assert "erased" in refused.json()["detail"]


@pytest.mark.parametrize("login", ["serving", "governance"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE gate.reviews SET state = 'accepted', resolved_at = now(), resolved_by = 'x', single_person = true",
        "UPDATE gate.reviews SET two_persons = false",
        "DELETE FROM gate.reviews",
        "INSERT INTO gate.reviews SELECT * FROM gate.reviews",
        "UPDATE gate.review_actions SET note = NULL",
        "DELETE FROM gate.review_actions",
        "UPDATE gate.review_intake SET complete_to = 'infinity'",
        "INSERT INTO gate.reservations SELECT gen_random_uuid(), 1, 1, 'CNY', 'reserved', now(), now()",
        "SELECT gate.review_accept(d, 'x', NULL, NULL, true, 'x', NULL) FROM gate.decisions d",
        "SELECT gate.review_close(d, 'accepted', 'x', NULL, NULL, NULL, true, 'x', NULL) FROM gate.decisions d",
        "SELECT gate.review_take(r, 'x', interval '1 hour', 'x') FROM gate.reviews r",
    ],
)
async def test_neither_login_resolves_a_review_but_by_its_functions(desk: Desk, login: str, statement: str) -> None:
    connection = await asyncpg.connect(getattr(desk.database, login))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "call",
    [
        "review_resolve($1, NULL, 'accept', 'x', 'x', NULL, NULL, NULL, NULL, 'x', NULL)",
        "review_claim($1, 'x', interval '1 hour', 'x')",
        "review_claim_next('x', interval '1 hour', $1::text)",
        "review_contest($1, NULL, 'x', 'x', NULL)",
        "review_approve($1, NULL, 'sam', '', '', 'x', NULL)",
    ],
)
async def test_the_serving_login_decides_nothing(desk: Desk, call: str) -> None:
    decision_id = await desk.escalated(f"attack-{abs(hash(call))}")
    connection = await asyncpg.connect(desk.database.serving)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SELECT gate.{call}", decision_id)
    finally:
        await connection.close()


async def test_not_even_the_owner_rewrites_a_history_or_resolves_twice(desk: Desk) -> None:
    decision_id = await desk.escalated("owner-1", amount=19_000_000)
    await desk.resolve(await desk.claimed(decision_id), "reject")
    async with desk.owner() as owner:
        for statement in (
            "UPDATE gate.reviews SET state = 'accepted', single_person = true WHERE decision_id = $1",
            "UPDATE gate.review_actions SET actor = 'nobody' WHERE decision_id = $1",
            "DELETE FROM gate.review_actions WHERE decision_id = $1",
        ):
            with pytest.raises(asyncpg.PostgresError, match=r"resolved once|immutable"):
                await owner.execute(statement, decision_id)
        other = await desk.escalated("owner-2", amount=19_000_000)
        await owner.execute("SELECT gate.reviews_gather()")
        with pytest.raises(asyncpg.CheckViolationError, match="reviews_approved"):
            await owner.execute(
                "UPDATE gate.reviews SET state = 'accepted', resolved_at = now(), resolved_by = 'x'"
                " WHERE decision_id = $1",
                other,
            )
