"""Budgets over HTTP: opened by one person, loosened by two, and what is left of them; the kill switch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import asyncpg
import httpx
import pytest

from app.db.engine import make_engine
from app.domain.canonical import canonical_bytes
from app.domain.signing import Statement, prove
from app.governance import persons
from app.governance.persons import PersonRole
from tests.api.conftest import Service
from tests.api.test_governance import CHANGE, NONCE
from tests.support.applications import application
from tests.support.cluster import eventually

MONTHLY = {"channel": "app-store", "period": "monthly", "measure": "count", "limit": 3, "reason": "a trial"}


@pytest.fixture
async def two_persons(service: Service) -> dict[str, str]:
    """Secrets by role, from when on nothing is loosened by one person."""
    owner = make_engine(service.database.owner, pool_size=1)
    async with owner.begin() as connection:
        made = {
            role: await persons.add_person(connection, f"demo-{role}", name=role, roles=[signs], change=CHANGE)
            for role, signs in {"admin": PersonRole.ADMIN, "policy-approver": PersonRole.POLICY_APPROVER}.items()
        }
        await persons.set_rules(connection, single_person=False, report_required=False, reason="t", change=CHANGE)
    await owner.dispose()
    return made


async def decide(service: Service, name: str, **changes: Any) -> dict[str, Any]:
    client = await service.client("origination")
    answer = await client.post("/v1/decisions", json=application(name, channel_code="app-store", **changes))
    assert answer.status_code == 200, answer.text
    decided: dict[str, Any] = answer.json()
    return decided


async def of_channel(client: httpx.AsyncClient, channel: str = "app-store") -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/channels/{channel}/budgets")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def heard(service: Service, kind: str) -> list[dict[str, Any]]:
    """The events of a kind, once there are some: a transaction that is under way elsewhere holds them back."""
    client = await service.client("origination")

    async def found() -> list[dict[str, Any]]:
        items = (await client.get("/v1/events")).json()["items"]
        return [each for each in items if each["type"] == kind]

    await eventually(found)
    return await found()


async def test_a_channel_shows_what_is_left_of_every_budget_that_it_falls_under(
    service: Service, admin: httpx.AsyncClient, analyst: httpx.AsyncClient
) -> None:
    opened = await admin.post("/v1/budgets", json=MONTHLY | {"time_zone": "Asia/Shanghai"})
    assert opened.status_code == 201, opened.text
    everywhere = {"period": "outstanding", "measure": "amount", "currency": "CNY", "limit": 100_000_000, "reason": "r"}
    assert (await admin.post("/v1/budgets", json=everywhere)).status_code == 201
    assert (await admin.post("/v1/budgets", json=MONTHLY | {"channel": "search-ads"})).status_code == 201
    first = await decide(service, "one", amount=1_000_000)
    second = await decide(service, "two", amount=2_000_000)
    assert [each["outcome"] for each in (first, second)] == ["accept", "accept"]
    serving = await asyncpg.connect(service.database.serving)
    await serving.execute("SELECT gate.reservation_post($1::uuid, 900000)", first["decision_id"])
    await serving.close()

    count, amount = await of_channel(analyst)
    assert (count["limit"], count["reserved"], count["posted"], count["left"]) == (3, 1, 1, 1)
    assert (amount["channel"], amount["reserved"], amount["posted"]) == (None, 2_000_000, 900_000)
    assert amount["left"] == 100_000_000 - 2_900_000
    assert (amount["starts_at"], amount["ends_at"]) == (None, None)
    starts = datetime.fromisoformat(count["starts_at"])
    local = starts + timedelta(hours=8)
    assert (local.day, local.hour) == (1, 0)
    assert starts <= datetime.now(UTC) < datetime.fromisoformat(count["ends_at"])

    page = (await analyst.get("/v1/budgets", params={"limit": 3})).json()
    rest = (await analyst.get("/v1/budgets", params={"limit": 3, "cursor": page["next_cursor"]})).json()
    assert rest["next_cursor"] is None
    listed = [each["channel"] for each in (*page["items"], *rest["items"])]
    assert listed[-3:] == ["app-store", None, "search-ads"]  # after those of the demo's channels on probation
    assert (await analyst.get("/v1/budgets", params={"channel": "search-ads"})).json()["items"] == rest["items"][-1:]


async def test_budgets_are_no_business_of_who_sends_applications(service: Service) -> None:
    client = await service.client("origination")
    for path in ("/v1/budgets", "/v1/budgets/1", "/v1/channels/app-store/budgets"):
        assert (await client.get(path)).status_code == 403
    assert (await client.post("/v1/budgets", json=MONTHLY)).status_code == 403
    analyst = await service.client("analyst")
    assert (await analyst.post("/v1/budgets", json=MONTHLY)).status_code == 403
    assert (await analyst.get("/v1/channels/nobody/budgets")).status_code == 404
    assert (await analyst.get("/v1/budgets/999")).status_code == 404


async def test_a_budget_is_amended_from_the_revision_that_was_read_and_ends(admin: httpx.AsyncClient) -> None:
    opened = await admin.post("/v1/budgets", json=MONTHLY)
    path, tag = opened.headers["location"], opened.headers["etag"]
    assert (await admin.post("/v1/budgets", json=MONTHLY)).status_code == 409
    assert (await admin.patch(path, json={"limit": 5, "reason": "r"})).status_code == 428
    changed = await admin.patch(path, json={"limit": 5, "reason": "r"}, headers={"If-Match": tag})
    assert (changed.status_code, changed.json()["limit"]) == (200, 5)
    late = await admin.patch(path, json={"limit": 6, "reason": "r"}, headers={"If-Match": tag})
    assert late.status_code == 412
    assert (await admin.post(f"{path}/end", json={"reason": "r"}, headers={"If-Match": tag})).status_code == 412
    ended = await admin.post(f"{path}/end", json={"reason": "r"})
    assert ended.status_code == 200
    assert ended.json()["ended_at"] is not None
    assert (await admin.post(f"{path}/end", json={"reason": "r"})).status_code == 404
    assert (await admin.get("/v1/budgets", params={"channel": "app-store"})).json()["items"] == []
    over = (await admin.get("/v1/budgets", params={"ended": True, "channel": "app-store"})).json()["items"]
    assert opened.json()["budget_id"] in [each["budget_id"] for each in over]


@pytest.mark.parametrize(
    "fault",
    [
        {"currency": "CNY"},
        {"measure": "amount"},
        {"loss_rate_ppm": {"prime": 1}},
        {"growth_pct": 30},
        {"period": "daily", "growth_pct": 30, "floor": 1},
        {"time_zone": "Mars/Olympus"},
        {"tier": "unheard_of"},
        {"overbooking_pct": 99},
        {"limit": -1},
    ],
)
async def test_what_does_not_fit_together_is_refused(admin: httpx.AsyncClient, fault: dict[str, Any]) -> None:
    assert (await admin.post("/v1/budgets", json=MONTHLY | fault)).status_code == 422


async def test_what_lets_more_through_takes_a_second_person(
    service: Service, admin: httpx.AsyncClient, two_persons: dict[str, str]
) -> None:
    opened = await admin.post("/v1/budgets", json=MONTHLY)
    path = opened.headers["location"]
    stricter = await admin.patch(path, json={"limit": 2, "reason": "r"}, headers={"If-Match": opened.headers["etag"]})
    assert stricter.status_code == 200
    tag = {"If-Match": stricter.headers["etag"]}
    assert (await admin.patch(path, json={"limit": 4, "reason": "r"}, headers=tag)).status_code == 403
    assert (await admin.post(f"{path}/end", json={"reason": "r"})).status_code == 403

    fields = {name: MONTHLY[name] for name in ("period", "measure")} | {"limit": 80}
    shown = dict.fromkeys(("tier", "product", "jurisdiction", "currency", "loss_rate_ppm", "growth_pct", "floor"))
    payload = shown | fields | {"overbooking_pct": 100, "time_zone": "UTC"}
    wanted = fields | {"kind": "budget.set", "channel": "app-store", "reason": "the first were good"}
    await _agreed(service, two_persons, wanted, payload, "budget.set:app-store")
    assert [each["limit"] for each in await of_channel(admin)] == [80]

    number = opened.json()["budget_id"]
    ending = {"kind": "budget.end", "channel": "app-store", "budget_id": number, "reason": "r"}
    await _agreed(service, two_persons, ending, {"budget_id": number}, "budget.end:app-store")
    assert await of_channel(admin) == []


async def _agreed(
    service: Service, secrets: dict[str, str], wanted: dict[str, Any], payload: dict[str, Any], subject: str
) -> None:
    """One person asks for it and another approves it."""
    digest = sha256(canonical_bytes(payload)).digest()
    nonce = f"{NONCE}-{subject.replace(':', '-').replace('.', '-')}"
    proof = prove(secrets["admin"], Statement(act="request", subject=subject, nonce=nonce, digest=digest)).hex()
    admin, approver = await service.client("admin"), await service.client("policy-approver")
    asked = await admin.post("/v1/change-requests", json=wanted | {"nonce": nonce, "proof": proof})
    assert asked.status_code == 201, asked.text
    number = asked.json()["change_id"]
    statement = Statement(act="approve", subject=f"request/{number}", nonce=nonce, digest=digest)
    approved = await approver.post(
        f"/v1/change-requests/{number}/approve",
        json={"payload_digest": digest.hex(), "proof": prove(secrets["policy-approver"], statement).hex()},
    )
    assert (approved.status_code, approved.json().get("state")) == (200, "applied"), approved.text


async def test_a_budget_that_is_opened_late_counts_what_its_period_has_taken(
    service: Service, admin: httpx.AsyncClient
) -> None:
    first = await decide(service, "before", amount=1_000_000)
    await decide(service, "before-too", amount=3_000_000)
    serving = await asyncpg.connect(service.database.serving)
    await serving.execute("SELECT gate.reservation_post($1::uuid, 800000)", first["decision_id"])
    await serving.close()
    amounts = MONTHLY | {"measure": "amount", "currency": "CNY", "limit": 10_000_000}
    opened = (await admin.post("/v1/budgets", json=amounts)).json()
    assert (opened["reserved"], opened["posted"], opened["left"]) == (3_000_000, 800_000, 6_200_000)


async def test_growth_is_capped_by_what_the_months_before_have_funded_and_by_a_floor(
    service: Service, admin: httpx.AsyncClient
) -> None:
    held_to = MONTHLY | {"measure": "amount", "currency": "CNY", "limit": 10**9, "growth_pct": 30, "floor": 1_500_000}
    opened = (await admin.post("/v1/budgets", json=held_to)).json()
    assert (opened["cap"], opened["left"]) == (1_500_000, 1_500_000)
    assert (await decide(service, "too-much", amount=2_000_000))["next_action"] == "held"
    owner = await asyncpg.connect(service.database.owner)
    await owner.execute(
        "UPDATE gate.budget_periods SET posted = 2000000 WHERE budget_id = $1 AND ends_at < now()", opened["budget_id"]
    )
    await owner.execute("SELECT gate.budget_periods_ensure()")
    await owner.close()
    assert [each["cap"] for each in await of_channel(admin)] == [2_600_000]
    assert (await decide(service, "fits-now", amount=2_000_000))["outcome"] == "accept"


async def test_overbooking_offers_more_than_may_be_funded_and_never_funds_more(
    service: Service, admin: httpx.AsyncClient
) -> None:
    await admin.post("/v1/budgets", json=MONTHLY | {"limit": 2, "overbooking_pct": 200})
    answers = [await decide(service, f"over-{n}") for n in range(5)]
    assert [each["outcome"] for each in answers] == ["accept"] * 4 + ["escalate"]
    serving = await asyncpg.connect(service.database.serving)
    for answer in answers[:2]:
        await serving.execute("SELECT gate.reservation_post($1::uuid, 1000)", answer["decision_id"])
    await serving.execute("SELECT gate.reservation_void($1::uuid, 'cancelled')", answers[2]["decision_id"])
    await serving.close()
    [use] = await of_channel(admin)
    assert (use["reserved"], use["posted"], use["left"]) == (1, 2, 0)
    assert (await decide(service, "over-late"))["next_action"] == "held"


async def test_a_funding_is_booked_whatever_became_of_its_accept_and_repayment_frees_what_is_outstanding(
    service: Service, admin: httpx.AsyncClient
) -> None:
    amounts = MONTHLY | {"measure": "amount", "currency": "CNY", "limit": 10_000_000}
    await admin.post("/v1/budgets", json=amounts)
    await admin.post("/v1/budgets", json=amounts | {"period": "outstanding"})
    one, two = await decide(service, "in-time", amount=1_000_000), await decide(service, "late", amount=1_000_000)
    serving = await asyncpg.connect(service.database.serving)
    await serving.execute("SELECT gate.reservation_void($1::uuid, 'cancelled')", two["decision_id"])
    fund = "SELECT booked, overrun FROM gate.reservation_fund($1::uuid, $2, now())"
    booked = [tuple(await serving.fetchrow(fund, each["decision_id"], 1_100_000)) for each in (one, two, one, two)]
    assert booked == [("above", 100_000), ("unreserved", 1_100_000), ("again", 0), ("again", 0)]
    assert tuple(await serving.fetchrow(fund, "00000000-0000-7000-8000-000000000000", 1)) == ("unknown", 0)
    assert [(each["reserved"], each["posted"]) for each in await of_channel(admin)] == [(0, 2_200_000)] * 2
    owed = "SELECT gate.loan_balance_put($1::uuid, $2, now() - make_interval(days => $3))"
    assert await serving.fetchval(owed, one["decision_id"], 400_000, 1) is True
    assert await serving.fetchval(owed, one["decision_id"], 900_000, 9) is False  # of before, heard of later
    assert await serving.fetchval(owed, two["decision_id"], 0, 1) is True
    await serving.close()
    assert [each["posted"] for each in await of_channel(admin)] == [2_200_000, 400_000]


async def test_a_channel_is_suspended_and_what_it_has_open_is_voided_by_one_act(
    service: Service, admin: httpx.AsyncClient
) -> None:
    await admin.post("/v1/budgets", json=MONTHLY)
    decided = await decide(service, "open")
    path = "/v1/channels/app-store/state"
    wrong = {"state": "active", "open_reservations": "void", "reason": "r"}
    assert (await admin.post(path, json=wrong)).status_code == 422
    killed = await admin.post(path, json={"state": "suspended", "open_reservations": "void", "reason": "fraud"})
    assert (killed.status_code, killed.json()["state"]) == (200, "suspended")
    [use] = await of_channel(admin)
    assert (use["reserved"], use["left"]) == (0, 3)
    told = await heard(service, "reservation.voided")
    assert [(each["subject"], each["data"]["cause"]) for each in told] == [(decided["decision_id"], "channel")]
    audit = (await admin.get("/v1/audit")).json()["items"]
    assert ("channel.void_reservations", {"voided": 1}) in [(row["action"], row["payload"]["after"]) for row in audit]


async def test_a_channel_is_suspended_and_keeps_its_offers_where_nobody_says_otherwise(
    service: Service, admin: httpx.AsyncClient
) -> None:
    await admin.post("/v1/budgets", json=MONTHLY)
    await decide(service, "kept")
    await admin.post("/v1/channels/app-store/state", json={"state": "suspended", "reason": "a look at it"})
    assert [each["reserved"] for each in await of_channel(admin)] == [1]


async def test_an_accept_that_nobody_funds_expires_and_its_originator_hears_of_it(
    service: Service, admin: httpx.AsyncClient
) -> None:
    decided = await decide(service, "forgotten")
    owner = await asyncpg.connect(service.database.owner)
    await owner.execute("UPDATE gate.reservations SET expires_at = now()")
    await owner.close()
    await service.app.gate.upkeep.expire()
    told = [each["data"] for each in await heard(service, "reservation.expired")]
    assert [(each["decision_id"], each["application_id"], each["channel"]) for each in told] == [
        (decided["decision_id"], "forgotten", "app-store")
    ]


async def test_what_is_left_is_a_metric_and_an_ended_budget_is_none(service: Service, admin: httpx.AsyncClient) -> None:
    opened = await admin.post("/v1/budgets", json=MONTHLY | {"limit": 4})
    funded = await decide(service, "counted")
    await decide(service, "counted-too")
    serving = await asyncpg.connect(service.database.serving)
    await serving.execute("SELECT gate.reservation_fund($1::uuid, 99000000, now())", funded["decision_id"])
    await serving.close()
    upkeep, reader = service.app.gate.upkeep, await service.client(None)
    await upkeep.figures()
    told = (await reader.get("/metrics")).text
    for line in (
        'gate_budget_limit_units{budget="app-store monthly count"} 4.0',
        'gate_budget_used_units{budget="app-store monthly count"} 2.0',
        'gate_budget_left_ratio{budget="app-store monthly count"} 0.5',
        "gate_reservations_open 1.0",
        'gate_reservations_resolved_day{state="posted"} 1.0',
        'gate_budget_overruns_day{kind="above"} 1.0',
        "gate_held_waiting 0.0",
    ):
        assert line in told.splitlines()
    await admin.post(f"{opened.headers['location']}/end", json={"reason": "r"})
    await upkeep.figures()
    assert 'gate_budget_left_ratio{budget="app-store monthly count"} NaN' in (await reader.get("/metrics")).text
