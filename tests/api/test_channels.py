"""The registry over HTTP."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx

from tests.api.conftest import Service

NEW = {"code": "new-broker", "name": "New broker", "kind": "intermediary", "owner": "partners"}


def _problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"urn:channel-gate:problem:{slug}"
    return problem


async def test_a_channel_is_registered_read_amended_and_moved(admin: httpx.AsyncClient) -> None:
    end = datetime.now(UTC) + timedelta(days=20)
    made = await admin.post("/v1/channels", json=NEW | {"valid_to": end.isoformat(), "services": ["leads"]})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/v1/channels/new-broker"
    assert made.json()["state"] == "proposed"
    assert made.json()["expires_within_days"] == 30

    read = await admin.get("/v1/channels/new-broker")
    assert read.headers["etag"] == made.headers["etag"] == f'"{made.json()["revision"]}"'

    amended = await admin.patch(
        "/v1/channels/new-broker",
        json={"agreement_id": "A-7", "valid_to": None, "reason": "signed"},
        headers={"If-Match": read.headers["etag"]},
    )
    assert amended.status_code == 200, amended.text
    assert (amended.json()["agreement_id"], amended.json()["valid_to"]) == ("A-7", None)
    assert amended.json()["services"] == ["leads"]
    assert amended.headers["etag"] != read.headers["etag"]

    for state in ("probation", "active", "suspended"):
        moved = await admin.post("/v1/channels/new-broker/state", json={"state": state, "reason": f"to {state}"})
        assert moved.json()["state"] == state
    history = (await admin.get("/v1/channels/new-broker")).json()["state_history"]
    assert [(move["state_before"], move["state_after"]) for move in history] == [
        ("active", "suspended"),
        ("probation", "active"),
        ("proposed", "probation"),
        (None, "proposed"),
    ]
    assert history[0]["reason"] == "to suspended"


async def test_an_amendment_names_the_revision_that_it_was_made_from(admin: httpx.AsyncClient) -> None:
    path, body = "/v1/channels/app-store", {"owner": "growth"}
    first = (await admin.get(path)).headers["etag"]
    _problem(await admin.patch(path, json=body), 428, "precondition-required")
    _problem(await admin.patch(path, json=body, headers={"If-Match": "*"}), 428, "precondition-required")
    for tag in (f"W/{first}", '"x"', '"0"', "1", '"99999999999999999999"'):
        _problem(await admin.patch(path, json=body, headers={"If-Match": tag}), 412, "precondition-failed")
    assert (await admin.patch(path, json=body, headers={"If-Match": first})).status_code == 200
    _problem(await admin.patch(path, json=body, headers={"If-Match": first}), 412, "precondition-failed")
    stale = {"If-Match": first}
    move = {"state": "suspended", "reason": "x"}
    _problem(await admin.post(f"{path}/state", json=move, headers=stale), 412, "precondition-failed")


SENSELESS: list[dict[str, Any]] = [
    {},
    {"reason": "nothing"},
    {"name": None},
    {"services": None},
    {"state": "active"},
    {"code": "x"},
    {"valid_to": "2001-01-01T00:00:00Z"},
    {"valid_to": 1700000000},
    {"valid_to": "2027-01-01T00:00:00"},
    {"valid_to": "0001-01-01T00:00:00+14:00"},
    {"name": "nul\x00"},
    {"name": " "},
]


async def test_an_amendment_that_makes_no_sense_is_refused(admin: httpx.AsyncClient) -> None:
    tag = (await admin.get("/v1/channels/app-store")).headers["etag"]
    for body in SENSELESS:
        response = await admin.patch("/v1/channels/app-store", json=body, headers={"If-Match": tag})
        _problem(response, 422, "invalid-request")


async def test_a_code_in_use_and_a_move_that_leads_nowhere_are_conflicts(admin: httpx.AsyncClient) -> None:
    for code in ("app-store", "ios"):
        problem = _problem(await admin.post("/v1/channels", json=NEW | {"code": code}), 409, "conflict")
        assert code not in problem["detail"]
    assert (await admin.post("/v1/channels", json=NEW)).status_code == 201
    move = {"state": "active", "reason": "too early"}
    _problem(await admin.post("/v1/channels/new-broker/state", json=move), 409, "conflict")
    _problem(await admin.post("/v1/channels/nobody/state", json=move), 404, "not-found")
    _problem(await admin.get("/v1/channels/nobody"), 404, "not-found")


async def test_aliases_are_put_and_taken_away(admin: httpx.AsyncClient) -> None:
    for _ in range(2):
        put = await admin.put("/v1/channels/search-ads/aliases/sem")
        assert put.json()["aliases"] == ["sem"]
    _problem(await admin.put("/v1/channels/broker-one/aliases/sem"), 409, "conflict")
    _problem(await admin.put("/v1/channels/nobody/aliases/other"), 404, "not-found")
    assert (await admin.delete("/v1/channels/search-ads/aliases/sem")).status_code == 204
    _problem(await admin.delete("/v1/channels/search-ads/aliases/sem"), 404, "not-found")


async def test_the_list_is_filtered_and_paged_in_the_order_of_codes(analyst: httpx.AsyncClient) -> None:
    everything = (await analyst.get("/v1/channels", params={"limit": 200})).json()
    codes = [channel["code"] for channel in everything["items"]]
    assert codes == sorted(codes)
    assert everything["next_cursor"] is None
    paged: list[str] = []
    cursor: str | None = None
    while True:
        page = (await analyst.get("/v1/channels", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        paged += [channel["code"] for channel in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == codes

    async def found(**filters: Any) -> set[str]:
        return {channel["code"] for channel in (await analyst.get("/v1/channels", params=filters)).json()["items"]}

    assert await found(kind="offline") == {"branch-east", "shop-partner"}
    assert await found(state=["suspended", "proposed"]) == {"lead-seller", "campus-group"}
    assert await found(owner="nobody") == set()
    assert await found(expiring_within_days=30) == {"broker-one", "video-host"}
    for bad in ({"cursor": "?"}, {"cursor": "YQ=="}, {"limit": 0}, {"kind": "carrier-pigeon"}, {"colour": "blue"}):
        _problem(await analyst.get("/v1/channels", params=bad), 422, "invalid-request")


async def test_only_an_admin_changes_channels_and_everyone_with_a_key_reads_them(service: Service) -> None:
    for role in ("origination", "analyst", "reviewer", "policy-author", "policy-approver"):
        client = await service.client(role)
        assert (await client.get("/v1/channels/app-store")).status_code == 200
        for attempt in (
            await client.post("/v1/channels", json=NEW),
            await client.patch("/v1/channels/app-store", json={"owner": "me"}, headers={"If-Match": '"1"'}),
            await client.post("/v1/channels/app-store/state", json={"state": "suspended", "reason": "x"}),
            await client.put("/v1/channels/app-store/aliases/mine"),
            await client.delete("/v1/channels/app-store/aliases/ios"),
            await client.post("/v1/channels/app-store/tiers", json={"tier": "prime", "reason": "x"}),
        ):
            _problem(attempt, 403, "forbidden")
    nobody = await service.client(None)
    _problem(await nobody.get("/v1/channels"), 401, "unauthenticated")


async def test_the_audit_log_names_the_caller_and_the_request(service: Service, admin: httpx.AsyncClient) -> None:
    await admin.post("/v1/channels", json=NEW, headers={"X-Request-Id": "ticket-4711"})
    connection = await asyncpg.connect(service.database.governance)
    try:
        row = await connection.fetchrow("SELECT * FROM gate.audit_log ORDER BY sequence DESC LIMIT 1")
    finally:
        await connection.close()
    assert (row["action"], row["subject"], row["request_id"]) == ("channel.register", "new-broker", "ticket-4711")
    assert row["actor"] == f"key:{service.database.keys['admin'].split('_')[1]}"


async def test_the_named_list_comes_as_json_or_csv(analyst: httpx.AsyncClient) -> None:
    as_json = await analyst.get("/v1/named-list")
    rows = {row["code"]: row for row in as_json.json()["items"]}
    assert "campus-group" not in rows
    assert rows["app-store"]["aliases"] == ["android", "ios"]
    assert rows["app-store"]["tier"] == "prime"
    assert rows["search-ads"]["tier"] == "general"
    as_csv = await analyst.get("/v1/named-list", headers={"Accept": "text/csv"})
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert as_csv.headers["content-disposition"].startswith('attachment; filename="named-list-')
    assert {row["code"]: row["tier"] for row in csv.DictReader(io.StringIO(as_csv.text))} == {
        code: row["tier"] for code, row in rows.items()
    }
    mixed = await analyst.get("/v1/named-list", headers={"Accept": "text/html, text/*;q=0.5, application/json;q=0.4"})
    assert mixed.headers["content-type"] == "text/csv; charset=utf-8"
    _problem(await analyst.get("/v1/named-list", headers={"Accept": "image/png"}), 406, "not-acceptable")
    _problem(await analyst.get("/v1/named-list", headers={"Accept": "*/*;q=0"}), 406, "not-acceptable")
