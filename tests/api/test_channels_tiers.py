"""Which tier had channel X for product P in jurisdiction J at time T."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

PATH = "/v1/channels/search-ads/tiers"
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


def _text(at: datetime) -> str:
    return at.isoformat()


async def _effective(client: httpx.AsyncClient, **question: Any) -> dict[str, Any]:
    response = await client.get(PATH, params=question)
    assert response.status_code == 200, response.text
    effective: dict[str, Any] = response.json()["effective"]
    return effective


async def test_without_an_assignment_the_default_of_the_policy_of_that_time_holds(admin: httpx.AsyncClient) -> None:
    now = await _effective(admin)
    assert (now["tier"], now["source"], now["policy_version"]) == ("general", "policy_default", 1)
    before = await _effective(admin, at="2020-01-01T00:00:00Z")
    assert (before["tier"], before["source"]) == (None, "none")


async def test_an_assignment_holds_from_its_begin_until_its_end(admin: httpx.AsyncClient) -> None:
    end = SOON + timedelta(days=30)
    body = {
        "tier": "prime",
        "product": "unsecured_consumer",
        "valid_from": _text(SOON),
        "valid_to": _text(end),
        "reason": "good quarter",
    }
    made = await admin.post(PATH, json=body)
    assert made.status_code == 201, made.text
    assert made.json()["assigned_by"].startswith("key:")

    moment = timedelta(microseconds=1)
    for at, tier in ((SOON - moment, "general"), (SOON, "prime"), (end - moment, "prime"), (end, "general")):
        found = await _effective(admin, product="unsecured_consumer", at=_text(at))
        assert found["tier"] == tier
    assert (await _effective(admin, product="small_business", at=_text(SOON)))["tier"] == "general"
    found = await _effective(admin, product="unsecured_consumer", jurisdiction="CN", at=_text(SOON))
    assert found["assignment"]["reason"] == "good quarter"
    assert found["source"] == "assignment"


async def test_an_overlap_is_a_conflict(admin: httpx.AsyncClient) -> None:
    body = {"tier": "prime", "valid_from": _text(SOON), "reason": "x"}
    assert (await admin.post(PATH, json=body)).status_code == 201
    again = await admin.post(PATH, json=body | {"tier": "risk"})
    assert again.status_code == 409
    assert again.json()["type"] == "urn:channel-gate:problem:conflict"
    earlier = body | {"valid_from": _text(SOON - timedelta(hours=1)), "valid_to": _text(SOON)}
    assert (await admin.post(PATH, json=earlier)).status_code == 201


SENSELESS: list[tuple[dict[str, Any], str | None]] = [
    ({"tier": "gold"}, "/tier"),
    ({"product": "car_loan"}, "/product"),
    ({"tier": "GOLD"}, "/tier"),
    ({"cause": "mood"}, "/cause"),
    ({"reason": ""}, "/reason"),
    ({"until": "x"}, "/until"),
    ({"valid_from": "2020-01-01T00:00:00Z"}, None),
    ({"valid_to": "2020-01-01T00:00:00Z"}, None),
]


async def test_an_assignment_that_no_decision_could_meet_is_refused(admin: httpx.AsyncClient) -> None:
    for change, pointer in SENSELESS:
        refused = await admin.post(PATH, json={"tier": "prime", "reason": "x"} | change)
        assert refused.status_code == 422, refused.text
        if pointer is not None:
            assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]


async def test_the_history_is_paged_latest_first(admin: httpx.AsyncClient) -> None:
    for day in range(5):
        body = {"tier": "risk" if day % 2 else "prime", "valid_from": _text(SOON + timedelta(days=day)), "reason": "x"}
        assert (await admin.post(PATH, json=body)).status_code == 201
    first = (await admin.get(PATH, params={"limit": 3})).json()
    second = (await admin.get(PATH, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    begun = [each["valid_from"] for each in first["items"] + second["items"]]
    assert begun == sorted(begun, reverse=True)
    assert len(begun) == 5
    assert second["next_cursor"] is None
    open_ended = [each for each in first["items"] + second["items"] if each["valid_to"] is None]
    assert len(open_ended) == 1
