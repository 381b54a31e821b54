"""The queue over HTTP: what is in it, who may do what, and what becomes of a decision."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.reviews.conftest import Desk, running_desk
from tests.support.cluster import Cluster

pytestmark = pytest.mark.xdist_group("reviews")


async def events_of(desk: Desk, decision_id: str) -> list[dict[str, Any]]:
    async with desk.owner() as owner:
        rows = await owner.fetch("SELECT body FROM gate.events WHERE subject = $1 ORDER BY position", decision_id)
    return [json.loads(row["body"])["data"] for row in rows]


async def test_an_escalation_is_in_the_queue_as_soon_as_it_is_answered_and_a_counter_offer_is_not(desk: Desk) -> None:
    completed = datetime.now(UTC) - timedelta(days=21)
    mine = await desk.escalated("queue-1", completed_at=completed.isoformat())
    offer = (await desk.service.decide("queue-2", amount=19_000_000)).json()
    assert offer["next_action"] == "counter_offer"
    answer = await desk.call("analyst", "GET", "/v1/reviews", params={"age": "alarm"})
    [found] = [each for each in answer.json()["items"] if each["decision_id"] == mine]
    assert found["state"] == "open"
    assert found["kind"] == "escalation"
    assert not found["two_persons"]
    assert datetime.fromisoformat(found["due_at"]) == completed + timedelta(days=30)
    everything = await desk.call("analyst", "GET", "/v1/reviews", params={"limit": 200})
    assert offer["decision_id"] not in {each["decision_id"] for each in everything.json()["items"]}
    assert (await desk.call("analyst", "GET", f"/v1/reviews/{offer['decision_id']}")).status_code == 404
    assert (await desk.call("origination", "GET", "/v1/reviews")).status_code == 403


async def test_a_reviewer_claims_accepts_and_the_originator_is_told(desk: Desk) -> None:
    decision_id = await desk.escalated("accept-1")
    before = (await desk.call("analyst", "GET", f"/v1/decisions/{decision_id}")).content
    path = f"/v1/decisions/{decision_id}/resolution"
    assert (await desk.call("origination", "GET", path)).json()["outcome"] is None
    review = await desk.claimed(decision_id)
    accepted = await desk.resolve(review)
    assert (accepted.status_code, accepted.json()["state"]) == (200, "accepted"), accepted.text
    assert (await desk.call("origination", "GET", path)).json()["outcome"] == "accept"
    [told] = await events_of(desk, decision_id)
    assert told["outcome"] == "accept"
    assert told["amount"] == 5_000_000
    query = "SELECT state || ' ' || amount FROM gate.reservations WHERE decision_id = $1"
    assert await desk.value(query, decision_id) == "reserved 5000000"
    assert (await desk.call("analyst", "GET", f"/v1/decisions/{decision_id}")).content == before
    history = (await desk.call("rita", "GET", f"/v1/reviews/{decision_id}/history")).json()["items"]
    assert [each["action"] for each in history] == ["claimed", "accepted"]
    assert history[1]["note"] == "looked at the payslips"
    assert history[1]["facts"]["open_accepts"] == 0
    again = await desk.resolve(accepted.json(), "reject")
    assert again.status_code == 409
    assert await desk.value("SELECT count(*) FROM gate.events WHERE subject = $1", decision_id) == 1


async def test_a_reject_reserves_nothing_and_counts_for_the_person(desk: Desk) -> None:
    decision_id = await desk.escalated("reject-1")
    rejected = await desk.resolve(await desk.claimed(decision_id), "reject")
    assert rejected.json()["state"] == "rejected"
    assert await desk.value("SELECT count(*) FROM gate.reservations WHERE decision_id = $1", decision_id) == 0
    [told] = await events_of(desk, decision_id)
    assert (told["outcome"], told["amount"]) == ("reject", None)
    elsewhere = await desk.service.decide("reject-2", channel_code="branch-east", applicant__applicant_ref="p-reject-1")
    assert "DU02" in [reason["code"] for reason in elsewhere.json()["reasons"]]


async def test_only_who_holds_a_review_resolves_it_at_the_version_that_was_read(desk: Desk) -> None:
    decision_id = await desk.escalated("hold-1")
    unclaimed = (await desk.call("rita", "GET", f"/v1/reviews/{decision_id}")).json()
    assert (await desk.resolve(unclaimed)).status_code == 409
    review = await desk.claimed(decision_id)
    taken = await desk.call("sam", "POST", f"/v1/reviews/{decision_id}/claim")
    assert taken.status_code == 409
    assert "claimed" in taken.json()["detail"]
    assert (await desk.resolve(review, who="sam")).status_code == 409
    assert (await desk.resolve(unclaimed)).status_code == 412
    missing = await desk.call(
        "rita", "POST", f"/v1/reviews/{decision_id}/resolution", json={"resolution": "accept", "reason": "x"}
    )
    assert missing.status_code == 428
    assert (await desk.call("sam", "DELETE", f"/v1/reviews/{decision_id}/claim")).status_code == 409
    released = await desk.call("rita", "DELETE", f"/v1/reviews/{decision_id}/claim")
    assert released.json()["holder"] is None
    assert (await desk.claimed(decision_id, "sam"))["holder"] == "sam"


async def test_above_the_ceiling_a_second_person_accepts_and_no_other_way(desk: Desk) -> None:
    decision_id = await desk.escalated("four-1", amount=19_000_000)
    review = await desk.claimed(decision_id)
    assert review["two_persons"]
    assert review["amount"] > review["ceiling_amount"]
    alone = await desk.resolve(review)
    assert alone.status_code == 403
    assert "two persons" in alone.json()["detail"]
    assert (await desk.propose(review, signer="sam")).status_code == 403
    proposed = await desk.propose(review)
    assert proposed.status_code == 202, proposed.text
    proposal = proposed.json()
    assert await desk.value("SELECT count(*) FROM gate.reservations WHERE decision_id = $1", decision_id) == 0
    assert (await desk.call("sam", "POST", f"/v1/reviews/{decision_id}/claim")).status_code == 409
    own = await desk.approve(proposal, who="rita")
    assert own.status_code == 403
    assert "proposes" in own.json()["detail"]
    assert (await desk.approve(proposal, who="sam", signer="rita")).status_code == 403
    approved = await desk.approve(proposal)
    assert (approved.status_code, approved.json()["state"]) == (200, "accepted"), approved.text
    assert (approved.json()["proposed_by"], approved.json()["approved_by"]) == ("rita", "sam")
    assert await desk.value("SELECT state FROM gate.reservations WHERE decision_id = $1", decision_id) == "reserved"
    assert len(await events_of(desk, decision_id)) == 1


async def test_a_second_person_who_does_not_agree_puts_it_back(desk: Desk) -> None:
    decision_id = await desk.escalated("four-2", amount=19_000_000)
    proposal = (await desk.propose(await desk.claimed(decision_id))).json()
    path = f"/v1/reviews/{decision_id}/decline"
    back = await desk.call("sam", "POST", path, proposal["version"], json={"reason": "the payslip is of another"})
    assert (back.json()["state"], back.json()["proposed_by"]) == ("open", None)
    assert (await desk.approve(proposal | {"version": back.json()["version"]})).status_code == 409
    assert (await desk.resolve(await desk.claimed(decision_id, "sam"), "reject", who="sam")).status_code == 200


async def test_one_person_is_enough_in_the_single_person_mode_and_the_review_says_so(cluster: Cluster) -> None:
    async with running_desk(cluster, single_person=True) as desk:
        decision_id = await desk.escalated("single-1", amount=19_000_000)
        accepted = (await desk.resolve(await desk.claimed(decision_id))).json()
    assert (accepted["state"], accepted["single_person"]) == ("accepted", True)


async def test_an_applicant_contests_a_reject_once_and_two_persons_may_accept_it(desk: Desk) -> None:
    decision_id = await desk.rejected("contest-1")
    path = f"/v1/decisions/{decision_id}/contest"
    body = {"reason": "the judgment was lifted in October"}
    first = await desk.call("origination", "POST", path, json=body)
    assert (first.status_code, first.json()["kind"], first.json()["state"]) == (201, "contest", "open"), first.text
    again = await desk.call("origination", "POST", path)
    assert (again.status_code, again.json()) == (200, first.json())
    review = await desk.claimed(decision_id)
    assert review["two_persons"]
    assert review["priority"] == 2
    assert (await desk.resolve(review)).status_code == 403
    approved = await desk.approve((await desk.propose(review)).json())
    assert approved.json()["state"] == "accepted", approved.text
    history = (await desk.call("rita", "GET", f"/v1/reviews/{decision_id}/history")).json()["items"]
    assert (history[0]["action"], history[0]["note"]) == ("contested", body["reason"])
    # The accept is open: another one of the same person does not stand beside it.
    another = await desk.service.decide("contest-2", applicant__applicant_ref="p-contest-1")
    assert "DU01" in [reason["code"] for reason in another.json()["reasons"]]


async def test_what_is_no_reject_or_was_amended_or_is_another_originators_is_not_contested(desk: Desk) -> None:
    escalated = await desk.escalated("contest-3")
    rejected = await desk.rejected("contest-4")
    await desk.service.decide("contest-4", revision=2)
    for decision_id in (escalated, rejected):
        answer = await desk.call("origination", "POST", f"/v1/decisions/{decision_id}/contest", json={})
        assert answer.status_code == 409, answer.text
    for unknown in ("0192f0c0-0000-7000-8000-000000000000",):
        assert (await desk.call("origination", "POST", f"/v1/decisions/{unknown}/contest")).status_code == 404
    assert (await desk.call("analyst", "POST", f"/v1/decisions/{rejected}/contest")).status_code == 403
    governance = await asyncpg.connect(desk.database.governance)
    with pytest.raises(asyncpg.PostgresError, match="there is no such decision"):
        await governance.execute("SELECT gate.review_contest($1, 999, NULL, 'x', NULL)", rejected)
    await governance.close()


async def test_an_amendment_closes_the_review_of_what_it_supersedes(desk: Desk) -> None:
    old = await desk.escalated("amend-1")
    review = await desk.claimed(old)
    new = await desk.escalated("amend-1", revision=2)
    refused = await desk.resolve(review)
    assert refused.status_code == 409
    assert "newer revision" in refused.json()["detail"]
    items = (await desk.call("rita", "GET", "/v1/reviews", params={"limit": 200})).json()["items"]
    listed = {each["decision_id"] for each in items}
    assert new in listed
    assert old not in listed
    await desk.service.app.gate.upkeep.reviews()
    assert (await desk.call("rita", "GET", f"/v1/reviews/{old}")).json()["state"] == "superseded"
    assert (await desk.call("origination", "GET", f"/v1/decisions/{old}/resolution")).json()["outcome"] is None


async def test_an_acceptance_looks_at_channel_person_and_budget_as_they_are_now(desk: Desk) -> None:
    channel = await desk.escalated("recheck-1", channel_code="branch-east")
    person = await desk.escalated("recheck-2", applicant__applicant_ref="p-recheck")
    budget = await desk.escalated("recheck-3", channel_code="friend-referral", applicant__employment_months=5)
    admin = await asyncpg.connect(desk.database.governance)
    await admin.execute("SELECT gate.channel_set_state('branch-east', 'suspended', NULL, 'a', 'figures', NULL)")
    await admin.execute(
        "SELECT gate.budget_set('friend-referral', NULL, NULL, NULL, 'daily', 'count', NULL, 0, 100, NULL, 'UTC', 'a',"
        " 'r', NULL)"
    )
    await admin.close()
    assert (await desk.service.decide("recheck-4", applicant__applicant_ref="p-recheck")).json()["outcome"] == "accept"
    for decision_id, why in ((channel, "channel is not served"), (person, "another open accept"), (budget, "no room")):
        review = await desk.claimed(decision_id)
        refused = await desk.resolve(review)
        assert refused.status_code == 409, refused.text
        assert why in refused.json()["detail"]
        after = (await desk.call("rita", "GET", f"/v1/reviews/{decision_id}")).json()
        assert after == review
        for table in ("reservations", "reservation_units"):
            assert await desk.value(f"SELECT count(*) FROM gate.{table} WHERE decision_id = $1", decision_id) == 0
        assert await events_of(desk, decision_id) == []
        assert (await desk.resolve(review, "reject")).status_code == 200


async def test_pages_follow_due_dates_and_priority_is_set_under_if_match(own_desk: Desk) -> None:
    at = datetime.now(UTC)
    ids = [
        await own_desk.escalated(f"page-{days}", completed_at=(at - timedelta(days=days)).isoformat())
        for days in (1, 29, 5, 31, 0)
    ]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await own_desk.call("rita", "GET", "/v1/reviews", params={"limit": 2} | cursor)).json()
        seen += [each["decision_id"] for each in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [ids[3], ids[1], ids[2], ids[0], ids[4]]
    overdue = (await own_desk.call("rita", "GET", "/v1/reviews", params={"age": "overdue"})).json()["items"]
    assert [each["decision_id"] for each in overdue] == [ids[3]]
    change = {"priority": 1, "reason": "the applicant called twice"}
    assert (await own_desk.call("rita", "PATCH", f"/v1/reviews/{ids[4]}", 99, json=change)).status_code == 412
    assert (await own_desk.call("rita", "PATCH", f"/v1/reviews/{ids[4]}", 1, json=change)).json()["priority"] == 1
    wrong = await own_desk.call("rita", "GET", "/v1/reviews", params={"cursor": "eA"})
    assert wrong.status_code == 422
    # What is urgent comes first, then by priority, then by due date; nothing is ever accepted by waiting.
    order = []
    while (claimed := await own_desk.call("rita", "POST", "/v1/reviews/claim")).status_code == 200:
        order.append(claimed.json()["decision_id"])
    assert order == [ids[3], ids[1], ids[4], ids[2], ids[0]]
    assert claimed.status_code == 204
    await own_desk.service.app.gate.upkeep.reviews()
    exposition = (await own_desk.call("admin", "GET", "/metrics")).text
    assert 'gate_reviews_open{age="overdue"} 1.0' in exposition
    assert 'gate_reviews_open{age="urgent"} 1.0' in exposition
