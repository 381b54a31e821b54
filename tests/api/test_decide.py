"""POST /v1/decisions: who may call it, what it refuses, and what a repeated request gets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from app.identities.principal import Role
from app.observability.exposition import REGISTRY
from app.policies.defaults import default_policy
from tests.api.conftest import StartService
from tests.support.applications import application
from tests.support.cluster import Database, eventually
from tests.support.service import Service

PATH = "/v1/decisions"
pytestmark = pytest.mark.xdist_group("edge")


async def send(gate: Service, body: Any, who: str | None = "origination", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with gate.client(who) as client:
        return await client.post(PATH, content=content, headers={"content-type": "application/json"} | headers)


def slug(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return str(problem["type"]).removeprefix("urn:channel-gate:problem:")


def pointers(answer: httpx.Response) -> list[str]:
    return [error["pointer"] for error in answer.json()["errors"]]


async def stored_rows(database: Database, application_id: str) -> int:
    connection = await asyncpg.connect(database.owner)
    try:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM gate.decisions WHERE application_id = $1", application_id
        )
        return count
    finally:
        await connection.close()


async def tables_that_hold(database: Database, text: str) -> list[str]:
    """Every table of the database in which some row has the text in any column, bytes included."""
    connection = await asyncpg.connect(database.superuser)
    try:
        tables = await connection.fetch("SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'gate'")
        query = "SELECT count(*) FROM gate.{} t WHERE t::text LIKE '%' || $1 || '%' OR t::text LIKE '%' || $2 || '%'"
        return [
            name
            for (name,) in tables
            if await connection.fetchval(query.format(f'"{name}"'), text, text.encode().hex())
        ]
    finally:
        await connection.close()


# Who may call ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [role.value for role in Role if role not in {Role.ORIGINATION, Role.OUTCOMES}])
async def test_no_other_role_may_have_an_application_decided(gate: Service, who: str) -> None:
    answer = await send(gate, application(f"role-{who}"), who)
    assert (answer.status_code, slug(answer)) == (403, "forbidden")
    assert 'error="insufficient_scope", scope="origination"' in answer.headers["www-authenticate"]
    assert await stored_rows(gate.database, f"role-{who}") == 0


async def test_nobody_is_told_how_to_authenticate(gate: Service) -> None:
    answer = await send(gate, application("nobody"), None)
    assert (answer.status_code, slug(answer)) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == 'Bearer realm="channel-gate"'


async def test_a_caller_over_its_rate_gets_a_429_that_says_when_to_come_back(start_service: StartService) -> None:
    service = await start_service(rate_limit_per_second=2)
    client = await service.client("origination")
    answers = [await client.post(PATH, json=application(f"rate-{n}")) for n in range(30)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) > 5
    assert {slug(answer) for answer in refused} == {"rate-limited"}
    assert {answer.status_code for answer in refused} == {429}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    for n, answer in enumerate(answers):
        assert await stored_rows(service.database, f"rate-{n}") == (answer.status_code == 200)


# Channels -------------------------------------------------------------------------------------------------------------


async def test_a_code_that_is_on_no_list_is_refused_and_counted(gate: Service) -> None:
    before = REGISTRY.get_sample_value("gate_unknown_channel_total") or 0
    for code in ("nowhere", "campus-group", "APP-STORE"):  # unheard of, only proposed, not written so
        answer = await send(gate, application("unlisted", channel_code=code))
        assert (answer.status_code, slug(answer)) == (422, "unknown-channel")
    assert REGISTRY.get_sample_value("gate_unknown_channel_total") == before + 3
    assert await stored_rows(gate.database, "unlisted") == 0


async def test_an_alias_is_decided_as_its_channel(gate: Service) -> None:
    answer = await send(gate, application("alias", channel_code="ios"))
    assert answer.status_code == 200
    assert answer.json()["channel_code"] == "app-store"


async def test_a_suspended_channel_is_decided_and_never_accepted(gate: Service) -> None:
    answer = await send(gate, application("suspended", channel_code="lead-seller"))
    assert answer.status_code == 200
    assert answer.json()["outcome"] != "accept"
    assert answer.json()["reasons"]


async def test_an_exited_and_an_expired_channel_are_decided_and_never_accepted(gate: Service) -> None:
    now = datetime.now(UTC)
    async with gate.client("admin") as admin:
        for code, valid_to in (("gone", None), ("run-out", (now + timedelta(seconds=3)).isoformat())):
            registered = await admin.post(
                "/v1/channels",
                json={
                    "code": code,
                    "name": code,
                    "kind": "online",
                    "owner": "test",
                    "state": "active",
                    "valid_from": (now - timedelta(minutes=1)).isoformat(),
                    "valid_to": valid_to,
                },
            )
            assert registered.status_code == 201, registered.text

    async def outcome(code: str, application_id: str) -> str:
        answer = await send(gate, application(application_id, channel_code=code))
        return str(answer.json().get("outcome", slug(answer) if answer.status_code != 200 else None))

    numbers = iter(range(10_000))
    for code in ("gone", "run-out"):

        async def is_accepted(code: str = code) -> bool:
            return await outcome(code, f"{code}-{next(numbers)}") == "accept"

        assert await eventually(is_accepted)
    async with gate.client("admin") as admin:
        moved = await admin.post("/v1/channels/gone/state", json={"state": "exited", "reason": "test"})
        assert moved.status_code == 200
    # Promise 4: once the move is answered, nothing is accepted any more; an expiry needs no move at all.
    assert await outcome("gone", "after-exit") in {"reject", "escalate"}

    async def is_refused() -> bool:
        return await outcome("run-out", f"late-{next(numbers)}") in {"reject", "escalate"}

    assert await eventually(is_refused)


async def test_a_channel_on_probation_has_the_ceiling_of_the_risk_tier(gate: Service) -> None:
    policy = default_policy()
    cap = policy["ceiling"]["tier_cap"]["risk"]  # type: ignore[index, call-overload]
    probation = (await send(gate, application("probation", channel_code="shop-partner"))).json()
    active = (await send(gate, application("no-probation", channel_code="search-ads"))).json()
    assert (probation["tier"], active["tier"]) == ("general", "general")
    assert probation["ceiling"]["amount"] <= cap < active["ceiling"]["amount"]
    assert probation["outcome"] != "accept"
    assert active["outcome"] == "accept"


# What is refused ------------------------------------------------------------------------------------------------------


async def test_without_consent_nothing_of_the_person_is_kept(gate: Service) -> None:
    reference = "p-7c1f0e5b9d2a4486"
    in_six_minutes = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
    for consent in ({"consent_at": None}, {"consent_at": in_six_minutes}, {}):
        body = application("no-consent", applicant={"applicant_ref": reference}) | consent
        if not consent:
            del body["consent_at"]
        answer = await send(gate, body)
        assert (answer.status_code, slug(answer)) == (422, "consent-missing")
    assert await tables_that_hold(gate.database, reference) == []
    assert await tables_that_hold(gate.database, "no-consent") == []
    given = await send(gate, application("consent", applicant={"applicant_ref": reference}))
    assert given.status_code == 200
    assert any(name.startswith("decisions_") for name in await tables_that_hold(gate.database, reference))


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"currency": "USD"}, "/currency"),
        ({"currency": "cny"}, "/currency"),
        ({"product": "mortgage"}, "/product"),
        ({"amount": 99_999}, "/amount"),
        ({"amount": 0}, "/amount"),
        ({"amount": -1}, "/amount"),
        ({"amount": 10**15 + 1}, "/amount"),
        ({"amount": 5e6}, "/amount"),
        ({"amount": "5000000"}, "/amount"),
        ({"amount": True}, "/amount"),
        ({"amount": None}, "/amount"),
        ({"term_months": 0}, "/term_months"),
        ({"term_months": 61}, "/term_months"),
        ({"term_months": 481}, "/term_months"),
        ({"revision": 0}, "/revision"),
        ({"revision": 11}, "/revision"),
        ({"revision": None}, "/revision"),
        ({"all_in_apr_pct": 18.125}, "/all_in_apr_pct"),
        ({"all_in_apr_pct": 1000.01}, "/all_in_apr_pct"),
        ({"attributes": {"mood": 1}}, "/attributes/mood"),
        ({"unknown": {"bureau.score": "not_found"}}, "/unknown/bureau.score"),
        ({"unknown": {"nothing.like.it": "not_found"}}, "/unknown/nothing.like.it"),
        ({"colour": "blue"}, "/colour"),
        ({"applicant": {"name": "x"}}, "/applicant/name"),
        ({"consent_at": "2026-11-24T10:00:00"}, "/consent_at"),
        ({"consent_at": "0001-01-01T00:00:00Z"}, "/consent_at"),
        ({"consent_at": "1700000000"}, "/consent_at"),
        ({"consent_at": 1700000000}, "/consent_at"),
        ({"consent_at": "2026-11-24"}, "/consent_at"),
        ({"consent_at": "2026-02-30T00:00:00Z"}, "/consent_at"),
        ({"applicant": {"birth_date": "642902400"}}, "/applicant/birth_date"),
        ({"applicant": {"birth_date": "1990-05-17T00:00:00Z"}}, "/applicant/birth_date"),
        ({"all_in_apr_pct": "1_8"}, "/all_in_apr_pct"),
        ({"all_in_apr_pct": "\uff11\uff18"}, "/all_in_apr_pct"),
        ({"all_in_apr_pct": "1e1"}, "/all_in_apr_pct"),
        ({"all_in_apr_pct": 1e-300}, "/all_in_apr_pct"),
        ({"application_id": "a b"}, "/application_id"),
        ({"application_id": "a" * 65}, "/application_id"),
        ({"sub_id": ""}, "/sub_id"),
    ],
)
async def test_what_contradicts_schema_or_policy_is_pointed_at(
    gate: Service, changes: dict[str, Any], pointer: str
) -> None:
    body = application("contradiction")
    for name, value in changes.items():
        body[name] = body[name] | value if isinstance(value, dict) and name in body else value
    answer = await send(gate, body)
    assert (answer.status_code, slug(answer)) == (422, "invalid-request")
    assert set(pointers(answer)) == {pointer}
    assert await stored_rows(gate.database, "contradiction") == 0


async def test_a_number_that_a_float_would_round_is_refused_and_no_retry_of_the_rounded_one(gate: Service) -> None:
    body = application("long-number", all_in_apr_pct=24.0)
    assert (await send(gate, body)).status_code == 200
    text = json.dumps(body).replace("24.0", "24.0000000000000001")
    answer = await send(gate, text.encode())
    assert (answer.status_code, slug(answer), pointers(answer)) == (422, "invalid-request", ["/all_in_apr_pct"])
    assert answer.json()["errors"][0]["detail"].startswith("has more digits than a JSON number keeps")


@pytest.mark.parametrize("amount", [100_000, 20_000_000])
async def test_the_bounds_themselves_are_decided(gate: Service, amount: int) -> None:
    for term_months in (1, 60):
        answer = await send(gate, application(f"bound-{amount}-{term_months}", amount=amount, term_months=term_months))
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/jsonp"},
        {"content-encoding": "gzip"},
        {"content-encoding": "br"},
    ],
)
async def test_a_body_that_is_said_to_be_something_else_is_a_415(gate: Service, headers: dict[str, str]) -> None:
    answer = await send(gate, application("media"), **headers)
    assert (answer.status_code, slug(answer)) == (415, "unsupported-media-type")
    assert await stored_rows(gate.database, "media") == 0


async def test_json_needs_no_label_and_may_have_parameters(gate: Service) -> None:
    body = json.dumps(application("label")).encode()
    async with gate.client("origination") as client:
        unlabelled = await client.post(PATH, content=body)
    labelled = await send(
        gate, body, **{"content-type": "Application/JSON; charset=utf-8", "content-encoding": "identity"}
    )
    assert (unlabelled.status_code, labelled.status_code) == (200, 200)
    assert unlabelled.content == labelled.content


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "QUERY"])
async def test_another_method_is_a_405_that_names_the_right_ones(gate: Service, method: str) -> None:
    async with gate.client("origination") as client:
        answer = await client.request(method, PATH)
    assert answer.status_code == 405
    assert {name.strip() for name in answer.headers["allow"].split(",")} == {"GET", "POST"}
    if method != "HEAD":
        assert slug(answer) == "method-not-allowed"


@pytest.mark.parametrize("path", ["/v1/decisions/", "/v1//decisions", "/V1/decisions", "/v1/decisions/batch/"])
async def test_another_spelling_of_the_path_is_not_found_and_redirects_nowhere(gate: Service, path: str) -> None:
    async with gate.client("origination") as client:
        answer = await client.post(path, json=application("path"))
    assert answer.status_code in {404, 405}
    assert "location" not in answer.headers
    assert await stored_rows(gate.database, "path") == 0


# Again ----------------------------------------------------------------------------------------------------------------


async def test_only_a_repeated_request_is_said_to_be_replayed(gate: Service) -> None:
    body = application("again")
    first, second = await send(gate, body), await send(gate, body)
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.content == first.content
    assert await stored_rows(gate.database, "again") == 1


async def test_a_retry_that_todays_policy_cannot_decide_gets_the_stored_bytes(start_service: StartService) -> None:
    service = await start_service()
    client, admin = await service.client("origination"), await service.client("admin")
    body = application("withdrawn")
    first = await client.post(PATH, json=body)
    assert first.status_code == 200, first.text

    policy: dict[str, Any] = default_policy()
    del policy["products"]["unsecured_consumer"]
    policy["cases"] = []
    published = await admin.post("/v1/policies", params={"wait": 10}, json=policy)
    assert published.status_code == 200, published.text

    again = await client.post(PATH, json=body)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    changed = await client.post(PATH, json=body | {"amount": 4_000_000})
    assert (changed.status_code, pointers(changed)) == (422, ["/product"])
    fresh = await client.post(PATH, json=body | {"application_id": "fresh"})
    assert (fresh.status_code, slug(fresh), pointers(fresh)) == (422, "invalid-request", ["/product"])


async def test_a_retry_outlives_the_channels_leaving_the_list(gate: Service) -> None:
    async with gate.client("admin") as admin:
        assert (await admin.put("/v1/channels/app-store/aliases/short-lived")).status_code == 200
        body = application("short-lived", channel_code="short-lived")

        async def decided() -> httpx.Response | None:
            answer = await send(gate, body)
            return answer if answer.status_code == 200 else None

        first = await eventually(decided)
        assert (await admin.delete("/v1/channels/app-store/aliases/short-lived")).status_code == 204

    async def unlisted() -> bool:
        return (await send(gate, body | {"application_id": "too-late"})).status_code == 422

    await eventually(unlisted)
    assert (await send(gate, body)).content == first.content
