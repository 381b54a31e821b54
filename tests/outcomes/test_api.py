"""Reporting outcomes over HTTP, what is listed of them, feeds, costs, and the life of an application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.api.outcome_stream import GROUP
from app.outcomes.feeds import expected_through
from app.outcomes.watch import OutcomeWatch
from tests.support.applications import application
from tests.support.cluster import SEEDED_TEMPLATE, Cluster, eventually
from tests.support.server import Server, seeded_server
from tests.support.service import Service, running_service

pytestmark = pytest.mark.xdist_group("outcomes")
REPORTER = "origination"
"""The demo's origination system reports what became of its applications, too."""
LINES = {"content-type": "application/x-ndjson"}


@pytest.fixture(scope="module")
async def gate(cluster: Cluster) -> AsyncIterator[Service]:
    """One service for the tests of this file; each takes applications of its own."""
    database = await cluster.create(SEEDED_TEMPLATE)
    async with running_service(database) as service:
        yield service
    await cluster.drop(database)


def event(application_id: str, kind: str, day: str = "2026-11-20", **more: Any) -> dict[str, Any]:
    return {"application_id": application_id, "kind": kind, "occurred_on": day, **more}


async def report(gate: Service, body: Any, who: str = REPORTER) -> Any:
    async with gate.client(who) as client:
        return await client.post("/v1/outcomes", json=body)


async def test_an_event_and_a_list_of_events_are_answered_one_by_one(gate: Service) -> None:
    await gate.decide("one-1")
    answer = await report(gate, event("one-1", "funded", amount=2_000_000))
    assert answer.json() == {"results": [{"result": "accepted", "application_status": "funded", "flags": []}]}
    events = [event("one-1", "funded", amount=2_000_000), event("one-1", "paid_off"), event("one-2", "withdrawn")]
    answer = await report(gate, events)
    assert [each["result"] for each in answer.json()["results"]] == ["repeated", "accepted", "waiting"]


async def test_a_list_with_a_fault_is_booked_not_at_all_and_the_fault_is_pointed_at(gate: Service) -> None:
    answer = await report(gate, [event("none-1", "withdrawn"), event("none-1", "funded")])
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/1/amount")
    listed = (await gate.get(REPORTER, "/v1/outcomes/waiting")).json()["items"]
    assert "none-1" not in {each["application_id"] for each in listed}


async def test_lines_are_booked_as_they_come_and_a_bad_one_stops_no_other(gate: Service) -> None:
    await gate.decide("lines-1")
    lines = [json.dumps(event("lines-1", "complaint", reference=f"c-{number}")) for number in range(GROUP + 5)]
    lines[3], lines[7] = "{", json.dumps(event("lines-1", "funded"))
    async with gate.client(REPORTER) as client:
        answer = await client.post("/v1/outcomes", content="\n".join(lines), headers=LINES)
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert [each["line"] for each in found] == list(range(1, len(lines) + 1))
    assert {each["line"]: each["status"] for each in found if each["status"] != 200} == {4: 422, 8: 422}
    assert {each["outcome"]["result"] for each in found if "outcome" in each} == {"accepted"}


async def test_facts_that_wait_are_listed_and_take_effect_once_the_application_comes(gate: Service) -> None:
    await report(gate, event("late-1", "funded", amount=2_000_000))
    listed = (await gate.get("analyst", "/v1/outcomes/waiting")).json()["items"]
    assert "late-1" in {each["application_id"] for each in listed}
    await gate.decide("late-1")

    async def bound() -> bool:
        items = (await gate.get("analyst", "/v1/outcomes/waiting")).json()["items"]
        return "late-1" not in {each["application_id"] for each in items}

    await eventually(bound)
    life = (await gate.get(REPORTER, "/v1/applications/late-1")).json()
    assert (life["status"], life["flags"]) == ("funded", [])
    assert {each["what"] for each in life["life"]} == {"funded", "decided", "reserved", "reservation_posted"}


async def test_contradictions_are_flagged_listed_and_counted(gate: Service) -> None:
    await gate.decide("twice-1")
    loans = [event("twice-1", "funded", amount=1, reference=name) for name in ("L1", "L2")]
    answer = await report(gate, loans)
    assert answer.json()["results"][0] == {
        "result": "flagged",
        "application_status": "funded",
        "flags": ["funded_twice"],
    }
    listed = await gate.get(REPORTER, "/v1/outcomes/contradictions", flag="funded_twice")
    assert [each["application_id"] for each in listed.json()["items"]] == ["twice-1"]
    await OutcomeWatch(gate.app.gate.read_engine).report()
    async with gate.client(None) as client:
        exposed = (await client.get("/metrics")).text
    assert 'gate_outcome_contradictions{flag="funded_twice"' in exposed
    assert 'gate_outcome_events_total{kind="funded",result="flagged"} 2.0' in exposed


async def test_the_life_of_an_application_is_shown_in_order_with_what_was_corrected(gate: Service) -> None:
    await gate.decide("life-1")
    await report(gate, event("life-1", "funded", "2026-11-25", amount=2_000_000))
    await report(gate, event("life-1", "funded", "2026-11-26", amount=1_500_000, correction=1))
    await report(gate, event("life-1", "performance", "2027-01-31", days_past_due=12, balance=1_400_000))
    life = (await gate.get("analyst", "/v1/applications/life-1", originator="demo-origination")).json()
    assert [(each["what"], each["counts"]) for each in life["life"]] == [
        ("decided", True),
        ("reserved", True),
        ("reservation_posted", True),
        ("funded", False),
        ("funded", True),
        ("performance", True),
    ]
    assert (life["status"], life["funded_amount"], life["outstanding"]) == ("past_due", 1_500_000, 1_400_000)
    assert (await gate.get("analyst", "/v1/applications/life-1")).status_code == 422
    assert (await gate.get("analyst", "/v1/applications/life-1", originator="nobody")).status_code == 404
    assert (await gate.get(REPORTER, "/v1/applications/unheard-of")).status_code == 404


async def test_a_feed_states_how_far_it_is_complete_and_is_late_past_the_days_of_grace(gate: Service) -> None:
    through = expected_through(gate.app.gate.now().date())
    async with gate.client(REPORTER) as client:
        for name, day in (("fresh", through), ("stale", through.replace(day=1))):
            body = {"performance_complete_through": day.isoformat(), "channels": ["search-ads"]}
            assert (await client.put(f"/v1/feeds/{name}", json=body)).status_code == 200
        unknown = await client.put(
            "/v1/feeds/x", json={"performance_complete_through": "2026-01-31", "channels": ["?"]}
        )
        assert unknown.status_code == 422
    listed = (await gate.get("analyst", "/v1/feeds")).json()["items"]
    assert {each["feed"]: each["late"] for each in listed} == {"fresh": False, "stale": True}


async def test_costs_are_recorded_once_and_corrected_by_a_higher_number(gate: Service) -> None:
    cost = {"kind": "media", "starts_on": "2026-10-01", "ends_on": "2026-10-31", "currency": "CNY", "amount": 100}
    path = "/v1/channels/search-ads/costs"
    async with gate.client("admin") as client:
        assert (await client.post(path, json=cost)).json() == {"recorded": True}
        assert (await client.post(path, json=cost)).json() == {"recorded": False}
        assert (await client.post(path, json=cost | {"amount": 90})).status_code == 409
        assert (await client.post(path, json=cost | {"amount": 90, "correction": 1})).json() == {"recorded": True}
        assert (await client.post("/v1/channels/nowhere/costs", json=cost)).status_code == 404
        assert (await client.post(path, json=cost | {"ends_on": "2026-09-30"})).status_code == 422
    listed = (await gate.get("analyst", path)).json()["items"]
    assert [(each["amount"], each["correction"]) for each in listed] == [(90, 1)]
    assert (await gate.get("analyst", path, to="2026-10-01")).json()["items"] == []


@pytest.mark.parametrize("who", ["analyst", "reviewer", "admin"])
async def test_only_who_reports_outcomes_reports_them(gate: Service, who: str) -> None:
    assert (await report(gate, event("x", "withdrawn"), who)).status_code == 403


@pytest.fixture
async def server(cluster: Cluster, tmp_path: Any) -> AsyncIterator[Server]:
    async with seeded_server(cluster, tmp_path, workers=3) as server:
        yield server


async def test_reports_to_several_processes_at_once_end_in_one_state(server: Server) -> None:
    names = [f"A-{number}" for number in range(12)]
    deciding, reporting = server.client("origination"), server.client(REPORTER)
    facts = [
        fact
        for name in names
        for fact in (
            event(name, "funded", amount=1_000_000),
            event(name, "performance", "2026-12-31", days_past_due=31),
            event(name, "performance", "2026-12-31", days_past_due=2, correction=1),
        )
    ]

    async def decide(name: str) -> None:
        assert (await deciding.post("/v1/decisions", json=application(name))).status_code == 200

    async def tell(turn: int) -> list[str]:
        order = facts[turn:] + facts[:turn]
        answers = [await reporting.post("/v1/outcomes", json=order[n : n + 9]) for n in range(0, len(order), 9)]
        assert {answer.status_code for answer in answers} == {200}
        return [each["result"] for answer in answers for each in answer.json()["results"]]

    told = await asyncio.gather(*(tell(turn * 5) for turn in range(6)), *(decide(name) for name in names))
    results = [result for each in told if each is not None for result in each]
    assert results.count("repeated") == 5 * len(facts)

    async def settled() -> bool:
        lives = [(await reporting.get(f"/v1/applications/{name}")).json() for name in names]
        posted = [any(each["what"] == "reservation_posted" for each in life["life"]) for life in lives]
        assert {(life["status"], life["days_past_due"]) for life in lives} == {("past_due", 2)}
        return all(posted)

    await eventually(settled)
